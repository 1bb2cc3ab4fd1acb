resource "google_service_account" "this" {
  project      = var.project_id
  account_id   = var.service_account_id
  display_name = "buffetstore"
  description  = "Reads and writes the objects of the ${var.name_prefix} buckets, and nothing else."
}

# objectUser reads, writes and deletes objects; it cannot change buckets, their policies or their lifecycle.
resource "google_storage_bucket_iam_member" "objects" {
  for_each = google_storage_bucket.this

  bucket = each.value.name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_service_account.this.email}"
}

resource "google_service_account_iam_member" "impersonators" {
  for_each = var.impersonators

  service_account_id = google_service_account.this.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

# Signing a URL without a key file is a call to the account itself.
resource "google_service_account_iam_member" "signs_as_itself" {
  service_account_id = google_service_account.this.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:${google_service_account.this.email}"
}
