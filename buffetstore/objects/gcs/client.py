"""One pooled HTTP session to Google Cloud Storage: requests with a token, answers or our errors."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

import aiohttp
from gcloud.aio.storage import Storage
from yarl import URL

from buffetstore.errors import AuthenticationError, StorageError, UnsupportedOperationError
from buffetstore.objects.gcs.auth import Credentials, StaticToken
from buffetstore.objects.gcs.errors import Refusal, network_error
from buffetstore.objects.pool import sessions_stats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from gcloud.aio.auth import Token

    from buffetstore.objects.base import PutMode
    from buffetstore.objects.pool import PoolStats

GOOGLE_ROOT = "https://storage.googleapis.com"
_CONNECT_SECONDS = 10.0
_READ_BUFFER_BYTES = 1024 * 1024
_SLOWEST_UPLOAD = 64 * 1024  # bytes/s below which an upload counts as stalled: aiohttp has no idle time-out for writes


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a request is for, as its errors tell it."""

    what: str
    key: str | None = None
    mode: PutMode | None = None
    writes: bool = False


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How to reach the service; see `GCSStore`."""

    api_root: str | None = None
    token: str | None = None
    service_file: str | None = None
    service_account_email: str | None = None
    max_connections: int = 50
    timeout_seconds: float = 60.0


class GCSClient:
    """The session, opened with the first request, in the loop of that request.

    Raises
    ------
    UnsupportedOperationError
        It is closed, or used in another event loop than the first.
    """

    def __init__(self, bucket: str, options: ClientOptions) -> None:
        self._bucket = bucket
        self._options = options
        self.root = (options.api_root or GOOGLE_ROOT).rstrip("/")
        self._is_anonymous = options.api_root is not None and not (
            options.token or options.service_file or options.service_account_email
        )
        self._session: aiohttp.ClientSession | None = None
        self._credentials: Credentials | StaticToken | None = None
        self._storage: Storage | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        seconds = options.timeout_seconds
        connect = min(_CONNECT_SECONDS, seconds)
        # Idle times, not totals: a large object may take as long as its bytes keep coming.
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=seconds)

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""
        return sessions_stats([self._session] if self._session is not None else [], self._options.max_connections)

    def object_url(self, key: str) -> str:
        """Return the object's address in the XML API, whose answers carry all of its metadata."""
        return f"{self.root}/{self._bucket}/{quote(key, safe='')}"

    def upload_url(self, **query: str) -> str:
        """Return where new objects are sent."""
        return f"{self.root}/upload/storage/v1/b/{self._bucket}/o?{urlencode(query)}"

    @asynccontextmanager
    async def request(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        size: int = 0,
        accept: frozenset[int] = frozenset(),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request of `size` bytes and give its answer; the statuses in `accept` are no errors."""
        response = await self.send(purpose, method, url, headers=headers, data=data, size=size, accept=accept)
        try:
            yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self.failure(error, purpose) from error
        finally:
            # Closing drops a connection whose body was not read to its end; released ones go back to the pool.
            response.close()

    async def send(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        size: int = 0,
        accept: frozenset[int] = frozenset(),
        is_raw: bool = False,
    ) -> aiohttp.ClientResponse:
        """Send a request and return its answer, which the caller closes; with `is_raw` the body is not unzipped."""
        session = self._opened()
        timeout = self.timeout
        if size:
            timeout = aiohttp.ClientTimeout(
                total=self._options.timeout_seconds + size / _SLOWEST_UPLOAD,
                sock_connect=timeout.sock_connect,
                sock_read=timeout.sock_read,
            )
        try:
            every = {**await self._authorization(), **(headers or {})}
            response = await session.request(
                method,
                URL(url, encoded=True),
                headers=every,
                data=data,
                timeout=timeout,
                allow_redirects=False,
                auto_decompress=not is_raw,
            )
            if response.status >= 300 and response.status not in accept:
                async with response:
                    body = await response.text(errors="replace")
                raise self._refused(Refusal(response.status, response.headers, body), purpose)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, StorageError):
                raise
            raise self.failure(error, purpose) from error
        return response

    @asynccontextmanager
    async def storage(self, purpose: Purpose) -> AsyncIterator[Storage]:
        """Give gcloud-aio-storage over this session, with its exceptions mapped."""
        self._opened()
        assert self._storage is not None
        try:
            yield self._storage
        except aiohttp.ClientResponseError as error:
            refusal = Refusal(error.status, error.headers or {}, error.message)
            raise self._refused(refusal, purpose) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if isinstance(error, StorageError):
                raise
            raise self.failure(error, purpose) from error

    def failure(self, error: Exception, purpose: Purpose) -> StorageError:
        """Return our error for an exception on the way."""
        return network_error(error, purpose.what, purpose.key, root=self.root, writes=purpose.writes)

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _refused(self, refusal: Refusal, purpose: Purpose) -> StorageError:
        error = refusal.error(purpose.what, purpose.key, bucket=self._bucket, mode=purpose.mode, writes=purpose.writes)
        if isinstance(error, AuthenticationError) and self._credentials is not None:
            self._credentials.forget()
        return error

    async def _authorization(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        return {"Authorization": f"Bearer {await self._credentials.get()}"}

    def _opened(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise UnsupportedOperationError(f"the store gs://{self._bucket} is closed: open a new one")
        if self._loop not in {None, loop}:
            raise UnsupportedOperationError(
                f"the store gs://{self._bucket} belongs to another event loop: open one store per loop"
            )
        if self._session is None:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._options.max_connections, ttl_dns_cache=300),
                timeout=self.timeout,
                trust_env=False,
                read_bufsize=_READ_BUFFER_BYTES,
            )
            self._credentials = None if self._is_anonymous else self._credentials_of(self._session)
            self._storage = Storage(
                session=self._session,  # type: ignore[arg-type]  # typed for requests too
                # Ours has what Storage asks of a Token, `get`, without its retries and background tasks.
                token=cast("Token", self._credentials or StaticToken("")),
                api_root=self.root,
                api_is_dev=self._is_anonymous,
            )
        return self._session

    def _credentials_of(self, session: aiohttp.ClientSession) -> Credentials | StaticToken:
        options = self._options
        if options.token is not None:
            return StaticToken(options.token)
        return Credentials(
            session, service_file=options.service_file, service_account_email=options.service_account_email
        )
