"""An HTTP proxy that breaks what passes through it, by script: faults for any store that speaks HTTP.

>>> from buffetstore.objects.gcs import GCSStore
>>> from buffetstore.objects.wrappers import RetryStore
>>> from buffetstore.testing.gcs import GCSServer
>>> async def example() -> list[int]:
...     async with GCSServer(buckets=["lake"]) as server, HttpFaultProxy(server.url) as proxy:
...         proxy.faults.add(HttpFault("status", when="after", status=503))  # applied, but the answer is lost
...         async with RetryStore(GCSStore("lake", api_root=proxy.url)) as store:
...             await store.put("key", b"bytes")
...         return [request.status for request in proxy.log.requests]
>>> asyncio.run(example())
[503, 200]

A synchronous test, or one whose proxy outlives its loop, runs it by `in_background(HttpFaultProxy(url))`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from buffetstore.testing.gcs.faults import Fault, FaultScript, Request, RequestLog
from buffetstore.testing.http_wire import (
    HEAD_BYTES,
    Message,
    header,
    is_chunked,
    is_last,
    read_answer,
    read_head,
    read_request_body,
    reset,
    status_of,
)

if TYPE_CHECKING:
    from types import TracebackType

_GONE = (ConnectionError, EOFError, TimeoutError)


@dataclass(slots=True)
class HttpFault(Fault):
    """What goes wrong, for which requests, how often: the vocabulary of `buffetstore.testing.gcs.Fault`.

    Parameters
    ----------
    kind:
        `status`: answer with `status` (and `retry_after`). `reset`: reset the connection. `truncate`: promise the whole
        answer, send a part, close. `flip`: change one bit, with `when="before"` of the request's body, else of the
        answer's. `delay`: wait `seconds`, then go on. `stall`: answer nothing until the client hangs up, `release` is
        called, or `seconds` (if given) have passed; then close.
    operation, path:
        Patterns with `*` that the method (`PUT`) and the target as sent (`/bucket/key?uploadId=7`) must match.
    when:
        `before`: the request never reaches the service. `after`: the service has done it.
    after_bytes:
        How much passes first. `reset` before: of the request's body, to the service too. `reset` and `stall` after,
        `truncate`: of the answer's body, with its head; by default nothing, and half of the body where it is cut.
        `flip`: which byte; by default the middle one.
    min_bytes:
        Only requests whose bodies have so many bytes are struck: the parts of an upload.
    """

    after_bytes: int | None = None
    min_bytes: int = 0

    def strikes(self, operation: str, path: str, size: int) -> bool:
        return size >= self.min_bytes and Fault.strikes(self, operation, path, size)


class HttpFaultProxy:
    """A reverse proxy that passes requests on as they are, `Host` and encoded path included: signatures stay good.

    Bodies are held in memory, and every request takes a new connection to the upstream, so that what a client sees is
    the script's doing alone. It listens on a free port of the loopback.

    Parameters
    ----------
    upstream:
        The service's root, such as `http://127.0.0.1:9000`.

    Attributes
    ----------
    faults:
        What is still to come; `faults.add(HttpFault(...))` and `faults.clear()` from any thread.
    log:
        The latest requests, and counters of requests and bytes of their bodies, both ways.
    connections, open_connections:
        Of clients: in all, and now.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"{upstream!r} is not the root of an HTTP service with a port: http://127.0.0.1:9000")
        self._upstream = (parts.hostname, parts.port)
        self.faults = FaultScript()
        self.log = RequestLog()
        self.connections = 0
        self.open_connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What clients are given instead of the upstream."""
        return f"http://127.0.0.1:{self.port}"

    def release(self) -> None:
        """End the stalls that last; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_stalls)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop = None
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_stalls(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        try:
            with suppress(*_GONE):
                while await _Exchange(self, reader, writer).run():
                    continue
                await writer.drain()
        finally:
            writer.close()
            self.open_connections -= 1
            self._tasks.discard(task)

    async def forward(self, request: Message, method: str) -> Message:
        """Return the upstream's answer, or a 502 where it cannot be had."""
        writer = None
        try:
            reader, writer = await asyncio.open_connection(*self._upstream, limit=HEAD_BYTES)
            writer.write(request.to_bytes())
            return await read_answer(reader, method)
        except (OSError, EOFError) as error:
            return plain_answer(502, f"the upstream did not answer: {error}")
        finally:
            if writer is not None:
                writer.close()

    async def forward_part(self, head: bytes, part: bytes) -> None:
        """Send the upstream a request that ends early."""
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(Message(head, part, "chunked" if is_chunked(head) else "length").body_start(len(part)))
            writer.write_eof()
            await asyncio.wait_for(reader.read(1), 1.0)  # it has taken note: of a broken request, or by an answer
        finally:
            reset(writer)

    async def stall(self, reader: asyncio.StreamReader, seconds: float) -> None:
        """Wait until the client hangs up, `release` is called, or `seconds` have passed."""
        waits = {
            asyncio.ensure_future(reader.read(1)),
            asyncio.ensure_future(self._released.wait()),
        }
        try:
            await asyncio.wait(waits, timeout=seconds or None, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


class _Exchange:
    """One request and what becomes of it. `run` tells whether the connection lives on."""

    def __init__(self, proxy: HttpFaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._method = self._target = ""
        self._range: str | None = None

    async def run(self) -> bool:
        head = await read_head(self._reader)
        if head is None:
            return False
        self._method, self._target = (part.decode("latin-1") for part in head.split(b" ", 2)[:2])
        asked = header(head, b"range") or header(head, b"x-ms-range")
        self._range = asked.decode("latin-1") if asked is not None else None
        if (header(head, b"expect") or b"").lower() == b"100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(header(head, b"content-length") or 0)
        fault = self._proxy.faults.take(self._method, self._target, size)
        if fault is not None and (fault.kind, fault.when) == ("reset", "before") and _bytes_of(fault):
            return await self._cut(head, _bytes_of(fault) or 0)
        request = await read_request_body(self._reader, head)
        if fault is not None and fault.when == "before" and fault.kind not in {"delay", "flip", "truncate"}:
            return await self._refuse(request, fault)
        if fault is not None and fault.when == "before":
            await asyncio.sleep(fault.seconds)
            if fault.kind == "flip":
                request.body = flipped(request.body, _bytes_of(fault))
        answer = await self._proxy.forward(request, self._method)
        if fault is None or (fault.when == "before" and fault.kind != "truncate"):
            return await self._answer(request, answer)
        return await self._spoil(request, answer, fault)

    async def _refuse(self, request: Message, fault: Fault) -> bool:
        """Let the fault strike a request that the service never sees."""
        if fault.kind == "status":
            return await self._answer(request, self._failed(fault))
        self._log(0, len(request.body), 0)
        if fault.kind == "stall":
            await self._proxy.stall(self._reader, fault.seconds)
        reset(self._writer)
        return False

    async def _spoil(self, request: Message, answer: Message, fault: Fault) -> bool:
        """Let the fault strike the answer."""
        if fault.kind == "status":
            answer = self._failed(fault)
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "flip":
            answer.body = flipped(answer.body, _bytes_of(fault))
        if fault.kind in {"status", "delay", "flip"}:
            return await self._answer(request, answer)
        count = _bytes_of(fault)
        if count is None and fault.kind == "truncate":
            count = len(answer.body) // 2
        self._log(status_of(answer.head) if count is not None else 0, len(request.body), count or 0)
        if count is not None:
            self._writer.write(answer.body_start(count))
            await self._writer.drain()
        if fault.kind == "stall":
            await self._proxy.stall(self._reader, fault.seconds)
        if fault.kind != "truncate":
            reset(self._writer)
        return False

    async def _cut(self, head: bytes, count: int) -> bool:
        """Break the connection when `count` bytes of the request's body have passed."""
        part = bytearray()
        while len(part) < count:
            chunk = await self._reader.read(count - len(part))
            if not chunk:
                break
            part += chunk
        self._log(0, len(part), 0)
        with suppress(*_GONE):
            await self._proxy.forward_part(head, bytes(part))
        reset(self._writer)
        return False

    def _failed(self, fault: Fault) -> Message:
        answer = plain_answer(fault.status, "A scripted fault.", fault.retry_after)
        if self._method == "HEAD":
            answer.body, answer.framing = b"", "none"
        return answer

    async def _answer(self, request: Message, answer: Message) -> bool:
        # Noted first: the client may look at the log as soon as it has the answer.
        self._log(status_of(answer.head), len(request.body), len(answer.body))
        self._writer.write(answer.to_bytes())
        await self._writer.drain()
        return not (answer.framing == "close" or is_last(answer.head) or is_last(request.head))

    def _log(self, status: int, received: int, sent: int) -> None:
        path = self._target
        self._proxy.log.add(Request(self._method, self._method, path, self._range, status, received, sent))


def plain_answer(status: int, text: str, retry_after: float | None = None) -> Message:
    """Return an answer as a load balancer gives it: in no service's format."""
    body = text.encode()
    wait = b"" if retry_after is None else b"Retry-After: %d\r\n" % retry_after
    head = b"HTTP/1.1 %d Fault\r\nContent-Type: text/plain\r\n%sContent-Length: %d\r\n\r\n" % (status, wait, len(body))
    return Message(head, body, "length")


def flipped(body: bytes, at: int | None) -> bytes:
    """Return the body with one bit changed, in its byte `at` or in the middle one."""
    if not body:
        return body
    changed = bytearray(body)
    changed[len(changed) // 2 if at is None else min(at, len(changed) - 1)] ^= 1
    return bytes(changed)


def _bytes_of(fault: Fault) -> int | None:
    return getattr(fault, "after_bytes", None)
