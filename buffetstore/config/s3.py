"""Settings of S3 and of the stores that speak its protocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from buffetstore.config.settings import IP_ADDRESS, Compression, Endpoint, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _s3_bucket(name: str) -> str:
    """Check `name` by https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise ValueError(
            "a bucket name has 3 to 63 lower case letters, digits, '-' and '.', a letter or digit at each end"
        )
    if ".." in name or IP_ADDRESS.fullmatch(name):
        raise ValueError("a bucket name has no adjacent dots, and is not an IP address")
    if name.startswith(("xn--", "sthree-", "amzn-s3-demo-")) or name.endswith(
        ("-s3alias", "--ol-s3", ".mrap", "--x-s3")
    ):
        raise ValueError("this prefix or suffix of bucket names is reserved by S3")
    return name


S3Bucket = Annotated[str, AfterValidator(_s3_bucket)]


class S3Config(Settings):
    """S3, or a store that speaks its protocol.

    Without keys, botocore's own chain finds them (environment, profile, web identity, instance role).

    Parameters
    ----------
    bucket, prefix:
        Where the data is (S3_BUCKET, S3_PREFIX).
    region, endpoint_url:
        AWS_REGION or AWS_DEFAULT_REGION; AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
    access_key, secret_key, session_token:
        AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN.
    path_style:
        Put the bucket in the path, not in the host name (S3_PATH_STYLE); by default so with an `endpoint_url`.
    conditional:
        Which conditional writes the service keeps, see `S3Options` (S3_CONDITIONAL).
    kms_key:
        The key that the service encrypts new objects with (S3_KMS_KEY_ID).
    max_connections, retry_attempts, timeout_seconds, compression:
        As in `GCSConfig` (S3_MAX_CONNECTIONS, S3_RETRY_ATTEMPTS, S3_TIMEOUT_SECONDS, S3_COMPRESSION).
    """

    VARIABLES: ClassVar[Mapping[str, Sequence[str]]] = {
        "bucket": ("S3_BUCKET",),
        "prefix": ("S3_PREFIX",),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "access_key": ("AWS_ACCESS_KEY_ID",),
        "secret_key": ("AWS_SECRET_ACCESS_KEY",),
        "session_token": ("AWS_SESSION_TOKEN",),
        "path_style": ("S3_PATH_STYLE",),
        "conditional": ("S3_CONDITIONAL",),
        "kms_key": ("S3_KMS_KEY_ID",),
        "max_connections": ("S3_MAX_CONNECTIONS",),
        "retry_attempts": ("S3_RETRY_ATTEMPTS",),
        "timeout_seconds": ("S3_TIMEOUT_SECONDS",),
        "compression": ("S3_COMPRESSION",),
    }

    bucket: S3Bucket
    prefix: str = ""
    region: str | None = None
    endpoint_url: Endpoint | None = None
    access_key: str | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    path_style: bool | None = None
    conditional: Literal["all", "puts", "none"] = "all"
    kms_key: str | None = None
    max_connections: int = Field(default=50, ge=1, le=10_000)
    retry_attempts: int = Field(default=3, ge=1, le=100)
    timeout_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    compression: Compression = "snappy"

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) come together")
        return self

    @property
    def url(self) -> str:
        """Where the data is: ``s3://bucket/prefix``."""
        prefix = self.prefix.strip("/")
        return f"s3://{self.bucket}/{prefix}" if prefix else f"s3://{self.bucket}"

    def store_options(self) -> dict[str, Any]:
        """Return the keyword options for ``open_store(url, **options)``; secrets stay `SecretStr`."""
        return s3_options(self.model_dump())

    def retry_options(self) -> dict[str, Any]:
        """Return the keyword options of the retry policy."""
        return {"attempts": self.retry_attempts}


def s3_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `S3Store.from_url` takes of `settings`, without what is not set."""
    apart = {"bucket", "prefix", "retry_attempts", "compression"}
    return {name: value for name, value in settings.items() if name not in apart and value is not None}
