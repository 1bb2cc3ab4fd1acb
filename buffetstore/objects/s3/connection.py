"""One lazily opened, pooled client, whose every call raises our errors."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import botocore.session
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import get_session
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.handlers import add_expect_header

from buffetstore.errors import ConfigurationError, UnsupportedOperationError
from buffetstore.objects.pool import sessions_stats
from buffetstore.objects.s3.errors import Call, mapped
from buffetstore.objects.s3.transfer import while_taken
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from botocore.credentials import Credentials

    from buffetstore.objects.base import PutMode
    from buffetstore.objects.pool import PoolStats


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach the service.

    Parameters
    ----------
    endpoint_url:
        Of another service than AWS.
    access_key, secret_key, session_token:
        Without them botocore's own chain is asked (environment, profile, web identity, instance role).
    path_style:
        Put the bucket in the path, not in the host name; by default so with an `endpoint_url`.
    timeout_seconds:
        How long an open connection may be silent.
    conditional:
        Which conditions the service keeps: on `all` writes (AWS), on `puts` but not at the completion of a multipart
        upload (Ceph before Squid), or `none`. What is not kept is refused.
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

    def __post_init__(self) -> None:
        if self.conditional not in {"all", "puts", "none"}:
            raise ConfigurationError(f"conditional is {self.conditional!r}: it is 'all', 'puts' or 'none'")
        for name in ("max_connections", "timeout_seconds", "connect_timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be positive")


class _SendsOnce(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """aiohttp repeats a PUT when a pooled connection breaks: a lost CREATE would then be told of our own object."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001 - has no public name; a test loses an answer
        return session


class S3Connection:
    """The client of one bucket."""

    def __init__(self, bucket: str, url: str, options: S3Options) -> None:
        self.bucket = bucket
        self.url = url
        self._options = options
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None
        self._closed = False

    async def call(
        self,
        operation: str,
        *,
        key: str | None = None,
        mode: PutMode | None = None,
        write: bool = False,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Send one request; `key` and `mode` are for the error that tells of it, `write` makes it ambiguous."""
        with mapped(Call(operation, self.url, key, mode, write)):
            client = self._client or await self._open()
            request = getattr(client, operation)
            body = parameters.get("Body")
            async with while_taken(body, self._options.timeout_seconds) if body is not None else nullcontext():
                answer: dict[str, Any] = await request(Bucket=self.bucket, **parameters)
        return answer

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""
        http = None if self._client is None else self._client._endpoint.http_session  # noqa: SLF001 - no public name
        sessions = (http and http._sessions) or {}  # noqa: SLF001 - the same
        return sessions_stats(sessions.values(), self._options.max_connections)

    async def aclose(self) -> None:
        """Close the pool; later calls are refused."""
        self._closed = True
        async with self._opening:
            self._client = None
            await self._stack.aclose()

    async def _open(self) -> Any:
        async with self._opening:
            if self._closed:
                raise UnsupportedOperationError(f"the store {self.url} is closed: open it again")
            if self._client is None:
                session = await in_disk_thread(_read_session, own_keys=self._options.access_key is not None)
                try:
                    client = await self._stack.enter_async_context(self._new_client(session))
                except ValueError as error:  # botocore's own check of an endpoint
                    raise ConfigurationError(f"{self.url}: {error}") from error
                # A service that never says 100 Continue would be waited for without end.
                client.meta.events.unregister("before-call.s3", add_expect_header)
                self._client = client
            return self._client

    def _new_client(self, session: AioSession) -> Any:
        options = self._options
        path_style = options.endpoint_url is not None if options.path_style is None else options.path_style
        config = AioConfig(
            http_session_cls=_SendsOnce,
            max_pool_connections=options.max_connections,
            connect_timeout=options.connect_timeout_seconds,
            read_timeout=options.timeout_seconds,
            retries={"total_max_attempts": 1, "mode": "standard"},  # the retry wrapper is the one layer that retries
            s3={
                "addressing_style": "path" if path_style else "virtual",
                # The CRC of each body is in a signed header; hashing it again would hold up the event loop.
                "payload_signing_enabled": False,
            },
            # A whole object is checked here while it streams, and its parts have no checksum.
            response_checksum_validation="when_required",
        )
        return session.create_client(
            "s3",
            region_name=options.region,
            endpoint_url=options.endpoint_url,
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            aws_session_token=options.session_token,
            config=config,
        )


class _ChainedKeys(AioCredentials):  # type: ignore[misc]  # it has no types
    """What botocore's chain found: files and services are asked in a thread, now and when keys expire."""

    def __init__(self, found: Credentials) -> None:
        keys = found.get_frozen_credentials()
        super().__init__(keys.access_key, keys.secret_key, keys.token, found.method)
        self._found = found

    async def get_frozen_credentials(self) -> Any:
        if isinstance(self._found, RefreshableCredentials) and self._found.refresh_needed():
            return await in_disk_thread(self._found.get_frozen_credentials)
        return self._found.get_frozen_credentials()


def _read_session(*, own_keys: bool) -> AioSession:
    """Return a session that has read its files and found its keys: the event loop does not wait for the disk."""
    session = get_session()
    session.register_component("data_loader", _loader())
    session.full_config  # noqa: B018 - read and kept by the property
    if not own_keys:
        found = botocore.session.get_session().get_credentials()
        if found is None:
            raise NoCredentialsError
        session._credentials = _ChainedKeys(found)  # noqa: SLF001 - its setter takes plain strings only
    return session


@cache
def _loader() -> Any:
    """Return what reads and keeps the models of the service: megabytes of JSON, the same for every store."""
    session = get_session()
    session.warm_up_loader_caches("s3")
    return session.get_component("data_loader")
