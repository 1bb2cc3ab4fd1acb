"""Settings of a deployment: frozen, checked when made, read from arguments, the environment, `.env` or Terraform."""

from buffetstore.config.gcs import GCSConfig
from buffetstore.config.options import store_options_from_environment
from buffetstore.config.s3 import S3Config

__all__ = ["GCSConfig", "S3Config", "store_options_from_environment"]
