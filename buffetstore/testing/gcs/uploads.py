"""Uploads that take several requests: resumable sessions (JSON) and multi-part uploads (XML).

A session's preconditions are checked when it is started and again when it is finished: of two sessions that were
opened with `ifGenerationMatch=0` before either finished, one wins.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from buffetstore.testing.gcs.errors import ApiError
from buffetstore.testing.gcs.state import NO_CONDITIONS, Conditions
from buffetstore.testing.gcs.wire import hashed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.testing.gcs.state import Content, State, StoredObject

QUANTUM = 256 * 1024  # what is not the last chunk is persisted in multiples of this
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Checksums:
    """What the caller says of its bytes, base64; None where it says nothing."""

    crc32c: str | None = None
    md5: str | None = None

    def verify(self, content: Content) -> None:
        """Raise 400 when the bytes that came are not those that were meant."""
        for name, claimed, found in (("CRC32C", self.crc32c, content.crc32c), ("MD5", self.md5, content.md5)):
            if claimed is not None and found is not None and claimed != found:
                message = f'Provided {name} "{claimed}" doesn\'t match calculated {name} "{found}".'
                raise ApiError(400, message, xml_code="BadDigest")


def claimed_checksums(headers: Mapping[str, str], fields: Mapping[str, Any] | None = None) -> Checksums:
    """Return the checksums given in an object's properties, `x-goog-hash` or `Content-MD5`."""
    fields = fields or {}
    given = dict(part.strip().split("=", 1) for part in headers.get("x-goog-hash", "").split(",") if "=" in part)
    md5 = fields.get("md5Hash") or given.get("md5") or headers.get("Content-MD5")
    return Checksums(fields.get("crc32c") or given.get("crc32c"), md5)


@dataclass(slots=True)
class _Session:
    bucket: str
    name: str
    fields: Mapping[str, Any]
    conditions: Conditions
    checksums: Checksums
    total: int | None
    received: bytearray = field(default_factory=bytearray)
    finished: StoredObject | None = None
    finishing: bool = False
    failure: ApiError | None = None


class ResumableUploads:
    """The resumable sessions of the JSON API."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sessions: dict[str, _Session] = {}

    def start(
        self,
        bucket: str,
        name: str,
        *,
        fields: Mapping[str, Any],
        conditions: Conditions,
        checksums: Checksums,
        total: int | None,
    ) -> str:
        """Open a session and return its id."""
        self._state.check(bucket, name, conditions)
        upload_id = uuid.uuid4().hex
        self._sessions[upload_id] = _Session(bucket, name, fields, conditions, checksums, total)
        return upload_id

    def cancel(self, upload_id: str) -> None:
        """Forget what was received."""
        session = self._session(upload_id)
        session.failure = ApiError(410, "The upload session was cancelled.")
        session.received = bytearray()

    async def receive(
        self, upload_id: str, content_range: str | None, data: bytes, checksums: Checksums
    ) -> tuple[StoredObject | None, int]:
        """Take a chunk, or a question for the status; return the object once it is there, and the bytes persisted."""
        session = self._session(upload_id)
        if session.finished is not None:
            return session.finished, session.finished.size
        start, total = self._position(session, content_range, data)
        skip = len(session.received) - start
        if skip < 0:
            raise ApiError(400, f"Chunk starts at {start} but only {len(session.received)} bytes were received.")
        session.total = total if total is not None else session.total
        is_last = session.total is not None and start + len(data) >= session.total
        fresh = memoryview(data)[skip:]
        if not is_last:
            fresh = fresh[: max(0, (start + len(data)) // QUANTUM * QUANTUM - len(session.received))]
        session.received += fresh
        if session.total is None or len(session.received) < session.total or session.finishing:
            return None, len(session.received)
        return await self._finish(session, checksums), session.total

    def _position(self, session: _Session, content_range: str | None, data: bytes) -> tuple[int, int | None]:
        if content_range is None:
            return 0, len(data)
        match = _CONTENT_RANGE.fullmatch(content_range)
        if match is None:
            raise ApiError(400, f"Invalid Content-Range {content_range!r}.")
        total = None if match[3] == "*" else int(match[3])
        if match[1] is None:
            return len(session.received), total
        if int(match[2]) - int(match[1]) + 1 != len(data):
            raise ApiError(400, f"Content-Range {content_range!r} does not fit a body of {len(data)} bytes.")
        return int(match[1]), total

    async def _finish(self, session: _Session, checksums: Checksums) -> StoredObject:
        session.finishing = True
        try:
            content = await hashed(bytes(session.received))
            session.checksums.verify(content)
            checksums.verify(content)
            # No await from here on: the condition and the write are one step.
            stored = self._state.put(session.bucket, session.name, content, session.fields, session.conditions)
        except ApiError as failure:
            session.failure = failure  # whoever asks again is told the same
            raise
        finally:
            session.finishing = False
            session.received = bytearray()
        session.finished = stored
        return stored

    def _session(self, upload_id: str) -> _Session:
        session = self._sessions.get(upload_id)
        if session is None:
            raise ApiError(404, "No such upload session.", xml_code="NoSuchUpload")
        if session.failure is not None:
            raise session.failure
        return session


@dataclass(slots=True)
class _Parts:
    bucket: str
    name: str
    fields: Mapping[str, Any]
    parts: dict[int, Content] = field(default_factory=dict)
    finished: StoredObject | None = None


class MultipartUploads:
    """The multi-part uploads of the XML API."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._uploads: dict[str, _Parts] = {}

    def start(self, bucket: str, name: str, fields: Mapping[str, Any]) -> str:
        """Open an upload and return its id."""
        self._state.check(bucket, name, NO_CONDITIONS)
        upload_id = uuid.uuid4().hex
        self._uploads[upload_id] = _Parts(bucket, name, fields)
        return upload_id

    def put(self, upload_id: str, number: int, content: Content) -> None:
        """Keep one part; a number given again replaces the part."""
        if not 1 <= number <= 10_000:
            raise ApiError(400, f"Part number {number} is not in 1..10000.", xml_code="InvalidArgument")
        self._upload(upload_id).parts[number] = content

    def abort(self, upload_id: str) -> None:
        """Forget the parts."""
        self._upload(upload_id)
        del self._uploads[upload_id]

    async def complete(self, upload_id: str, chosen: Sequence[tuple[int, str]], conditions: Conditions) -> StoredObject:
        """Join the chosen parts into the object; said again, it answers with the same object."""
        upload = self._upload(upload_id)
        if upload.finished is not None:
            return upload.finished
        if not chosen:
            raise ApiError(400, "You must specify at least one part.", xml_code="MalformedCompleteMultipartUpload")
        numbers = [number for number, _ in chosen]
        if sorted(set(numbers)) != numbers:
            raise ApiError(400, "The parts are not in ascending order.", xml_code="InvalidPartOrder")
        for number, etag in chosen:
            part = upload.parts.get(number)
            if part is None or etag.strip('"') != part_etag(part).strip('"'):
                raise ApiError(400, f"Part {number} could not be found.", xml_code="InvalidPart")
        joined = b"".join(upload.parts[number].data for number in numbers)
        content = await hashed(joined, with_md5=False)
        upload.finished = self._state.put(upload.bucket, upload.name, content, upload.fields, conditions)
        upload.parts.clear()
        return upload.finished

    def _upload(self, upload_id: str) -> _Parts:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise ApiError(404, "The specified upload does not exist.", xml_code="NoSuchUpload")
        return upload


def part_etag(part: Content) -> str:
    """Return the entity tag of a part."""
    return f'"{part.crc32c}"'
