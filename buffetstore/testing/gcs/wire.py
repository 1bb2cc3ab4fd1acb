"""Requests and answers as values, and what both APIs share: routing, preconditions, ranges, object headers."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from buffetstore.resilience.threads import in_thread
from buffetstore.testing.gcs.errors import ApiError
from buffetstore.testing.gcs.state import Conditions, content_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.testing.gcs.state import Content, StoredObject

_INLINE_BYTES = 256 * 1024  # above this a checksum costs more than a thread's hand-over

_OBJECT_PATH = re.compile(
    r"/(?:(?P<host>download|upload|resumable/upload)/)?storage/v1/b/(?P<bucket>[^/]+)/o"
    r"(?:/(?P<name>.+?)(?:/(?P<verb>compose|rewriteTo|copyTo)(?:/b/(?P<to_bucket>[^/]+)/o/(?P<to_name>.+))?)?)?"
)
_BUCKET_PATH = re.compile(r"/storage/v1/b(?:/(?P<bucket>[^/]+))?/?")
_XML_PATH = re.compile(r"/(?P<bucket>[^/]+)(?:/(?P<name>.*))?")

_OBJECT_VERBS = {"GET": "objects.get", "DELETE": "objects.delete", "PATCH": "objects.patch", "PUT": "objects.update"}
_BUCKET_VERBS = {"GET": "buckets.get", "DELETE": "buckets.delete", "PATCH": "buckets.patch"}


@dataclass(slots=True)
class Call:
    """One request. `operation` is what faults and counters speak of, such as `objects.get` or `xml.put`."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    operation: str
    bucket: str = ""
    name: str = ""
    to_bucket: str = ""
    to_name: str = ""
    body: bytes = b""
    root: str = ""

    @property
    def is_xml(self) -> bool:
        """Whether the answer's form is XML."""
        return self.operation.startswith("xml.")


@dataclass(slots=True)
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


def parse_call(method: str, target: str, headers: Mapping[str, str]) -> Call:
    """Return the request behind a raw target (path and query as sent), routed to its operation."""
    path, _, raw_query = target.partition("?")
    query = dict(parse_qsl(raw_query, keep_blank_values=True))
    if match := _OBJECT_PATH.fullmatch(path):
        parts = {key: unquote(value) for key, value in match.groupdict(default="").items()}
        operation = _object_operation(method, parts, query, headers)
        call = Call(method, path, query, headers, operation, parts["bucket"], parts["name"])
        call.to_bucket, call.to_name = parts["to_bucket"], parts["to_name"]
        return call
    if match := _BUCKET_PATH.fullmatch(path):
        bucket = unquote(match["bucket"] or "")
        collection = {"GET": "buckets.list", "POST": "buckets.insert"}
        operation = (_BUCKET_VERBS if bucket else collection).get(method, "unknown")
        return Call(method, path, query, headers, operation, bucket)
    if path.startswith("/_emulator/") or path == "/token":
        return Call(method, path, query, headers, "emulator")
    if match := _XML_PATH.fullmatch(path):
        bucket, name = unquote(match["bucket"]), unquote(match["name"] or "")
        return Call(method, path, query, headers, _xml_operation(method, name, query, headers), bucket, name)
    return Call(method, path, query, headers, "unknown")


