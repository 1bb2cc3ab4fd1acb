"""Signed requests to one bucket over a pooled session, whose every call raises our errors."""

from __future__ import annotations

import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from yarl import URL

from buffetstore.objects.http_pool import HttpPool
from buffetstore.objects.s3.credentials import ChainedKeys, Configured, StaticKeys, configured
from buffetstore.objects.s3.errors import EXPIRED, FOREIGN, SKEWED, Call, answered, refusal_of, unanswered
from buffetstore.objects.s3.options import check_endpoint
from buffetstore.objects.s3.signing import Keys, Signer, query_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import aiohttp

    from buffetstore.objects.base import Data
    from buffetstore.objects.pool import PoolStats
    from buffetstore.objects.s3.errors import Refusal
    from buffetstore.objects.s3.options import S3Options

    Query = Sequence[tuple[str, str]]

DEFAULT_REGION = "us-east-1"
_DOMAINS = {"cn-": "amazonaws.com.cn", "us-iso-": "c2s.ic.gov", "us-isob-": "sc2s.sgov.gov", "eusc-": "amazonaws.eu"}


class Answer(NamedTuple):
    """An answer that was read whole."""

    headers: Mapping[str, str]
    body: bytes


class Target(NamedTuple):
    """Where the bucket is: `origin` and `host` as URL and header have them, `path` of the bucket."""

    origin: str
    host: str
    path: str
    signer: Signer


class S3Connection:
    """The bucket.

    Parameters
    ----------
    clock:
        Seconds since 1970, which signatures carry; what the service says when ours is wrong is added to it.
    """

    def __init__(self, bucket: str, url: str, options: S3Options, *, clock: Callable[[], float] = time.time) -> None:
        self.bucket = bucket
        self.url = url
        self.is_found = False  # the bucket: something in it, or it itself, was answered
        self._options = options
        self._clock = clock
        self._skew = 0.0
        self._keys: StaticKeys | ChainedKeys = ChainedKeys(url)
        if options.access_key is not None and options.secret_key is not None:
            self._keys = StaticKeys(Keys(options.access_key, options.secret_key, options.session_token))
        self._target: Target | None = None
        self._configured: Configured | None = None
        self._pool = HttpPool(
            url,
            max_connections=options.max_connections,
            connect_seconds=options.connect_timeout_seconds,
            idle_seconds=options.timeout_seconds,
        )

    async def send(
        self,
        call: Call,
        method: str,
        name: str = "",
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        data: Data | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request and return its good answer, unread, which the caller closes.

        Parameters
        ----------
        name:
            The object's, in the bucket; empty for the bucket itself.
        headers:
            By lower-case names.
        """
        for is_last in (False, True):
            target = self._target or await self._find()
            keys = await self._keys.get()
            path, text = _path(target, name), query_text(query)
            signed = {"accept-encoding": "identity", **(headers or {})}  # bodies come as they are stored
            target.signer.sign(keys, method, target.host, path, text, signed)
            url = URL(f"{target.origin}{path}?{text}" if text else target.origin + path, encoded=True)
            try:
                response = await self._pool.send(method, url, headers=signed, data=data)
                if response.status < 300:
                    self.is_found = True
                    return response
                async with response:
                    refusal = refusal_of(response.status, response.headers, await response.read())
            except FOREIGN as error:
                raise unanswered(call, error) from error
            if is_last or not await self._mended(refusal, keys):
                raise answered(call, refusal)
        raise AssertionError("the last attempt returns or raises")

    async def ask(
        self,
        call: Call,
        method: str,
        name: str = "",
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        data: Data | None = None,
    ) -> Answer:
        """Send one request and return its good answer, read whole; an error in a body of status 200 is one."""
        response = await self.send(call, method, name, query=query, headers=headers, data=data)
        try:
            async with response:
                body = await response.read()
        except FOREIGN as error:
            raise unanswered(call, error) from error
        refusal = refusal_of(response.status, response.headers, body)
        if refusal.code != str(refusal.status):
            raise answered(call, refusal)
        return Answer(response.headers, body)

    async def presigned(self, method: str, name: str, headers: Mapping[str, str], seconds: int) -> str:
        """Return a URL that does one thing to one object for so long."""
        target = self._target or await self._find()
        path = _path(target, name)
        keys = await self._keys.get()
        query = target.signer.presigned_query(keys, method, target.host, path, headers, seconds)
        return f"{target.origin}{path}?{query}"

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now, and how many requests wait."""
        return self._pool.stats()

    async def warm_up(self, connections: int) -> None:
        """Open so many connections, and find the keys."""
        target = self._target or await self._find()
        headers: dict[str, str] = {}
        path, text = _path(target, ""), query_text([("list-type", "2"), ("max-keys", "1")])
        target.signer.sign(await self._keys.get(), "GET", target.host, path, text, headers)
        try:
            await self._pool.warm_up(URL(f"{target.origin}{path}?{text}", encoded=True), connections, headers)
        except FOREIGN as error:
            raise unanswered(Call("warm_up", self.url), error) from error

    async def aclose(self) -> None:
        """Close the pool; later calls are refused."""
        await self._pool.aclose()

    async def _find(self, region: str | None = None) -> Target:
        options = self._options
        if self._configured is None:
            is_told = options.region is not None and options.endpoint_url is not None
            self._configured = Configured(None, None) if is_told else await configured(self.url)
        region = region or options.region or self._configured.region or DEFAULT_REGION
        endpoint = options.endpoint_url or self._configured.endpoint_url
        if endpoint is not None:
            check_endpoint(endpoint)
        by_path = options.path_style
        if by_path is None:
            by_path = endpoint is not None or "." in self.bucket
        self._target = _target(self.bucket, endpoint, region, self._now, by_path=by_path)
        return self._target

    def _now(self) -> float:
        return self._clock() + self._skew

    async def _mended(self, refusal: Refusal, keys: Keys) -> bool:
        """Return whether what the service refused was mended, so that the request is worth a second try."""
        region, target = refusal.region, self._target
        if (
            region is not None
            and self._options.region is None
            and target is not None
            and target.signer.region != region
        ):
            await self._find(region)
            return True
        if refusal.code in SKEWED and (date := refusal.headers.get("date")):
            self._skew = parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp() - self._clock()
            return True
        # A HEAD has no body that would say so.
        may_be_expired = refusal.code in EXPIRED or (refusal.code == "400" and keys.token is not None)
        return may_be_expired and await self._keys.renew(keys)


def _path(target: Target, name: str) -> str:
    return f"{target.path}/{quote(name)}" if name else target.path or "/"


def _target(bucket: str, endpoint: str | None, region: str, clock: Callable[[], float], *, by_path: bool) -> Target:
    if endpoint is None:
        domain = next((name for start, name in _DOMAINS.items() if region.startswith(start)), "amazonaws.com")
        endpoint = f"https://s3.{region}.{domain}"
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if parts.port is not None and parts.port != {"http": 80, "https": 443}[parts.scheme]:
        host = f"{host}:{parts.port}"
    host = host if by_path else f"{bucket}.{host}"
    path = parts.path.rstrip("/") + (f"/{quote(bucket)}" if by_path else "")
    return Target(f"{parts.scheme}://{host}", host, path, Signer(region, clock=clock))
