"""The XML API, as far as obstore, deltalake and other S3-style clients use it.

https://cloud.google.com/storage/docs/xml-api/reference-uris
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from buffetstore.testing.gcs.errors import ApiError
from buffetstore.testing.gcs.uploads import claimed_checksums, part_etag
from buffetstore.testing.gcs.wire import (
    Answer,
    check_etags,
    hashed,
    media,
    object_headers,
    whole_number,
    xml_conditions,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from buffetstore.testing.gcs.state import Conditions, State, StoredObject
    from buffetstore.testing.gcs.uploads import MultipartUploads
    from buffetstore.testing.gcs.wire import Call

_XML = ("Content-Type", "application/xml; charset=UTF-8")
_NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"
_FIELDS = {
    "Content-Type": "contentType",
    "Content-Encoding": "contentEncoding",
    "Content-Disposition": "contentDisposition",
    "Content-Language": "contentLanguage",
    "Cache-Control": "cacheControl",
    "x-goog-storage-class": "storageClass",
    "x-goog-encryption-kms-key-name": "kmsKeyName",
}


class XmlApi:
    """Answers the calls of the XML API out of a `State`."""

    def __init__(self, state: State, uploads: MultipartUploads) -> None:
        self._state = state
        self._uploads = uploads
        self.operations: Mapping[str, Callable[[Call], Awaitable[Answer]]] = {
            "xml.list": self._list,
            "xml.bucket": self._bucket,
            "xml.create": self._create,
            "xml.drop": self._drop,
            "xml.get": self._get,
            "xml.head": self._get,
            "xml.put": self._put,
            "xml.copy": self._copy,
            "xml.delete": self._delete,
            "xml.parts.start": self._start_parts,
            "xml.parts.put": self._put_part,
            "xml.parts.complete": self._complete_parts,
            "xml.parts.abort": self._abort_parts,
        }

    async def _bucket(self, call: Call) -> Answer:
        self._state.bucket(call.bucket)
        return Answer(200)

    async def _create(self, call: Call) -> Answer:
        self._state.create_bucket(call.bucket)
        return Answer(200)

    async def _drop(self, call: Call) -> Answer:
        self._state.delete_bucket(call.bucket)
        return Answer(204)

    async def _list(self, call: Call) -> Answer:
        query = call.query
        newer = query.get("list-type") == "2"
        after = query.get("continuation-token") or query.get("start-after" if newer else "marker", "")
        limit = min(1000, whole_number(query.get("max-keys"), "max-keys") or 1000)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        page = self._state.list(call.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        parts = [_element("Name", call.bucket), _element("Prefix", prefix), _element("MaxKeys", limit)]
        parts.append(_element("IsTruncated", "true" if page.next_token is not None else "false"))
        if newer:
            parts.append(_element("KeyCount", len(page.objects) + len(page.prefixes)))
        if page.next_token is not None:
            parts.append(_element("NextContinuationToken" if newer else "NextMarker", page.next_token))
        parts += [
            "<Contents>"
            + _element("Key", stored.name)
            + _element("Generation", stored.generation)
            + _element("MetaGeneration", stored.metageneration)
            + _element("LastModified", _stamp(stored.updated))
            + _element("ETag", stored.xml_etag)
            + _element("Size", stored.size)
            + _element("StorageClass", stored.fields["storageClass"])
            + "</Contents>"
            for stored in page.objects
        ]
        parts += [f"<CommonPrefixes>{_element('Prefix', folder)}</CommonPrefixes>" for folder in page.prefixes]
        return _document("ListBucketResult", *parts)

    async def _get(self, call: Call) -> Answer:
        generation = whole_number(call.query.get("generation"), "generation")
        conditions = xml_conditions(call.headers)
        stored = self._state.get(call.bucket, call.name, generation=generation, conditions=conditions)
        check_etags(stored.xml_etag, call.headers)
        return media(stored, call.headers, xml=True)

    async def _put(self, call: Call) -> Answer:
        content = await hashed(call.body)
        claimed_checksums(call.headers).verify(content)
        stored = self._state.put(call.bucket, call.name, content, _fields(call.headers), self._conditions(call))
        return Answer(200, b"", _stored_headers(stored))

    async def _copy(self, call: Call) -> Answer:
        bucket, _, name = unquote(call.headers["x-goog-copy-source"]).lstrip("/").partition("/")
        generation = call.headers.get("x-goog-copy-source-generation")
        source = self._state.get(bucket, name, generation=whole_number(generation, "x-goog-copy-source-generation"))
        xml_conditions(call.headers, prefix="x-goog-copy-source-if-").check(source)
        replaces = call.headers.get("x-goog-metadata-directive", "COPY").upper() == "REPLACE"
        changes = _fields(call.headers) if replaces else {}
        stored = self._state.copy(source, call.bucket, call.name, changes, self._conditions(call))
        answer = _document(
            "CopyObjectResult", _element("LastModified", _stamp(stored.updated)), _element("ETag", stored.xml_etag)
        )
        answer.headers += _stored_headers(stored)
        return answer

    async def _delete(self, call: Call) -> Answer:
        generation = whole_number(call.query.get("generation"), "generation")
        self._state.delete(call.bucket, call.name, generation=generation, conditions=self._conditions(call))
        return Answer(204)

    def _conditions(self, call: Call) -> Conditions:
        """Return the preconditions of a write, with those on entity tags already checked."""
        current = self._state.bucket(call.bucket).objects.get(call.name)
        if current is not None:
            try:
                check_etags(current.xml_etag, call.headers)
            except ApiError as error:
                raise ApiError(412, "At least one of the pre-conditions you specified did not hold.") from error
        elif "If-Match" in call.headers:
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
        return xml_conditions(call.headers)

    async def _start_parts(self, call: Call) -> Answer:
        upload_id = self._uploads.start(call.bucket, call.name, _fields(call.headers))
        return _document(
            "InitiateMultipartUploadResult",
            _element("Bucket", call.bucket),
            _element("Key", call.name),
            _element("UploadId", upload_id),
        )

    async def _put_part(self, call: Call) -> Answer:
        part = await hashed(call.body)
        claimed_checksums(call.headers).verify(part)
        number = whole_number(call.query.get("partNumber"), "partNumber") or 0
        self._uploads.put(call.query["uploadId"], number, part)
        return Answer(200, b"", [("ETag", part_etag(part)), ("x-goog-hash", f"crc32c={part.crc32c}")])

    async def _complete_parts(self, call: Call) -> Answer:
        upload_id = call.query["uploadId"]
        stored = await self._uploads.complete(upload_id, _chosen_parts(call.body), self._conditions(call))
        answer = _document(
            "CompleteMultipartUploadResult",
            _element("Location", f"{call.root}{call.path}"),
            _element("Bucket", call.bucket),
            _element("Key", call.name),
            _element("ETag", stored.xml_etag),
        )
        answer.headers += _stored_headers(stored)
        return answer

    async def _abort_parts(self, call: Call) -> Answer:
        self._uploads.abort(call.query["uploadId"])
        return Answer(204)


def _fields(headers: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {key: headers[name] for name, key in _FIELDS.items() if name in headers}
    prefix = "x-goog-meta-"
    metadata = {
        name.lower()[len(prefix) :]: value for name, value in headers.items() if name.lower().startswith(prefix)
    }
    if metadata:
        fields["metadata"] = metadata
    return fields


def _stored_headers(stored: StoredObject) -> list[tuple[str, str]]:
    wanted = {"ETag", "x-goog-generation", "x-goog-metageneration", "x-goog-hash", "x-goog-stored-content-length"}
    return [pair for pair in object_headers(stored, xml=True) if pair[0] in wanted]


def _chosen_parts(body: bytes) -> list[tuple[int, str]]:
    try:
        root = ET.fromstring(body)  # noqa: S314 - a test server, fed by the caller's own tests
        return [
            (int(part.findtext("{*}PartNumber") or ""), part.findtext("{*}ETag") or "")
            for part in root.findall("{*}Part")
        ]
    except (ET.ParseError, ValueError):
        raise ApiError(400, "The XML you provided was not well-formed.", xml_code="MalformedXML") from None


def _element(name: str, value: object) -> str:
    return f"<{name}>{escape(str(value))}</{name}>"


def _document(name: str, *children: str) -> Answer:
    body = f"<?xml version='1.0' encoding='UTF-8'?><{name} xmlns='{_NAMESPACE}'>{''.join(children)}</{name}>"
    return Answer(200, body.encode(), [_XML])


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
