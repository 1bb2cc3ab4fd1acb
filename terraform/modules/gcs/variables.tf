variable "project_id" {
  description = "Google Cloud project that owns the buckets (GOOGLE_CLOUD_PROJECT)."
  type        = string

  validation {
    condition     = can(regex("^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower case letters, digits and hyphens, and starts with a letter."
  }
}

variable "region" {
  description = "Where the buckets are made: a region (europe-west3) or a multi-region (EU). Keep it beside the readers."
  type        = string
}

variable "name_prefix" {
  description = "Bucket names are <name_prefix>-data, -archive, -backup and -temp; they are global, so start with your organisation."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,53}[a-z0-9]$", var.name_prefix)) && !can(regex("^goog|g[o0]{2}gle", var.name_prefix))
    error_message = "The prefix has 3 to 55 lower case letters, digits and hyphens, and may not contain 'google'."
  }
}

variable "service_account_id" {
  description = "Name of the service account that the application runs as; <id>@<project>.iam.gserviceaccount.com."
  type        = string
  default     = "buffetstore"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.service_account_id))
    error_message = "A service account id has 6 to 30 lower case letters, digits and hyphens."
  }
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

  validation {
    condition     = var.noncurrent_days >= 7
    error_message = "At least 7 days: vacuum keeps unreferenced files that long too."
  }
}

variable "archive_tier_days" {
  description = "Age in days at which objects of the archive bucket move to the colder classes."
  type = object({
    coldline = optional(number, 90)
    archive  = optional(number, 365)
  })
  default = {}

  validation {
    condition     = var.archive_tier_days.coldline < var.archive_tier_days.archive
    error_message = "Objects become coldline before they become archive."
  }
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
