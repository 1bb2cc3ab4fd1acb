"""Settings of Azure Blob Storage and Data Lake Storage Gen2."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, SecretStr

from buffetstore.config.settings import Compression, Endpoint, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _container(name: str) -> str:
    """Check `name` by https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers."""
    if not re.fullmatch(r"\$(root|web|logs)|[a-z0-9](-?[a-z0-9]){2,62}", name) or len(name) > 63:
        raise ValueError("a container's name has 3 to 63 lower case letters, digits and single hyphens between them")
    return name


Container = Annotated[str, AfterValidator(_container)]


class AzureConfig(Settings):
    """A container of Azure Blob Storage, or of Data Lake Storage Gen2.

    Without a key, a signature or a connection string requests are anonymous; a token credential (`azure-identity`) is
    passed to the manager as `credential`.

    Parameters
    ----------
    container, prefix:
        Where the data is (AZURE_CONTAINER, AZURE_PREFIX).
    account, account_key, sas_token, connection_string:
        AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_CONNECTION_STRING.
    endpoint_url:
        Of another cloud or an emulator (AZURE_STORAGE_ENDPOINT).
    encryption_scope:
        That new objects are encrypted with (AZURE_ENCRYPTION_SCOPE).
    max_connections, retry_attempts, timeout_seconds, compression:
        As in `GCSConfig` (AZURE_MAX_CONNECTIONS, AZURE_RETRY_ATTEMPTS, AZURE_TIMEOUT_SECONDS, AZURE_COMPRESSION).
    """

    VARIABLES: ClassVar[Mapping[str, Sequence[str]]] = {
        "container": ("AZURE_CONTAINER",),
        "prefix": ("AZURE_PREFIX",),
        "account": ("AZURE_STORAGE_ACCOUNT",),
        "account_key": ("AZURE_STORAGE_KEY",),
        "sas_token": ("AZURE_STORAGE_SAS_TOKEN",),
        "connection_string": ("AZURE_STORAGE_CONNECTION_STRING",),
        "endpoint_url": ("AZURE_STORAGE_ENDPOINT",),
        "encryption_scope": ("AZURE_ENCRYPTION_SCOPE",),
        "max_connections": ("AZURE_MAX_CONNECTIONS",),
        "retry_attempts": ("AZURE_RETRY_ATTEMPTS",),
        "timeout_seconds": ("AZURE_TIMEOUT_SECONDS",),
        "compression": ("AZURE_COMPRESSION",),
    }

    container: Container
    prefix: str = ""
    account: str | None = None
    account_key: SecretStr | None = None
    sas_token: SecretStr | None = None
    connection_string: SecretStr | None = None
    endpoint_url: Endpoint | None = None
    encryption_scope: str | None = None
    max_connections: int = Field(default=50, ge=1, le=10_000)
    retry_attempts: int = Field(default=3, ge=1, le=100)
    timeout_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    compression: Compression = "snappy"

    @property
    def url(self) -> str:
        """Where the data is: ``az://container/prefix``."""
        prefix = self.prefix.strip("/")
        return f"az://{self.container}/{prefix}" if prefix else f"az://{self.container}"

    def store_options(self) -> dict[str, Any]:
        """Return the keyword options for ``open_store(url, **options)``; secrets stay `SecretStr`."""
        return azure_options(self.model_dump())


def azure_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `AzureStore.from_url` takes of `settings`, without what is not set."""
    apart = {"container", "prefix", "retry_attempts", "compression"}
    return {name: value for name, value in settings.items() if name not in apart and value is not None}
