"""The JSON API: buckets and objects (https://cloud.google.com/storage/docs/json_api/v1)."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from buffetstore.testing.gcs.errors import ApiError
from buffetstore.testing.gcs.state import MAX_COMPOSE, WRITABLE
from buffetstore.testing.gcs.uploads import claimed_checksums
from buffetstore.testing.gcs.wire import (
    Answer,
    check_etags,
    hashed,
    json_conditions,
    media,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from buffetstore.testing.gcs.state import Bucket, State, StoredObject
    from buffetstore.testing.gcs.uploads import ResumableUploads
    from buffetstore.testing.gcs.wire import Call

_JSON = ("Content-Type", "application/json; charset=UTF-8")


class JsonApi:
    """Answers the calls of the JSON API out of a `State`."""

    def __init__(self, state: State, uploads: ResumableUploads) -> None:
        self._state = state
        self._uploads = uploads
        self.operations: Mapping[str, Callable[[Call], Awaitable[Answer]]] = {
            "buckets.list": self._list_buckets,
            "buckets.insert": self._insert_bucket,
            "buckets.get": self._get_bucket,
            "buckets.patch": self._patch_bucket,
            "buckets.delete": self._delete_bucket,
            "objects.list": self._list,
            "objects.insert": self._insert,
            "objects.get": self._get,
            "objects.media": self._media,
            "objects.delete": self._delete,
            "objects.patch": self._patch,
            "objects.update": self._patch,
            "objects.compose": self._compose,
            "objects.rewrite": self._rewrite,
            "objects.copy": self._copy,
            "uploads.start": self._start_upload,
            "uploads.chunk": self._chunk,
            "uploads.status": self._chunk,
            "uploads.cancel": self._cancel_upload,
        }

    async def _list_buckets(self, call: Call) -> Answer:
        found = [
            _bucket_resource(bucket)
            for name, bucket in sorted(self._state.buckets.items())
            if name.startswith(call.query.get("prefix", ""))
        ]
        return _answer({"kind": "storage#buckets", "items": found})

    async def _insert_bucket(self, call: Call) -> Answer:
        fields = _json_object(call.body)
        name = fields.pop("name", "")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", name):
            raise ApiError(400, f"Invalid bucket name: '{name}'")
        return _answer(_bucket_resource(self._state.create_bucket(name, fields)))

    async def _get_bucket(self, call: Call) -> Answer:
        return _answer(_bucket_resource(self._state.bucket(call.bucket)))

    async def _patch_bucket(self, call: Call) -> Answer:
        bucket = self._state.bucket(call.bucket)
        if whole_number(call.query.get("ifMetagenerationMatch"), "ifMetagenerationMatch") not in {
            None,
            bucket.metageneration,
        }:
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
        bucket.fields.update(_json_object(call.body))
        bucket.metageneration += 1
        return _answer(_bucket_resource(bucket))

    async def _delete_bucket(self, call: Call) -> Answer:
        self._state.delete_bucket(call.bucket)
        return Answer(204)

    async def _list(self, call: Call) -> Answer:
        query = call.query
        span: dict[str, Any] = {
            "prefix": query.get("prefix", ""),
            "start": query.get("startOffset", ""),
            "after": _after(query.get("pageToken", "")),
            "end": query.get("endOffset", ""),
            "limit": min(1000, whole_number(query.get("maxResults"), "maxResults") or 1000),
        }
        delimiter = query.get("delimiter", "")
        if query.get("versions", "").lower() == "true":  # Google's own client writes True
            if delimiter:
                raise ApiError(400, "This emulator lists versions without a delimiter only.")
            page = self._state.list_versions(call.bucket, **span)
        else:
            trailing = query.get("includeTrailingDelimiter") == "true"
            page = self._state.list(call.bucket, delimiter=delimiter, trailing_delimiter=trailing, **span)
        body: dict[str, Any] = {"kind": "storage#objects"}
        if page.next_token is not None:
            body["nextPageToken"] = base64.urlsafe_b64encode(page.next_token.encode()).decode()
        if page.prefixes:
            body["prefixes"] = list(page.prefixes)
        if page.objects:
            body["items"] = [_resource(stored, call.root) for stored in page.objects]
        return _answer(body)

    async def _get(self, call: Call) -> Answer:
        stored = self._read(call)
        return _answer(_resource(stored, call.root), ("ETag", stored.etag))

    async def _media(self, call: Call) -> Answer:
        stored = self._read(call)
        try:
            return media(stored, call.headers, xml=False)
        except ApiError as error:
            error.headers.setdefault("Content-Type", "text/html; charset=UTF-8")
            raise

    def _read(self, call: Call) -> StoredObject:
        stored = self._state.get(
            call.bucket, call.name, generation=_generation(call), conditions=json_conditions(call.query)
        )
        check_etags(stored.etag, call.headers)
        return stored

    async def _insert(self, call: Call) -> Answer:
        upload_type = call.query.get("uploadType", "")
        if upload_type == "multipart":
            fields, content_type, data = _multipart_related(call)
        elif upload_type == "media":
            fields, content_type, data = {}, call.headers.get("Content-Type", ""), call.body
        else:
            raise ApiError(400, f"Invalid uploadType {upload_type!r}.")
        content = await hashed(data)
        claimed_checksums(call.headers if upload_type == "media" else {}, fields).verify(content)
        if content_type:
            fields.setdefault("contentType", content_type)
        self._check_upload_fields(call, fields)
        stored = self._state.put(call.bucket, _upload_name(call, fields), content, fields, json_conditions(call.query))
        return _answer(_resource(stored, call.root), ("ETag", stored.etag))

    @staticmethod
    def _check_upload_fields(call: Call, fields: dict[str, Any]) -> None:
        if encoding := call.query.get("contentEncoding"):
            fields["contentEncoding"] = encoding
        if key := call.query.get("kmsKeyName"):
            fields["kmsKeyName"] = key

    async def _delete(self, call: Call) -> Answer:
        self._state.delete(call.bucket, call.name, generation=_generation(call), conditions=json_conditions(call.query))
        return Answer(204)

    async def _patch(self, call: Call) -> Answer:
        stored = self._state.patch(
            call.bucket,
            call.name,
            _json_object(call.body),
            generation=_generation(call),
            conditions=json_conditions(call.query),
            replace_all=call.operation == "objects.update",
        )
        return _answer(_resource(stored, call.root), ("ETag", stored.etag))

    async def _compose(self, call: Call) -> Answer:
        body = _json_object(call.body)
        wanted = body.get("sourceObjects", [])
        if not 1 <= len(wanted) <= MAX_COMPOSE:
            raise ApiError(400, f"The number of source components must be 1..{MAX_COMPOSE}, not {len(wanted)}.")
        sources = [self._component(call.bucket, source) for source in wanted]
        fields = {"contentType": sources[0].fields.get("contentType"), **body.get("destination", {})}
        content = await hashed(b"".join(source.content.data for source in sources), with_md5=False)
        claimed_checksums({}, fields).verify(content)
        count = sum(source.component_count or 1 for source in sources)
        stored = self._state.put(
            call.bucket, call.name, content, fields, json_conditions(call.query), component_count=count
        )
        return _answer(_resource(stored, call.root))

    def _component(self, bucket: str, source: Mapping[str, Any]) -> StoredObject:
        name = str(source.get("name", ""))
        stored = self._state.get(bucket, name, generation=int(source.get("generation") or 0) or None)
        wanted = source.get("objectPreconditions", {}).get("ifGenerationMatch")
        if wanted is not None and int(wanted) != stored.generation:
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
        return stored

    async def _rewrite(self, call: Call) -> Answer:
        stored = self._copied(call)
        size = str(stored.size)
        done = {"kind": "storage#rewriteResponse", "done": True, "totalBytesRewritten": size, "objectSize": size}
        return _answer({**done, "resource": _resource(stored, call.root)})

    async def _copy(self, call: Call) -> Answer:
        return _answer(_resource(self._copied(call), call.root))

    def _copied(self, call: Call) -> StoredObject:
        generation = whole_number(call.query.get("sourceGeneration"), "sourceGeneration")
        conditions = json_conditions(call.query, source=True)
        source = self._state.get(call.bucket, call.name, generation=generation)
        conditions.check(source)
        changes = {key: value for key, value in _json_object(call.body).items() if key in WRITABLE}
        if key := call.query.get("destinationKmsKeyName"):
            changes["kmsKeyName"] = key
        return self._state.copy(source, call.to_bucket, call.to_name, changes, json_conditions(call.query))

    async def _start_upload(self, call: Call) -> Answer:
        fields = _json_object(call.body)
        if content_type := call.headers.get("X-Upload-Content-Type"):
            fields.setdefault("contentType", content_type)
        self._check_upload_fields(call, fields)
        name = _upload_name(call, fields)
        upload_id = self._uploads.start(
            call.bucket,
            name,
            fields=fields,
            conditions=json_conditions(call.query),
            checksums=claimed_checksums(call.headers, fields),
            total=whole_number(call.headers.get("X-Upload-Content-Length"), "X-Upload-Content-Length"),
        )
        place = f"{call.root}{call.path}?uploadType=resumable&name={quote(name, safe='')}&upload_id={upload_id}"
        return Answer(200, b"", [("Location", place), ("X-GUploader-UploadID", upload_id)])

    async def _chunk(self, call: Call) -> Answer:
        stored, persisted = await self._uploads.receive(
            call.query["upload_id"], call.headers.get("Content-Range"), call.body, claimed_checksums(call.headers)
        )
        if stored is not None:
            return _answer(_resource(stored, call.root), ("ETag", stored.etag))
        return Answer(308, b"", [("Range", f"bytes=0-{persisted - 1}")] if persisted else [])

    async def _cancel_upload(self, call: Call) -> Answer:
        self._uploads.cancel(call.query["upload_id"])
        return Answer(499)


def _answer(body: Mapping[str, Any], *headers: tuple[str, str]) -> Answer:
    return Answer(200, json.dumps(body).encode(), [_JSON, *headers])


def _generation(call: Call) -> int | None:
    return whole_number(call.query.get("generation"), "generation")


def _upload_name(call: Call, fields: Mapping[str, Any]) -> str:
    name = fields.get("name") or call.query.get("name") or call.name
    if not name:
        raise ApiError(400, "Required parameter: name")
    return str(name)


def _after(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise ApiError(400, f"Invalid pageToken {token!r}.") from None


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        parsed = json.loads(body)
    except ValueError:
        raise ApiError(400, "Parse Error") from None
    if not isinstance(parsed, dict):
        raise ApiError(400, "Parse Error")
    return parsed


def _multipart_related(call: Call) -> tuple[dict[str, Any], str, bytes]:
    """Return the properties, the content type and the bytes of a multipart/related upload."""
    match = re.search(r'boundary="?([^";,]+)"?', call.headers.get("Content-Type", ""))
    if match is None:
        raise ApiError(400, "Missing boundary in multipart body.")
    delimiter = b"--" + match[1].encode()
    first = call.body.find(delimiter)
    second = call.body.find(b"\r\n" + delimiter, first + len(delimiter))
    last = call.body.rfind(b"\r\n" + delimiter + b"--")
    if min(first, second) < 0 or last <= second:
        raise ApiError(400, "Malformed multipart body.")
    _, metadata = _part(call.body[first + len(delimiter) + 2 : second])
    content_type, data = _part(call.body[second + len(delimiter) + 4 : last])
    return _json_object(metadata), content_type, data


def _part(part: bytes) -> tuple[str, bytes]:
    # A part without headers starts with the empty line itself.
    head, separator, body = (b"", b"\r\n", part[2:]) if part.startswith(b"\r\n") else part.partition(b"\r\n\r\n")
    if not separator:
        raise ApiError(400, "Malformed multipart body.")
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-type":
            return value.strip(), body
    return "", body


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bucket_resource(bucket: Bucket) -> dict[str, Any]:
    created = _stamp(bucket.created)
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "projectNumber": "0",
        "metageneration": str(bucket.metageneration),
        "location": "US",
        "storageClass": "STANDARD",
        "timeCreated": created,
        "updated": created,
        **bucket.fields,
    }


def _resource(stored: StoredObject, root: str) -> dict[str, Any]:
    name = quote(stored.name, safe="")
    link = f"{root}/storage/v1/b/{stored.bucket}/o/{name}"
    download = f"{root}/download/storage/v1/b/{stored.bucket}/o/{name}"
    resource: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": link,
        "mediaLink": f"{download}?generation={stored.generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "size": str(stored.size),
        "crc32c": stored.content.crc32c,
        "etag": stored.etag,
        "timeCreated": _stamp(stored.created),
        "timeFinalized": _stamp(stored.created),
        "timeStorageClassUpdated": _stamp(stored.created),
        "updated": _stamp(stored.updated),
        **stored.fields,
    }
    if stored.content.md5 is not None:
        resource["md5Hash"] = stored.content.md5
    if stored.deleted is not None:
        resource["timeDeleted"] = _stamp(stored.deleted)
    if stored.component_count is not None:
        resource["componentCount"] = stored.component_count
    return resource