def _object_operation(
    method: str, parts: Mapping[str, str], query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    if parts["host"] in {"upload", "resumable/upload"}:
        if "upload_id" in query:
            if method == "DELETE":
                return "uploads.cancel"
            asks = headers.get("Content-Range", "").startswith("bytes */")
            return "uploads.status" if asks and headers.get("Content-Length", "0") == "0" else "uploads.chunk"
        return "uploads.start" if query.get("uploadType") == "resumable" else "objects.insert"
    if parts["verb"]:
        return {"compose": "objects.compose", "rewriteTo": "objects.rewrite", "copyTo": "objects.copy"}[parts["verb"]]
    if not parts["name"]:
        return {"GET": "objects.list", "POST": "objects.insert"}.get(method, "unknown")
    if method == "GET" and (query.get("alt") == "media" or parts["host"] == "download"):
        return "objects.media"
    return _OBJECT_VERBS.get(method, "unknown")


def _xml_operation(method: str, name: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    if not name:
        return {"GET": "xml.list", "HEAD": "xml.bucket", "PUT": "xml.create", "DELETE": "xml.drop"}.get(
            method, "xml.unknown"
        )
    if "uploads" in query and method == "POST":
        return "xml.parts.start"
    if "uploadId" in query:
        verbs = {"PUT": "xml.parts.put", "POST": "xml.parts.complete", "DELETE": "xml.parts.abort"}
        return verbs.get(method, "xml.unknown")
    if method == "PUT" and "x-goog-copy-source" in headers:
        return "xml.copy"
    return {"GET": "xml.get", "HEAD": "xml.head", "PUT": "xml.put", "DELETE": "xml.delete"}.get(method, "xml.unknown")


async def hashed(data: bytes, *, with_md5: bool = True) -> Content:
    """Return `data` with its checksums, off the loop when it is large."""
    if len(data) <= _INLINE_BYTES:
        return content_of(data, with_md5=with_md5)
    return await in_thread(content_of, data, with_md5=with_md5)


def cut_chunk(call: Call, size: int) -> Call:
    """Return a request that brings no more than the first bytes of a resumable upload's chunk."""
    start = re.sub(r"bytes (\d+)-.*", r"\1", call.headers.get("Content-Range", ""))
    if not start.isdecimal() or size >= len(call.body):
        return call
    headers = {**call.headers, "Content-Range": f"bytes {start}-{int(start) + size - 1}/*"}
    return replace(call, body=call.body[:size], headers=headers)


def whole_number(text: str | None, name: str) -> int | None:
    """Return a query parameter or header as a number; 400 when it is not one."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, f"Invalid value {text!r} for {name}.") from None


def json_conditions(query: Mapping[str, str], *, source: bool = False) -> Conditions:
    """Return the preconditions in the JSON API's parameters; with `source` those upon a copy's source."""
    prefix = "ifSource" if source else "if"

    def number(name: str) -> int | None:
        return whole_number(query.get(prefix + name), prefix + name)

    return Conditions(
        number("GenerationMatch"),
        number("GenerationNotMatch"),
        number("MetagenerationMatch"),
        number("MetagenerationNotMatch"),
    )


def xml_conditions(headers: Mapping[str, str], *, prefix: str = "x-goog-if-") -> Conditions:
    """Return the preconditions in the XML API's headers."""

    def number(name: str) -> int | None:
        return whole_number(headers.get(prefix + name), prefix + name)

    return Conditions(
        number("generation-match"),
        number("generation-not-match"),
        number("metageneration-match"),
        number("metageneration-not-match"),
    )


def check_etags(etag: str, headers: Mapping[str, str]) -> None:
    """Raise 412 or 304 unless `If-Match` and `If-None-Match` hold for an object that is there."""
    wanted, unwanted = headers.get("If-Match"), headers.get("If-None-Match")
    if wanted is not None and not _names(wanted, etag):
        raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
    if unwanted is not None and _names(unwanted, etag):
        raise ApiError(304, "Not modified")


def _names(header: str, etag: str) -> bool:
    tags = {tag.strip().strip('"') for tag in header.split(",")}
    return "*" in tags or etag.strip('"') in tags


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return [start, end) of a `Range` header, None where it is absent or not understood; 416 past the end."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start >= end:
        unsatisfied = {"Content-Range": f"bytes */{size}"}
        raise ApiError(416, "The requested range cannot be satisfied.", headers=unsatisfied)
    return start, end


def object_headers(stored: StoredObject, *, xml: bool) -> list[tuple[str, str]]:
    """Return the headers that come with an object's bytes."""
    fields = stored.fields
    headers = [
        ("ETag", stored.xml_etag if xml else stored.etag),
        ("x-goog-generation", str(stored.generation)),
        ("x-goog-metageneration", str(stored.metageneration)),
        ("x-goog-stored-content-encoding", fields.get("contentEncoding", "identity")),
        ("x-goog-stored-content-length", str(stored.size)),
        ("x-goog-hash", f"crc32c={stored.content.crc32c}"),
        ("x-goog-storage-class", fields["storageClass"]),
        ("Last-Modified", format_datetime(stored.updated, usegmt=True)),
        ("Content-Type", fields.get("contentType", "application/octet-stream")),
        ("Accept-Ranges", "bytes"),
    ]
    if stored.content.md5 is not None:
        headers.append(("x-goog-hash", f"md5={stored.content.md5}"))  # two header lines, as Google sends them
    names = {"cacheControl": "Cache-Control", "contentDisposition": "Content-Disposition"}
    names |= {"contentLanguage": "Content-Language", "contentEncoding": "Content-Encoding"}
    headers += [(name, fields[key]) for key, name in names.items() if fields.get(key)]
    if xml:
        headers += [(f"x-goog-meta-{key}", value) for key, value in fields.get("metadata", {}).items()]
    return headers


def media(stored: StoredObject, request: Mapping[str, str], *, xml: bool) -> Answer:
    """Return the object's bytes: whole, a range, or unzipped for a caller that does not accept gzip."""
    headers = object_headers(stored, xml=xml)
    data = stored.content.data
    encoded = stored.fields.get("contentEncoding") == "gzip"
    raw = "no-transform" in stored.fields.get("cacheControl", "")
    if encoded and not raw and "gzip" not in request.get("Accept-Encoding", ""):
        headers = [pair for pair in headers if pair[0] not in {"Content-Encoding", "Accept-Ranges"}]
        return Answer(200, gzip.decompress(data), [*headers, ("Warning", "214 UploadServer gunzipped")])
    span = parse_range(request.get("Range"), stored.size)
    if span is None:
        return Answer(200, data, headers)
    start, end = span
    headers.append(("Content-Range", f"bytes {start}-{end - 1}/{stored.size}"))
    return Answer(206, data[start:end], headers)
