locals {
  # Delta's own history is time travel; object versions are the net below it, against a wrong delete or overwrite.
  buckets = {
    data    = { storage_class = "STANDARD", versioning = true, soft_delete_days = 7 }
    archive = { storage_class = "NEARLINE", versioning = false, soft_delete_days = 7 }
    backup  = { storage_class = "NEARLINE", versioning = true, soft_delete_days = 7 }
    temp    = { storage_class = "STANDARD", versioning = false, soft_delete_days = 0 }
  }

  delete_rules = {
    data    = [{ age = null, days_noncurrent = var.noncurrent_days }]
    archive = []
    backup = concat(
      [{ age = null, days_noncurrent = var.noncurrent_days }],
      var.backup_days == null ? [] : [{ age = var.backup_days, days_noncurrent = null }],
    )
    temp = [{ age = 1, days_noncurrent = null }]
  }

  tier_rules = {
    data = []
    archive = [
      { age = var.archive_tier_days.coldline, storage_class = "COLDLINE" },
      { age = var.archive_tier_days.archive, storage_class = "ARCHIVE" },
    ]
    backup = []
    temp   = []
  }
}

data "google_storage_project_service_account" "gcs" {
  count   = var.kms_key_id == null ? 0 : 1
  project = var.project_id
}

# Cloud Storage itself encrypts with the key, so its own agent needs it, not the application.
resource "google_kms_crypto_key_iam_member" "gcs" {
  count         = var.kms_key_id == null ? 0 : 1
  crypto_key_id = var.kms_key_id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${data.google_storage_project_service_account.gcs[0].email_address}"
}

resource "google_storage_bucket" "this" {
  for_each = local.buckets

  project                     = var.project_id
  name                        = "${var.name_prefix}-${each.key}"
  location                    = var.region
  storage_class               = each.value.storage_class
  labels                      = merge(var.labels, { purpose = each.key })
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy

  versioning {
    enabled = each.value.versioning
  }

  soft_delete_policy {
    retention_duration_seconds = each.value.soft_delete_days * 86400
  }

  dynamic "lifecycle_rule" {
    for_each = local.delete_rules[each.key]
    content {
      action {
        type = "Delete"
      }
      condition {
        age                        = lifecycle_rule.value.age
        days_since_noncurrent_time = lifecycle_rule.value.days_noncurrent
        with_state                 = lifecycle_rule.value.days_noncurrent == null ? "ANY" : "ARCHIVED"
      }
    }
  }

  dynamic "lifecycle_rule" {
    for_each = local.tier_rules[each.key]
    content {
      action {
        type          = "SetStorageClass"
        storage_class = lifecycle_rule.value.storage_class
      }
      condition {
        age = lifecycle_rule.value.age
      }
    }
  }

  # Parts of uploads that a crash left behind are billed but never seen.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key_id == null ? [] : [var.kms_key_id]
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.gcs]
}
