"""The few XML documents of S3: read into plain values, written by hand."""

# ruff: noqa: S314 - expat bounds what entities expand to since 2.4, and the service is trusted with the data

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_plus
from xml.etree.ElementTree import ParseError, XMLParser
from xml.sax.saxutils import escape

from buffetstore.objects.base import ObjectMeta, ObjectVersion
from buffetstore.resilience.threads import give_way, in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree.ElementTree import Element

__all__ = ["ParseError"]

_NAMESPACE = re.compile(rb"""\sxmlns\s*=\s*("[^"]*"|'[^']*')""")
# Before and after the declaration (which says UTF-8, as no declaration does) a slow answer keeps sending blanks.
_PROLOG = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?\s*")
_HEAD_BYTES = 1024  # where the root element is
_PIECE_BYTES = 64 * 1024  # parsed in about a millisecond, during which nobody else runs
_YIELD_EVERY = 256


class Page(NamedTuple):
    """One page of a listing; `marks` is what the next one is asked for with, None after the last."""

    objects: Sequence[ObjectMeta]
    prefixes: Sequence[str]
    marks: Sequence[tuple[str, str]] | None


class VersionsPage(NamedTuple):
    """One page of versions; `marks` as in `Page`."""

    versions: Sequence[ObjectVersion]
    marks: Sequence[tuple[str, str]] | None


def tree(body: bytes) -> Element:
    """Return the root, whose names have no namespace; `ParseError` if there is none."""
    body = _after_prolog(body)
    parser = XMLParser()
    parser.feed(_NAMESPACE.sub(b"", body[:_HEAD_BYTES]))
    for at in range(_HEAD_BYTES, len(body), _PIECE_BYTES):
        parser.feed(body[at : at + _PIECE_BYTES])
        give_way()
    root: Element = parser.close()
    return root


def error_of(body: bytes) -> tuple[str, str] | None:
    """Return the code and the message if the document is an error."""
    if not _after_prolog(body).startswith(b"<Error"):
        return None
    root = tree(body)
    return (root.findtext("Code") or "", root.findtext("Message") or "") if root.tag == "Error" else None


def _after_prolog(body: bytes) -> bytes:
    found = _PROLOG.match(body)
    return body[found.end() :] if found else body


async def page_of(body: bytes, cut: int) -> Page:
    """Return a listing; the first `cut` characters of each key are the store's own prefix."""
    return _page(body, cut) if len(body) <= _PIECE_BYTES else await in_thread(_page, body, cut)


async def versions_of(body: bytes, cut: int) -> VersionsPage:
    """Return a listing of versions, as `page_of` does."""
    return _versions(body, cut) if len(body) <= _PIECE_BYTES else await in_thread(_versions, body, cut)


def _page(body: bytes, cut: int) -> Page:
    root = tree(body)
    is_encoded = root.findtext("EncodingType") == "url"
    objects = []
    for number, entry in enumerate(root.iterfind("Contents")):
        values = {field.tag: field.text or "" for field in entry}
        key = _decoded(values["Key"], is_encoded)
        # Consoles make folders by empty objects whose key ends with a slash: no key of ours can.
        if not key.endswith("/"):
            objects.append(_meta(key[cut:], values))
        if not number % _YIELD_EVERY:
            give_way()
    prefixes = [_decoded(each.text or "", is_encoded)[cut:] for each in root.iterfind("CommonPrefixes/Prefix")]
    token = root.findtext("NextContinuationToken")
    is_last = root.findtext("IsTruncated") != "true" or not token
    return Page(objects, prefixes, None if is_last else [("continuation-token", token or "")])


def _versions(body: bytes, cut: int) -> VersionsPage:
    root = tree(body)
    is_encoded = root.findtext("EncodingType") == "url"
    versions = []
    for entry in root:
        if entry.tag not in {"Version", "DeleteMarker"}:
            continue
        values = {field.tag: field.text or "" for field in entry}
        key = _decoded(values["Key"], is_encoded)
        if not key.endswith("/"):
            is_deletion = entry.tag == "DeleteMarker"
            meta = _meta(key[cut:], {"Size": "0", "ETag": ""} | values if is_deletion else values)
            versions.append(ObjectVersion(meta, values["VersionId"], values["IsLatest"] == "true", is_deletion))
    # Some services list deletions apart from versions: the order of AWS is by key, the newest first.
    versions.sort(key=_order)
    marks = [("key-marker", _decoded(root.findtext("NextKeyMarker") or "", is_encoded))]
    if version_mark := root.findtext("NextVersionIdMarker"):
        marks.append(("version-id-marker", version_mark))
    return VersionsPage(versions, marks if root.findtext("IsTruncated") == "true" and marks[0][1] else None)


def _order(version: ObjectVersion) -> tuple[bytes, bool, float]:
    return version.meta.key.encode(), not version.is_current, -version.meta.last_modified.timestamp()


def _meta(key: str, values: dict[str, str]) -> ObjectMeta:
    modified = datetime.fromisoformat(values["LastModified"])
    return ObjectMeta(key, int(values["Size"]), values["ETag"].strip('"'), modified)


def _decoded(text: str, is_encoded: bool) -> str:
    return unquote_plus(text) if is_encoded else text


def deletion(names: Iterable[str]) -> bytes:
    """Return the document that deletes `names`, and is answered by failures alone."""
    entries = "".join(f"<Object><Key>{escape(name)}</Key></Object>" for name in names)
    return f"<Delete>{entries}<Quiet>true</Quiet></Delete>".encode()


def failures_of(body: bytes) -> list[tuple[str, str, str]]:
    """Return key, code and message of each entry of a batch that failed."""
    return [
        (each.findtext("Key") or "", each.findtext("Code") or "", each.findtext("Message") or "")
        for each in tree(body).iterfind("Error")
    ]


def completion(parts: Iterable[dict[str, str]]) -> bytes:
    """Return the document that joins `parts`."""
    entries = "".join(
        f"<Part>{''.join(f'<{name}>{escape(value)}</{name}>' for name, value in part.items())}</Part>" for part in parts
    )
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{entries}</CompleteMultipartUpload>'.encode()


def fields_of(body: bytes) -> dict[str, str]:
    """Return the root's direct children by name; none if the body is empty."""
    return {field.tag: field.text or "" for field in tree(body)} if body.strip() else {}
