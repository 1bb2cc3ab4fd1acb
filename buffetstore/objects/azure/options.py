"""How to reach a container: settings, URLs and connection strings, checked before anything is sent."""

from __future__ import annotations

import base64
import binascii
import inspect
import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from buffetstore.errors import ConfigurationError

PUBLIC_SUFFIX = "core.windows.net"
_CONTAINER = re.compile(r"\$(root|web|logs)|[a-z0-9](-?[a-z0-9]){2,62}")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_SCHEMES = ("az", "abfs", "abfss")
_DEVELOPMENT = {
    "accountname": "devstoreaccount1",
    # Published with the emulator, the same for everybody.
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "blobendpoint": "http://127.0.0.1:10000/devstoreaccount1",
}


@dataclass(frozen=True, slots=True)
class AzureOptions:
    """How to reach the service. Without a key, a token, a connection string or a credential, requests are anonymous.

    Parameters
    ----------
    account:
        The storage account's name, where the URL does not have it.
    account_key:
        The account's key, in base64.
    sas_token:
        A shared access signature: the query string, with or without its question mark.
    connection_string:
        As the portal shows it; it stands for account, key or signature, and endpoint.
    credential:
        An asynchronous token credential, such as `azure.identity.aio.DefaultAzureCredential()`; whoever made it
        closes it.
    endpoint_url:
        Of another cloud or an emulator: `http://127.0.0.1:10000/devstoreaccount1`.
    max_connections:
        Connections open at once; further requests wait for one.
    timeout_seconds, connect_timeout_seconds:
        How long an open connection may be silent, and how long one may take to open.
    encryption_scope:
        The scope that new objects are encrypted with.
    page_size:
        Objects asked for in one page of a listing, at most 5000.
    part_bytes:
        Size of the blocks of large uploads, of which an object has at most 50 000; four are held in memory.

    Raises
    ------
    ConfigurationError
        A setting is malformed, or two exclude one another.
    """

    account: str | None = None
    account_key: SecretStr | None = None
    sas_token: SecretStr | None = None
    connection_string: SecretStr | None = None
    credential: Any = field(default=None, repr=False)
    endpoint_url: str | None = None
    max_connections: int = 50
    timeout_seconds: float = 60.0
    connect_timeout_seconds: float = 5.0
    encryption_scope: str | None = None
    page_size: int = 5000
    part_bytes: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("account_key", "sas_token", "connection_string"):
            object.__setattr__(self, name, _secret(getattr(self, name)))
        wrong = [*_credential_faults(self), *_number_faults(self)]
        if self.endpoint_url is not None:
            parts = urlsplit(self.endpoint_url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
                wrong.append(
                    f"endpoint_url {parts.scheme}://{parts.hostname or ''} is not http(s)://host[:port][/path]"
                )
        if self.account is not None and not _ACCOUNT.fullmatch(self.account):
            wrong.append(f"account {self.account!r} is not an account's name: 3 to 24 lower case letters and digits")
        if wrong:
            raise ConfigurationError("; ".join(wrong))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container is."""

    url: str
    container: str
    account: str
    endpoint: str


def located(url: str, options: AzureOptions) -> tuple[Place, AzureOptions]:
    """Return the place that `url` and the options name, and the options without a connection string.

    Raises
    ------
    ConfigurationError
        The URL is none of ours, or it remains unknown which account is meant.
    """
    scheme, _, rest = url.partition("://")
    container, _, host = rest.rstrip("/").partition("@")
    if scheme not in _SCHEMES or not _CONTAINER.fullmatch(container) or re.search(r"[/?#:@]", host):
        shown = f"{scheme}://{re.split('[:?]', container)[0]}"  # what follows may be a secret
        raise ConfigurationError(
            f"{shown!r}: write az://container or abfss://container@account.dfs.core.windows.net; "
            "a container's name is 3 to 63 lower case letters, digits and single hyphens"
        )
    if options.connection_string is not None:
        options = _connected(options, options.connection_string.get_secret_value())
    account = host.partition(".")[0] or options.account
    endpoint = options.endpoint_url or _endpoint(host, account)
    if endpoint is None:
        raise ConfigurationError(
            f"{url!r}: which storage account? Give account=..., connection_string=..., or abfss://container@account..."
        )
    if options.account is not None and host and account != options.account:
        raise ConfigurationError(f"{url!r} and account={options.account!r} name two storage accounts")
    return Place(url.rstrip("/"), container, account or _account_of(endpoint), endpoint.rstrip("/")), options


def _endpoint(host: str, account: str | None) -> str | None:
    if "." in host:
        return f"https://{host.replace('.dfs.', '.blob.', 1)}"
    return f"https://{account}.blob.{PUBLIC_SUFFIX}" if account else None


def _account_of(endpoint: str) -> str:
    """Return the account in an endpoint: the first label of a host name, or of a path behind an address."""
    parts = urlsplit(endpoint)
    return parts.path.strip("/").partition("/")[0] or (parts.hostname or "").partition(".")[0]


def _connected(options: AzureOptions, text: str) -> AzureOptions:
    pairs = [pair.partition("=") for pair in text.strip().strip(";").split(";")]
    said = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if said.get("usedevelopmentstorage", "").lower() == "true":
        said = _DEVELOPMENT
    account, suffix = said.get("accountname"), said.get("endpointsuffix", PUBLIC_SUFFIX)
    endpoint = said.get("blobendpoint")
    if endpoint is None and account is not None:
        endpoint = f"{said.get('defaultendpointsprotocol', 'https')}://{account}.blob.{suffix}"
    if endpoint is None:
        raise ConfigurationError(
            "the connection string has neither AccountName nor BlobEndpoint; it has "
            f"{', '.join(sorted(name for name, equals, _ in pairs if equals)) or 'no names'}"
        )
    return replace(
        options,
        connection_string=None,
        account=account or options.account,
        endpoint_url=options.endpoint_url or endpoint,
        account_key=_secret(said.get("accountkey")),
        sas_token=_secret(said.get("sharedaccesssignature")) if "accountkey" not in said else None,
    )


def _secret(value: SecretStr | str | None) -> SecretStr | None:
    return SecretStr(value) if isinstance(value, str) else value


def _credential_faults(options: AzureOptions) -> list[str]:
    names = ("account_key", "sas_token", "connection_string", "credential")
    given = [name for name in names if getattr(options, name) is not None]
    wrong = [f"{' and '.join(given)} exclude one another: give one"] if len(given) > 1 else []
    if options.account_key is not None and not _is_base64(options.account_key.get_secret_value()):
        wrong.append("account_key is not base64: copy the whole key")
    if options.sas_token is not None and "sig=" not in options.sas_token.get_secret_value():
        wrong.append("sas_token has no signature (sig=...): copy the whole query string")
    if options.credential is not None and not inspect.iscoroutinefunction(
        getattr(options.credential, "get_token", None)
    ):
        wrong.append(
            f"credential {type(options.credential).__name__} has no async get_token: take one of azure.identity.aio"
        )
    return wrong


def _number_faults(options: AzureOptions) -> list[str]:
    names = ("max_connections", "timeout_seconds", "connect_timeout_seconds")
    wrong = [
        f"{name} is {getattr(options, name)}: it must be positive" for name in names if not getattr(options, name) > 0
    ]
    if not 64 * 1024 <= options.part_bytes <= 4000 * 1024 * 1024:
        wrong.append(f"part_bytes is {options.part_bytes}: it is 64 KiB to 4000 MiB")
    if not 1 <= options.page_size <= 5000:
        wrong.append(f"page_size is {options.page_size}: it is 1 to 5000")
    return wrong


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False
