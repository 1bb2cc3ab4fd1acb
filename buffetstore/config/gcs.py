"""Settings of Google Cloud Storage."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic evaluates the annotation
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from buffetstore.config.settings import IP_ADDRESS, Compression, Endpoint, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _gcs_bucket(name: str) -> str:
    """Check `name` by https://cloud.google.com/storage/docs/buckets#naming."""
    longest = 222 if "." in name else 63
    if not 3 <= len(name) <= longest or any(not 0 < len(part) <= 63 for part in name.split(".")):
        raise ValueError("a bucket name has 3 to 63 characters (222 with dots, 63 between dots)")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", name):
        raise ValueError(
            "a bucket name has lower case letters, digits, '-', '_' and '.', a letter or digit at each end"
        )
    if re.search(r"\.-|-\.", name) or IP_ADDRESS.fullmatch(name):
        raise ValueError("a bucket name has no '-' beside a '.', and is not an IP address")
    if name.startswith("goog") or re.search(r"g[o0]{2}gle", name):
        raise ValueError("a bucket name does not start with 'goog' or contain 'google'")
    return name


def _email(address: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", address):
        raise ValueError("is not an e-mail address such as writer@my-project.iam.gserviceaccount.com")
    return address


GCSBucket = Annotated[str, AfterValidator(_gcs_bucket)]


class GCSConfig(Settings):
    """Google Cloud Storage: whose project, which buckets, how to connect.

    Parameters
    ----------
    project_id, data_bucket:
        All that is needed (GOOGLE_CLOUD_PROJECT, GCS_DATA_BUCKET).
    archive_bucket, backup_bucket, temp_bucket:
        Needed by tiering, backups and resumable work (GCS_ARCHIVE_BUCKET, GCS_BACKUP_BUCKET, GCS_TEMP_BUCKET).
    service_account_email:
        Whom to impersonate, and who signs URLs (GCS_SERVICE_ACCOUNT_EMAIL).
    region, kms_key_id:
        Where the buckets are, and the key that new objects are encrypted with (GCS_REGION, GCS_KMS_KEY_ID).
    max_connections:
        Connections in the pool (GCS_MAX_CONNECTIONS).
    retry_attempts:
        How often a call is tried, the first time included (GCS_RETRY_ATTEMPTS).
    timeout_seconds:
        How long a connection may be silent (GCS_TIMEOUT_SECONDS).
    compression:
        Of the Parquet files (GCS_COMPRESSION).
    credentials_file:
        A service account's key (GOOGLE_APPLICATION_CREDENTIALS); else gcloud's login, the metadata server or
        workload identity.
    emulator_host:
        ``host:port`` or URL of an emulator (STORAGE_EMULATOR_HOST); it is sent no credentials.
    """

    VARIABLES: ClassVar[Mapping[str, Sequence[str]]] = {
        "project_id": ("GOOGLE_CLOUD_PROJECT",),
        "data_bucket": ("GCS_DATA_BUCKET",),
        "archive_bucket": ("GCS_ARCHIVE_BUCKET",),
        "backup_bucket": ("GCS_BACKUP_BUCKET",),
        "temp_bucket": ("GCS_TEMP_BUCKET",),
        "service_account_email": ("GCS_SERVICE_ACCOUNT_EMAIL",),
        "region": ("GCS_REGION",),
        "kms_key_id": ("GCS_KMS_KEY_ID",),
        "max_connections": ("GCS_MAX_CONNECTIONS",),
        "retry_attempts": ("GCS_RETRY_ATTEMPTS",),
        "timeout_seconds": ("GCS_TIMEOUT_SECONDS",),
        "compression": ("GCS_COMPRESSION",),
        "credentials_file": ("GOOGLE_APPLICATION_CREDENTIALS",),
        "emulator_host": ("STORAGE_EMULATOR_HOST",),
    }
    ON_DEMAND: ClassVar[Sequence[str]] = ("archive_bucket", "backup_bucket", "temp_bucket", "service_account_email")

    project_id: str = Field(min_length=1, pattern=r"^\S+$")
    data_bucket: GCSBucket
    archive_bucket: GCSBucket | None = None
    backup_bucket: GCSBucket | None = None
    temp_bucket: GCSBucket | None = None
    service_account_email: Annotated[str, AfterValidator(_email)] | None = None
    region: str | None = None
    kms_key_id: str | None = None
    max_connections: int = Field(default=50, ge=1, le=10_000)
    retry_attempts: int = Field(default=3, ge=1, le=100)
    timeout_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    compression: Compression = "snappy"
    credentials_file: Path | None = None
    emulator_host: Endpoint | None = None

    @property
    def url(self) -> str:
        """Where the data is: ``gs://data_bucket``."""
        return f"gs://{self.data_bucket}"

    def store_options(self) -> dict[str, Any]:
        """Return the keyword options for ``open_store(url, **options)``."""
        return gcs_options(self.model_dump())

    def retry_options(self) -> dict[str, Any]:
        """Return the keyword options of the retry policy."""
        return {"attempts": self.retry_attempts}


def gcs_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `GCSStore.from_url` takes of `settings`, without what is not set."""
    account = settings.get("credentials_file")
    named = {
        "api_root": settings.get("emulator_host"),
        "service_file": None if account is None else str(account),
        "service_account_email": settings.get("service_account_email"),
        "kms_key": settings.get("kms_key_id"),
        "max_connections": settings.get("max_connections"),
        "timeout_seconds": settings.get("timeout_seconds"),
    }
    if named["api_root"] is not None:  # credentials are not for emulators
        named |= {"service_file": None, "service_account_email": None, "kms_key": None}
    return {name: value for name, value in named.items() if value is not None}
