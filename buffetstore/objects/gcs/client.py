"""Requests to Google Cloud Storage with a token, over one pooled HTTP session; answers, or our errors."""

from __future__ import annotations

import gzip
import re
import zlib
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote

import aiohttp
from gcloud.aio.storage import Storage
from yarl import URL

from buffetstore.errors import AuthenticationError, StorageError
from buffetstore.objects.gcs.auth import Credentials, StaticToken
from buffetstore.objects.gcs.errors import Refusal, network_error
from buffetstore.objects.http_pool import HttpPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gcloud.aio.auth import Token

    from buffetstore.objects.base import Data, PutMode

GOOGLE_ROOT = "https://storage.googleapis.com"
_CONNECT_SECONDS = 10.0
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~/-]*")


class Purpose(NamedTuple):
    """What a request is for, as its errors tell it: a verb, the key, the condition of a write, a copy's source."""

    verb: str
    key: str | None = None
    mode: PutMode | None = None
    writes: bool = False
    source: str | None = None

    @property
    def what(self) -> str:
        """The request in words; put together for errors only."""
        if self.source is not None:
            return f"{self.verb} {self.source!r} to {self.key!r}"
        return self.verb if self.key is None else f"{self.verb} {self.key!r}"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How to reach the service; see `GCSStore`."""

    api_root: str | None = None
    token: str | None = None
    service_file: str | None = None
    service_account_email: str | None = None
    max_connections: int = 50
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class _Home:
    """What belongs to one session."""

    session: aiohttp.ClientSession
    credentials: Credentials | StaticToken | None
    storage: Storage


class GCSClient:
    """The service, as one bucket's store reaches it.

    Raises
    ------
    UnsupportedOperationError
        It is closed, or used in another event loop than the first.
    """

    def __init__(self, bucket: str, options: ClientOptions) -> None:
        self._bucket = bucket
        self._options = options
        self.root = (options.api_root or GOOGLE_ROOT).rstrip("/")
        self._url = URL(self.root)
        self._path = self._url.raw_path.rstrip("/")
        self._is_anonymous = options.api_root is not None and not (
            options.token or options.service_file or options.service_account_email
        )
        self.pool = HttpPool(
            f"gs://{bucket}",
            max_connections=options.max_connections,
            connect_seconds=_CONNECT_SECONDS,
            idle_seconds=options.timeout_seconds,
        )
        self._home: _Home | None = None

    def object_url(self, key: str) -> URL:
        """Return the object's address in the XML API, whose answers carry all of its metadata."""
        name = key.replace("/", "%2F") if _UNRESERVED.fullmatch(key) else quote(key, safe="")
        # Parsing a URL anew costs more than its path.
        return self._url.with_path(f"{self._path}/{self._bucket}/{name}", encoded=True)

    def upload_url(self, **query: str) -> URL:
        """Return where new objects are sent."""
        return self._url.with_path(f"{self._path}/upload/storage/v1/b/{self._bucket}/o").with_query(query)

    @asynccontextmanager
    async def request(
        self,
        purpose: Purpose,
        method: str,
        url: URL,
        *,
        headers: dict[str, str] | None = None,
        data: Data | list[memoryview] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give its answer; the statuses in `accept` are no errors."""
        response = await self.send(purpose, method, url, headers=headers, data=data, accept=accept)
        try:
            yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if isinstance(error, StorageError):
                raise
            raise self.failure(error, purpose) from error
        finally:
            # Closing drops a connection whose body was not read to its end; released ones go back to the pool.
            response.close()

    async def send(
        self,
        purpose: Purpose,
        method: str,
        url: URL,
        *,
        headers: dict[str, str] | None = None,
        data: Data | list[memoryview] | None = None,
        accept: frozenset[int] = frozenset(),
        is_raw: bool = False,
    ) -> aiohttp.ClientResponse:
        """Send a request and return its answer, which the caller closes; with `is_raw` the body is not unzipped.

        The token is added to `headers`.
        """
        credentials = self._opened().credentials
        headers = headers if headers is not None else {}
        try:
            if credentials is not None:
                headers["Authorization"] = credentials.header or await credentials.fresh_header()
            response = await self.pool.send(method, url, headers=headers, data=data, auto_decompress=not is_raw)
            if response.status >= 300 and response.status not in accept:
                async with response:
                    body = _text(await response.read())
                raise self._refused(Refusal(response.status, response.headers, body), purpose)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, StorageError):
                raise
            raise self.failure(error, purpose) from error
        return response

    @asynccontextmanager
    async def storage(self, purpose: Purpose) -> AsyncIterator[Storage]:
        """Give gcloud-aio-storage over this session, with its exceptions mapped."""
        storage = self._opened().storage
        try:
            yield storage
        except aiohttp.ClientResponseError as error:
            refusal = Refusal(error.status, error.headers or {}, error.message)
            raise self._refused(refusal, purpose) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if isinstance(error, StorageError):
                raise
            raise self.failure(error, purpose) from error

    @property
    def timeout(self) -> Any:
        """What gcloud-aio-storage, which says that its time-outs are ints, takes as well: idle times."""
        return self.pool.timeout

    @property
    def credentials(self) -> Credentials | StaticToken | None:
        """Who asks; None where nobody does."""
        return self._opened().credentials

    async def warm_up(self, connections: int) -> None:
        """Open so many connections, and get a token."""
        purpose = Purpose("open connections")
        headers = {}
        try:
            credentials = self._opened().credentials
            if credentials is not None:
                headers["Authorization"] = await credentials.fresh_header()
            url = self._url.with_path(f"{self._path}/{self._bucket}/").with_query({"max-keys": "1"})
            await self.pool.warm_up(url, connections, headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, StorageError):
                raise
            raise self.failure(error, purpose) from error

    def failure(self, error: Exception, purpose: Purpose) -> StorageError:
        """Return our error for an exception on the way."""
        return network_error(error, purpose.what, purpose.key, root=self.root, writes=purpose.writes)

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        self._home = None
        await self.pool.aclose()

    def _refused(self, refusal: Refusal, purpose: Purpose) -> StorageError:
        error = refusal.error(purpose.what, purpose.key, bucket=self._bucket, mode=purpose.mode, writes=purpose.writes)
        if isinstance(error, AuthenticationError) and self._home is not None and self._home.credentials is not None:
            self._home.credentials.forget()
        return error

    def _opened(self) -> _Home:
        session = self.pool.session
        home = self._home
        if home is None or home.session is not session:
            credentials = None if self._is_anonymous else self._credentials_of(session)
            storage = Storage(
                session=session,  # type: ignore[arg-type]  # typed for requests too
                # Ours has what Storage asks of a Token, `get`, without its retries and background tasks.
                token=cast("Token", credentials or StaticToken("")),
                api_root=self.root,
                api_is_dev=self._is_anonymous,
            )
            home = self._home = _Home(session, credentials, storage)
        return home

    def _credentials_of(self, session: aiohttp.ClientSession) -> Credentials | StaticToken:
        options = self._options
        if options.token is not None:
            return StaticToken(options.token)
        return Credentials(
            session, service_file=options.service_file, service_account_email=options.service_account_email
        )


def _text(body: bytes) -> str:
    if body[:2] == b"\x1f\x8b":  # whoever takes objects as they are stored gets errors like that too
        with suppress(OSError, EOFError, zlib.error):
            body = gzip.decompress(body)
    return body.decode("utf-8", "replace")
