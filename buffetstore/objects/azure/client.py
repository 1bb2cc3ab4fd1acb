"""Requests to one container: signed, sent once over a pooled session, and answered by an answer or our error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from yarl import URL

from buffetstore.errors import AuthenticationError
from buffetstore.objects.azure.auth import Request, authorization
from buffetstore.objects.azure.errors import Call, Refusal, mapped, refused
from buffetstore.objects.http_pool import HttpPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from buffetstore.objects.azure.options import AzureOptions, Place
    from buffetstore.objects.base import Data

# The first with every access tier of today; emulators and private clouds have it too.
API_VERSION = "2021-12-02"
_NOTHING: dict[str, str] = {}


class AzureClient:
    """One container, and the account around it.

    The SDK's own client is not used for this: its pipeline costs more per request than the request itself, it cuts a
    download into several, and it repeats on its own account what the retry wrapper alone may repeat.
    """

    def __init__(self, place: Place, options: AzureOptions) -> None:
        self.place = place
        self.options = options
        self.auth = authorization(place, options)
        self.pool = HttpPool(
            place.url,
            max_connections=options.max_connections,
            connect_seconds=options.connect_timeout_seconds,
            idle_seconds=options.timeout_seconds,
        )
        self._base_path = URL(place.endpoint).raw_path.rstrip("/")
        self._origin = str(URL(place.endpoint).origin())

    def path(self, key: str = "", *, container: bool = True) -> str:
        """Return the path of a URL: of a blob, of the container, or of the account."""
        if not container:
            return f"{self._base_path}/"
        return f"{self._base_path}/{quote(self.place.container)}" + (f"/{quote(key, safe='/~')}" if key else "")

    def url(self, path: str, query: Mapping[str, str] = _NOTHING) -> URL:
        """Return what to ask, with a shared access signature where that is who asks."""
        parts = [f"{name}={quote(value, safe='~')}" for name, value in query.items()]
        parts += [self.auth.query] if self.auth.query else []
        return URL(f"{self._origin}{path}{'?' if parts else ''}{'&'.join(parts)}", encoded=True)

    async def send(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        data: Data | None = None,
        version: str = API_VERSION,
    ) -> aiohttp.ClientResponse:
        """Send a request, whose header names are in lower case; the caller closes the answer, unread so far."""
        every = {"x-ms-version": version, **headers}
        if method == "PUT" or data is not None:
            data = b"" if data is None else data
            every["content-length"] = str(len(data))
            every["content-type"] = "application/octet-stream"  # of the request; the blob's is in a header of its own
        request = Request(method, path, query, every)
        with mapped(call):
            await self.auth.sign(request)
            response = await self.pool.send(method, self.url(path, query), headers=request.headers, data=data)
            if response.status < 300:
                return response
            async with response:
                body = await response.text(errors="replace")
        error = refused(call, Refusal(response.status, response.headers, body))
        if isinstance(error, AuthenticationError):
            self.auth.refused()
        raise error

    async def request(self, call: Call, method: str, path: str, **parameters: Any) -> tuple[Mapping[str, str], bytes]:
        """Send a request and return its answer, read to the end: its headers and its body."""
        response = await self.send(call, method, path, **parameters)
        with mapped(call):
            async with response:
                return response.headers, await response.read()

    async def warm_up(self, connections: int) -> None:
        """Open so many connections at once."""
        call, query = Call("warm_up", self.place.url), {"restype": "container"}
        request = Request("HEAD", self.path(), query, {"x-ms-version": API_VERSION})
        with mapped(call):
            await self.auth.sign(request)
            await self.pool.warm_up(self.url(self.path(), query), connections, request.headers)
