"""HTTP/1.1 messages as bytes: read whole, passed on as they came."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio

HEAD_BYTES = 1024 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Message:
    """A request or an answer. `head` is what came, to its empty line; `body` is without the framing of chunks."""

    head: bytes
    body: bytes
    framing: Literal["length", "chunked", "close", "none"]

    def to_bytes(self) -> bytes:
        """Return the message as it is sent."""
        if self.framing == "none":
            return self.head
        if self.framing != "chunked":
            return self.head + self.body
        chunk = b"%x\r\n%s\r\n" % (len(self.body), self.body) if self.body else b""
        return self.head + chunk + b"0\r\n\r\n"

    def body_start(self, count: int) -> bytes:
        """Return the head and the first `count` bytes of the body, without an end."""
        if self.framing == "none":
            return self.head
        size = b"%x\r\n" % len(self.body) if self.framing == "chunked" else b""
        return self.head + size + self.body[:count]


def header(head: bytes, name: bytes) -> bytes | None:
    """Return the value of the header `name`, which is lower case."""
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return None


async def read_head(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next head; None where the peer has closed instead."""
    head = b""
    while not head.strip():  # empty lines before a request are allowed
        try:
            head = await reader.readuntil(b"\r\n")
        except EOFError:
            return None
    while not head.endswith(b"\r\n\r\n"):
        head += await reader.readuntil(b"\r\n")
    return head


async def read_request_body(reader: asyncio.StreamReader, head: bytes) -> Message:
    """Return the request that begins with `head`."""
    if is_chunked(head):
        return Message(head, await _read_chunks(reader), "chunked")
    length = int(header(head, b"content-length") or 0)
    return Message(head, await reader.readexactly(length), "length")


async def read_answer(reader: asyncio.StreamReader, method: str) -> Message:
    """Return the final answer to a request by `method`."""
    while True:
        head = await read_head(reader)
        if head is None:
            raise ConnectionResetError("the upstream closed without an answer")
        status = status_of(head)
        if status >= 200:
            break
    if method == "HEAD" or status in {204, 304}:
        return Message(head, b"", "none")
    if is_chunked(head):
        return Message(head, await _read_chunks(reader), "chunked")
    length = header(head, b"content-length")
    if length is None:
        return Message(head, await reader.read(-1), "close")
    return Message(head, await reader.readexactly(int(length)), "length")


def status_of(head: bytes) -> int:
    """Return the status of an answer."""
    return int(head.split(b" ", 2)[1].split(b"\r\n", 1)[0])


def is_chunked(head: bytes) -> bool:
    """Return whether the body comes in chunks."""
    return (header(head, b"transfer-encoding") or b"").lower().endswith(b"chunked")


def is_last(head: bytes) -> bool:
    """Return whether the connection ends with this message."""
    said = (header(head, b"connection") or b"").lower()
    return said == b"close" or (b"HTTP/1.0" in head.split(b"\r\n", 1)[0] and said != b"keep-alive")


def reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection by an RST instead of a FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";", 1)[0], 16)
        if size == 0:
            while (await reader.readuntil(b"\r\n")) != b"\r\n":
                continue  # trailers
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
