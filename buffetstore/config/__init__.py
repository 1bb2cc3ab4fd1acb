"""Settings of a deployment: frozen, checked when made, read from arguments, the environment, `.env` or Terraform."""

from buffetstore.config.azure import AzureConfig
from buffetstore.config.caches import CacheConfig
from buffetstore.config.gcs import GCSConfig
from buffetstore.config.identity import process_identity
from buffetstore.config.layers import LayerConfig
from buffetstore.config.options import Config, layers_from_environment, store_options_from_environment
from buffetstore.config.s3 import S3Config

__all__ = [
    "AzureConfig",
    "CacheConfig",
    "Config",
    "GCSConfig",
    "LayerConfig",
    "S3Config",
    "layers_from_environment",
    "process_identity",
    "store_options_from_environment",
]
