"""The HTTP server: reads requests, lets faults strike, and sends answers.

Besides the two APIs it answers `/token` (an OAuth token endpoint for service-account files that name it) and, under
`/_emulator/`, `faults` (GET, POST a list, DELETE), `requests` (GET, DELETE) and `health`.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from aiohttp import web

from buffetstore.testing.background import in_background
from buffetstore.testing.gcs.errors import ApiError
from buffetstore.testing.gcs.faults import Fault, FaultScript, Request, RequestLog
from buffetstore.testing.gcs.json_api import JsonApi
from buffetstore.testing.gcs.signing import Signers
from buffetstore.testing.gcs.state import State
from buffetstore.testing.gcs.uploads import MultipartUploads, ResumableUploads
from buffetstore.testing.gcs.wire import Answer, Call, cut_chunk, parse_call
from buffetstore.testing.gcs.xml_api import XmlApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

_TOKEN_SECONDS = 3600
_POLL_SECONDS = 0.05


class GCSServer:
    """A Google Cloud Storage server in memory, for tests and trials.

    Parameters
    ----------
    host, port:
        Where to listen; port 0 takes a free one.
    buckets:
        Buckets that are there from the start.
    token:
        Where given, requests need `Authorization: Bearer <token>`, else they get 401; `/token` hands it out.
    versioning:
        Whether `buckets` keep noncurrent generations; `state.create_bucket` and the JSON API set it for any other.
    clock:
        Seconds since the epoch.

    Signed URLs of the accounts that `signers.trust` was given are good without a token, those of others never.

    Examples
    --------
    >>> from buffetstore.objects.gcs import GCSStore
    >>> async def example() -> int:
    ...     async with GCSServer(buckets=["lake"]) as server, GCSStore("lake", api_root=server.url) as store:
    ...         return (await store.put("key", b"bytes")).size
    >>> asyncio.run(example())
    5
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        buckets: Sequence[str] = (),
        token: str | None = None,
        versioning: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = State(clock)
        for bucket in buckets:
            self.state.create_bucket(bucket, {"versioning": {"enabled": True}} if versioning else None)
        self.signers = Signers(clock)
        self.faults = FaultScript()
        self.log = RequestLog()
        self._host, self._port, self._token = host, port, token
        uploads = ResumableUploads(self.state)
        self._operations = {
            **JsonApi(self.state, uploads).operations,
            **XmlApi(self.state, MultipartUploads(self.state)).operations,
            "emulator": self._administer,
        }
        self._runner: web.ServerRunner | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """The root of both APIs, such as `http://127.0.0.1:4443`."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen."""
        # Bodies are stored as they come: a gzip Content-Encoding is the object's, not the transport's.
        server = web.Server(self._handle, auto_decompress=False, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=1024)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        """Stop listening and drop what hangs. May be called twice."""
        runner, self._runner = self._runner, None
        self._stopping.set()
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        call = parse_call(request.method, request.raw_path, request.headers)
        call.root = f"http://{request.headers.get('Host') or self.url[7:]}"
        call.body = b"".join([chunk async for chunk in request.content.iter_any()])
        fault = None if call.operation == "emulator" else self.faults.take(call.operation, unquote(call.path))
        answer = await self._applied(request, call, fault)
        sent = await self._send(request, answer, fault)
        log = Request(
            call.operation,
            call.method,
            unquote(call.path),
            call.headers.get("Range"),
            answer.status if answer is not None and sent is not None else 0,
            len(call.body),
            len(answer.body) if answer is not None and call.method != "HEAD" else 0,
        )
        if call.operation != "emulator":
            self.log.add(log)
        # A response is due even where the connection is gone; it is written nowhere.
        return sent if sent is not None else web.Response()

    async def _until_gone(self, request: web.BaseRequest) -> None:
        """Wait until the client hangs up or the server stops."""
        while not self._stopping.is_set() and request.transport is not None and not request.transport.is_closing():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _POLL_SECONDS)

    async def _applied(self, request: web.BaseRequest, call: Call, fault: Fault | None) -> Answer | None:
        """Return the answer; None where the request is never answered."""
        early = fault if fault is not None and fault.when == "before" else None
        if early is not None:
            if early.after_bytes is not None and call.operation == "uploads.chunk":
                await self._answer(cut_chunk(call, early.after_bytes))
            if early.kind == "status":
                return _failed(call, early)
            if early.kind == "reset":
                return None
            if early.kind == "stall":
                await self._until_gone(request)
                return None
            if early.kind == "flip":
                call.body = _flipped(call.body)
            if early.kind == "delay":
                await asyncio.sleep(early.seconds)
        answer = await self._answer(call)
        if fault is not None and fault.when == "after":
            if fault.kind == "status":
                return _failed(call, fault)
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
        return answer

    async def _answer(self, call: Call) -> Answer:
        operation = self._operations.get(call.operation)
        if operation is None:
            return _error(call, ApiError(405, f"{call.method} is not allowed on {call.path}."))
        try:
            self._authenticate(call)
            return await operation(call)
        except ApiError as error:
            return _error(call, error)

    def _authenticate(self, call: Call) -> None:
        if call.is_xml and "X-Goog-Signature" in call.query:
            self.signers.check(call)
            return
        if self._token is None or call.operation == "emulator" or "upload_id" in call.query:
            return  # a session URI is a credential of its own
        given = call.headers.get("Authorization")
        if given != f"Bearer {self._token}":
            who = "Invalid Credentials" if given else "Anonymous caller does not have storage access."
            raise ApiError(401, who, headers={"WWW-Authenticate": "Bearer"})

    async def _send(
        self, request: web.BaseRequest, answer: Answer | None, fault: Fault | None
    ) -> web.StreamResponse | None:
        """Send the answer; None where the connection was reset."""
        late = fault.kind if fault is not None else None
        if answer is None or (late == "reset" and fault is not None and fault.when == "after"):
            if request.transport is not None:
                request.transport.abort()
            return None
        if late == "flip" and fault is not None and fault.when == "after":
            answer.body = _flipped(answer.body)
        response = web.Response(status=answer.status, body=answer.body)
        response.headers.extend(answer.headers)
        if late not in {"truncate", "stall"}:
            return response
        partial = web.StreamResponse(status=answer.status, headers=response.headers)
        partial.content_length = len(answer.body)
        await partial.prepare(request)
        cut = fault.after_bytes if fault is not None else None
        await partial.write(answer.body[: len(answer.body) // 2 if cut is None else cut])
        if late == "stall":
            await self._until_gone(request)
        if request.transport is not None:
            request.transport.close()
        return partial

    async def _administer(self, call: Call) -> Answer:
        path = call.path.removeprefix("/_emulator/")
        if path == "/token":
            token = {"access_token": self._token or "emulator", "expires_in": _TOKEN_SECONDS, "token_type": "Bearer"}
            return _json_answer(token)
        if path == "faults":
            if call.method == "POST":
                self.faults.add(*_faults(call.body))
            elif call.method == "DELETE":
                self.faults.clear()
            return _json_answer(self.faults.describe())
        if path == "requests":
            counters = self.log.describe()
            if call.method == "DELETE":
                self.log.clear()
            return _json_answer(counters)
        if path == "health":
            return _json_answer({"buckets": sorted(self.state.buckets)})
        raise ApiError(404, f"{call.path} is not an endpoint of the emulator: faults, requests, health.")


def _json_answer(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode(), [("Content-Type", "application/json")])


def _faults(body: bytes) -> list[Fault]:
    try:
        wanted = json.loads(body)
        return [Fault(**each) for each in (wanted if isinstance(wanted, list) else [wanted])]
    except (ValueError, TypeError) as error:
        raise ApiError(400, f"Not a fault: {error}") from None


def _error(call: Call, error: ApiError) -> Answer:
    body = error.xml_body() if call.is_xml else error.json_body()
    form = "application/xml; charset=UTF-8" if call.is_xml else "application/json; charset=UTF-8"
    headers = {"Content-Type": form, **error.headers}
    return Answer(error.status, body, list(headers.items()))


def _failed(call: Call, fault: Fault) -> Answer:
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    return _error(call, ApiError(fault.status, "A scripted fault.", headers=headers))


def _flipped(body: bytes) -> bytes:
    """Return the body with one bit in its middle changed."""
    if not body:
        return body
    changed = bytearray(body)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


@contextmanager
def serve_in_thread(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    buckets: Sequence[str] = (),
    token: str | None = None,
    versioning: bool = False,
) -> Iterator[GCSServer]:
    """Run a server on a loop of its own thread, for clients that block and for tests on several loops."""
    with in_background(GCSServer(host=host, port=port, buckets=buckets, token=token, versioning=versioning)) as server:
        yield server


async def run_forever(host: str = "127.0.0.1", port: int = 4443, buckets: Sequence[str] = ()) -> None:
    """Serve until cancelled."""
    async with GCSServer(host=host, port=port, buckets=buckets):
        await asyncio.Event().wait()
