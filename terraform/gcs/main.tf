# terraform init && terraform apply
# terraform output -json > terraform_output.json     # GCSConfig.from_terraform_output("terraform_output.json")

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0, < 8.0"
    }
  }
}

provider "google" {
  project = var.project_id
}

module "storage" {
  source = "../modules/gcs"

  project_id         = var.project_id
  region             = var.region
  name_prefix        = var.name_prefix
  service_account_id = var.service_account_id
  impersonators      = var.impersonators
  kms_key_id         = var.kms_key_id
  labels             = var.labels
  noncurrent_days    = var.noncurrent_days
  archive_tier_days  = var.archive_tier_days
  backup_days        = var.backup_days
  force_destroy      = var.force_destroy
}
