output "project_id" {
  description = "Project of the buckets."
  value       = var.project_id
}

output "data_bucket" {
  description = "Bucket of the tables."
  value       = google_storage_bucket.this["data"].name
}

output "archive_bucket" {
  description = "Bucket of the data moved to colder classes."
  value       = google_storage_bucket.this["archive"].name
}

output "backup_bucket" {
  description = "Bucket of the backups."
  value       = google_storage_bucket.this["backup"].name
}

output "temp_bucket" {
  description = "Bucket of staging, emptied after a day."
  value       = google_storage_bucket.this["temp"].name
}

output "service_account_email" {
  description = "Whom the application runs as or impersonates."
  value       = google_service_account.this.email
}

output "region" {
  description = "Location of the buckets."
  value       = var.region
}

output "kms_key_id" {
  description = "Key that encrypts new objects; absent where Google's own keys do."
  value       = var.kms_key_id
}
