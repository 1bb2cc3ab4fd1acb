"""How an S3 store is reached, and what its service is like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from buffetstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach the service, and which of its conditions hold.

    Proved settings: AWS, MinIO and R2 need none but their `endpoint_url` (R2: ``region="auto"``); Ceph before Squid
    needs ``conditional="puts"``; a service that ignores conditions (rclone, s3rver) ``conditional="none"``.

    Parameters
    ----------
    region:
        Without it botocore's configuration is asked, then the bucket tells it in its first answer.
    endpoint_url:
        Of another service than AWS; without it botocore's configuration is asked.
    access_key, secret_key, session_token:
        Without them botocore's own chain is asked (environment, profile, web identity, instance role).
    path_style:
        Put the bucket in the path, not in the host name; by default so with an `endpoint_url`, and for a bucket with
        dots, whose host name no certificate covers.
    max_connections:
        Connections open at once; further requests wait for one.
    timeout_seconds:
        How long an open connection may be silent, in either direction.
    connect_timeout_seconds:
        How long a connection may take to open.
    conditional:
        Which conditions the service keeps: on `all` writes (AWS), on `puts` but not at the completion of a multipart
        upload (Ceph before Squid), or `none`. What is not kept is refused.
    kms_key:
        The KMS key that new objects are encrypted with, as its id or ARN; without it the bucket's own default holds.
    page_size:
        Objects asked for in one page of a listing, at most 1000; without it the service decides.
    """

    region: str | None = None
    endpoint_url: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    path_style: bool | None = None
    max_connections: int = 50
    timeout_seconds: float = 60.0
    connect_timeout_seconds: float = 5.0
    conditional: Literal["all", "puts", "none"] = "all"
    kms_key: str | None = None
    page_size: int | None = None

    def __post_init__(self) -> None:
        if self.conditional not in {"all", "puts", "none"}:
            raise ConfigurationError(f"conditional is {self.conditional!r}: it is 'all', 'puts' or 'none'")
        for name in ("max_connections", "timeout_seconds", "connect_timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be positive")
        if self.page_size is not None and not 1 <= self.page_size <= 1000:
            raise ConfigurationError(f"page_size is {self.page_size}: it must be between 1 and 1000")
        if (self.access_key is None) != (self.secret_key is None):
            raise ConfigurationError("access_key and secret_key come together: give both, or neither")
        if self.endpoint_url is not None:
            check_endpoint(self.endpoint_url)


def check_endpoint(url: str) -> None:
    """Raise `ConfigurationError` unless `url` can be an endpoint; a password in it is not shown."""
    parts = urlsplit(url)
    try:
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or "@" in parts.netloc:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise ConfigurationError(f"the endpoint {shown!r} is malformed: write https://host, or http://host:port")
