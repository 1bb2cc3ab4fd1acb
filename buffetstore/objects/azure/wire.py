"""What headers and listings say about blobs, and how attributes are told."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from xml.etree.ElementTree import Element, fromstring

from buffetstore.errors import InvalidInputError, NotFoundError, PreconditionFailedError, UnavailableError
from buffetstore.objects.base import Attributes, Checksum, ObjectMeta, ObjectVersion
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.objects.azure.errors import Call
    from buffetstore.objects.base import Data, PutMode

INLINE_BYTES = 64 * 1024  # below this, handing work to a thread costs more than the work
_META = "x-ms-meta-"
_NAME = re.compile(r"[a-z0-9-]+")
# Metadata travels in headers: what is not printable ASCII is percent-encoded, and so is the percent sign.
_PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) != "%") + " "
_DEFAULT_TYPE = "application/octet-stream"


def metadata_name(name: str) -> str:
    """Return what a metadata entry is called in Azure, where names are identifiers of C#: no hyphen, no first digit.

    >>> metadata_name("run-id"), metadata_name("1st"), plain_name(metadata_name("1st"))
    ('run_id', '_1st', '1st')
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"metadata name {name!r}: only lower case letters, digits and hyphens are allowed")
    told = name.replace("-", "_")
    return f"_{told}" if told[0].isdigit() or told[0] == "_" else told


def plain_name(told: str) -> str:
    """Return the name that `metadata_name` made `told` of."""
    return told.removeprefix("_").replace("_", "-")


def described(attributes: Attributes) -> dict[str, str]:
    """Return the headers that store `attributes`."""
    for told in (attributes.content_type, attributes.storage_class or ""):
        if not told.isascii() or not told.isprintable():
            raise InvalidInputError(f"{told!r} cannot be a content type or a storage class: it is not printable ASCII")
    headers = {"x-ms-blob-content-type": attributes.content_type}
    for name, value in attributes.metadata.items():
        headers[_META + metadata_name(name)] = quote(value.strip(), safe=_PLAIN)
    if attributes.storage_class is not None:
        headers["x-ms-access-tier"] = attributes.storage_class
    return headers


def condition_of(mode: PutMode, key: str) -> dict[str, str]:
    """Return the headers of a write under `mode`."""
    if mode.kind == "create":
        return {"if-none-match": "*"}
    return {"if-match": quoted(mode.version, key)} if mode.kind == "update" and mode.version is not None else {}


def quoted(version: str, key: str) -> str:
    """Return the ETag that a version is."""
    if not re.fullmatch(r"[!#-~]+", version):
        raise PreconditionFailedError(f"{key!r} cannot have the version {version!r}: it is no ETag", key=key)
    return f'"{version}"'


def md5_of(data: Data) -> str:
    """Return the MD5 as headers have it; of a large body, call it in a thread."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def written(
    headers: Mapping[str, str], key: str, size: int, attributes: Attributes, call: Call, md5: str
) -> ObjectMeta:
    """Return the metadata of what was just written."""
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    if not etag or not modified:
        raise UnavailableError(f"{call.where}: the answer has no ETag, it may have failed", key=key, ambiguous=True)
    return ObjectMeta(key, size, etag.strip('"'), moment(modified), attributes, Checksum("md5", md5) if md5 else None)


@dataclass(frozen=True, slots=True)
class Received:
    """What the headers of a GET or HEAD say; `span` is what is sent, `md5` is of just that, where the service says."""

    meta: ObjectMeta
    span: tuple[int, int]
    md5: str | None


def received(headers: Mapping[str, str], key: str, url: str, *, is_part: bool) -> Received:
    """Return an object's metadata and what of it is sent."""
    size = int(headers["Content-Length"])
    span = (0, size)
    if is_part:
        sent, _, total = headers["Content-Range"].removeprefix("bytes ").partition("/")
        first, _, last = sent.partition("-")
        size, span = int(total), (int(first), int(last) + 1)
    lowered = ((name.lower(), value) for name, value in headers.items())
    told = {name[len(_META) :]: value for name, value in lowered if name.startswith(_META)}
    if told.get("hdi_isfolder") == "true":  # a directory of a hierarchical namespace
        raise NotFoundError(f"there is no object {key!r} in {url}: it is a directory", key=key)
    attributes = Attributes(
        headers.get("Content-Type") or _DEFAULT_TYPE,
        {plain_name(name): unquote(value) for name, value in told.items()},
        headers.get("x-ms-access-tier"),
    )
    whole = headers.get("x-ms-blob-content-md5") if is_part else headers.get("Content-MD5")
    meta = ObjectMeta(
        key,
        size,
        headers["ETag"].strip('"'),
        moment(headers["Last-Modified"]),
        attributes,
        Checksum("md5", whole) if whole else None,
    )
    return Received(meta, span, headers.get("Content-MD5"))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing."""

    objects: list[ObjectMeta]
    versions: list[ObjectVersion]
    prefixes: list[str]
    marker: str
    is_hierarchical: bool


async def page_of(body: bytes) -> Page:
    """Return what a listing says; thousands of entries are read off the event loop."""
    return _page(body) if len(body) <= INLINE_BYTES else await in_thread(_page, body)


def _page(body: bytes) -> Page:
    root = fromstring(body)  # noqa: S314 - of the service that has the data; expat bounds what entities may grow to
    blobs = root.find("Blobs")
    if blobs is None:
        raise ValueError("no <Blobs> in a listing")
    objects: list[ObjectMeta] = []
    versions: list[ObjectVersion] = []
    kinds = set()
    for blob in blobs.iterfind("Blob"):
        key, kind = _name(blob), blob.findtext("Properties/ResourceType")
        kinds.add(kind)
        # Folders of a hierarchical namespace, and the markers that tools make: no key of ours can be one.
        if kind == "directory" or key.endswith("/"):
            continue
        meta = _listed(blob, key)
        objects.append(meta)
        current = blob.findtext("IsCurrentVersion") == "true"
        versions.append(ObjectVersion(meta, blob.findtext("VersionId") or "", current))
    prefixes = [_name(prefix) for prefix in blobs.iterfind("BlobPrefix")]
    return Page(objects, versions, prefixes, root.findtext("NextMarker") or "", bool(kinds - {None}))


def _name(entry: Element) -> str:
    name = entry.find("Name")
    assert name is not None, "every entry has one"
    text = name.text or ""
    return unquote(text) if name.get("Encoded") == "true" else text


def _listed(blob: Element, key: str) -> ObjectMeta:
    told = {child.tag: child.text or "" for child in blob.iterfind("Properties/*")}
    md5 = told.get("Content-MD5")
    return ObjectMeta(
        key,
        int(told["Content-Length"]),
        told["Etag"].strip('"'),
        moment(told["Last-Modified"]),
        checksum=Checksum("md5", md5) if md5 else None,
    )


@lru_cache(maxsize=1024)
def moment(text: str) -> datetime:
    """Return a time of a header; objects written together share their second, and parsing is slow."""
    return parsedate_to_datetime(text).astimezone(UTC)
