output "project_id" {
  description = "Project of the buckets."
  value       = module.storage.project_id
}

output "data_bucket" {
  description = "Bucket of the tables."
  value       = module.storage.data_bucket
}

output "archive_bucket" {
  description = "Bucket of the data moved to colder classes."
  value       = module.storage.archive_bucket
}

output "backup_bucket" {
  description = "Bucket of the backups."
  value       = module.storage.backup_bucket
}

output "temp_bucket" {
  description = "Bucket of staging, emptied after a day."
  value       = module.storage.temp_bucket
}

output "service_account_email" {
  description = "Whom the application runs as or impersonates."
  value       = module.storage.service_account_email
}

output "region" {
  description = "Location of the buckets."
  value       = module.storage.region
}

output "kms_key_id" {
  description = "Key that encrypts new objects; absent where Google's own keys do."
  value       = module.storage.kms_key_id
}
