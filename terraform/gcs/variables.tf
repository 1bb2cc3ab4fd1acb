variable "project_id" {
  description = "Google Cloud project that owns the buckets (GOOGLE_CLOUD_PROJECT), e.g. in terraform.tfvars or with -var project_id=my-project."
  type        = string
}

variable "region" {
  description = "Where the buckets are made: a region (europe-west3) or a multi-region (EU). Keep it beside the readers."
  type        = string
}

variable "name_prefix" {
  description = "Bucket names are <name_prefix>-data, -archive, -backup and -temp; they are global, so start with your organisation."
  type        = string
}

variable "service_account_id" {
  description = "Name of the service account that the application runs as; <id>@<project>.iam.gserviceaccount.com."
  type        = string
  default     = "buffetstore"
}

variable "impersonators" {
  description = "Who may act as the service account and sign URLs as it, e.g. [\"user:ana@example.com\"]. Needs no key file."
  type        = set(string)
  default     = []
}

variable "kms_key_id" {
  description = "Cloud KMS key (projects/.../cryptoKeys/...) in the same location that encrypts new objects; null for Google's own keys."
  type        = string
  default     = null
}

variable "labels" {
  description = "Labels of every bucket, for the bill."
  type        = map(string)
  default     = {}
}

variable "noncurrent_days" {
  description = "How long overwritten and deleted objects of the data and backup buckets can be brought back."
  type        = number
  default     = 30
}

variable "archive_tier_days" {
  description = "Age in days at which objects of the archive bucket move to the colder classes."
  type = object({
    coldline = optional(number, 90)
    archive  = optional(number, 365)
  })
  default = {}
}

variable "backup_days" {
  description = "How long backups are kept; null keeps them for ever."
  type        = number
  default     = null
}

variable "force_destroy" {
  description = "Let `terraform destroy` delete buckets that hold objects. Only for trials."
  type        = bool
  default     = false
}
