"""Footers of data files that are known without reading the files: what of a large file a question needs.

Files that were added lately carry theirs in the tag `buffetstore.footer` of their `add` action, where it is short.
Those of a checkpoint are in one object, `<table>/_buffetstore/row_groups/<version>-<token>.arrow`, which
`_last_checkpoint` names in its `tags` so that it is read together with the checkpoint. It is eight bytes of magic, the
SHA-256 of the rest, and an Arrow stream (`path`, `size`, `footer`) whose schema metadata has `format_version` (1),
`table_id` and `version`.

All of it is derived: of a file without an entry the footer is read, and what is damaged, of another table, or of a file
of another size is not used.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptFileError, StorageError
from buffetstore.formats.footer import footer_bytes, parse_footer
from buffetstore.tables.row_groups import WHOLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow.parquet as pq

FOOTER_TAG: Final = "buffetstore.footer"
HINT_TAG: Final = "buffetstore.rowGroups"
FORMAT_VERSION: Final = 1
FOLDER: Final = "_buffetstore/row_groups/"
MOST_BYTES: Final = 16 * 1024 * 1024  # of footers in an index; compressed they are about a fifth
_MAGIC: Final = b"BSROWGRP"
_DIGEST_BYTES: Final = 32
_TAG_CHARACTERS: Final = 2560
_SCHEMA: Final = pa.schema([("path", pa.string()), ("size", pa.int64()), ("footer", pa.binary())])


@dataclass(frozen=True, slots=True)
class RowGroupIndex:
    """The footers of some of a table's data files.

    Parameters
    ----------
    name:
        That of its object in `_buffetstore/row_groups/`; None where there is none.
    fault:
        Why the object that there is is not used.
    """

    entries: pa.Table = field(default_factory=_SCHEMA.empty_table)
    table_id: str = ""
    version: int = -1
    name: str | None = None
    fault: str | None = None
    _rows: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def footer(self, path: str, size: int) -> bytes | None:
        """Return the footer of a file; the first call makes an index of paths."""
        if len(self._rows) != self.entries.num_rows:
            self._rows.update((path, row) for row, path in enumerate(self.entries["path"].to_pylist()))
        row = self._rows.get(path)
        if row is None or self.entries["size"][row].as_py() != size:
            return None
        found: bytes = self.entries["footer"][row].as_py()
        return found

    @property
    def paths(self) -> Any:
        """The files."""
        return self.entries["path"]


NO_ROW_GROUPS: Final = RowGroupIndex()


def footer_told(index: RowGroupIndex, file: Mapping[str, Any]) -> pq.FileMetaData | None:
    """Return the footer of a file, a row of a snapshot's files, as far as it is known without reading it."""
    raw = raw_footer(index, file)
    if raw is None:
        return None
    try:
        return parse_footer(raw, file["size"])
    except CorruptFileError:
        return None


def raw_footer(index: RowGroupIndex, file: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of `footer_told`, which may be damaged."""
    found = index.footer(file["path"], file["size"])
    return found if found is not None else footer_of_tag(file["path"], file["size"], file["tags"].get(FOOTER_TAG))


def tag_of_footer(path: str, data: Any) -> dict[str, str]:
    """Return the tag for a data file; none where the file is small, so that it is read whole, or its footer long."""
    if len(data) <= WHOLE_BYTES:
        return {}
    packed = pa.Codec("zstd", compression_level=9).compress(data[-footer_bytes(data) :], asbytes=True)
    text = f"{_check(path, len(data), packed):08x}{footer_bytes(data):08x}{base64.b85encode(packed).decode()}"
    return {FOOTER_TAG: text} if len(text) <= _TAG_CHARACTERS else {}


def footer_of_tag(path: str, size: int, text: str | None) -> bytes | None:
    """Return the footer that a tag has; None where it has none of this file."""
    if text is None:
        return None
    try:
        packed = base64.b85decode(text[16:])
        if int(text[:8], 16) != _check(path, size, packed) or int(text[8:16], 16) > size:
            return None
        return bytes(pa.Codec("zstd").decompress(packed, int(text[8:16], 16), asbytes=True))
    except (ValueError, pa.ArrowException, OSError):
        return None


def _check(path: str, size: int, packed: bytes) -> int:
    return zlib.crc32(packed, zlib.crc32(f"{path}\0{size}".encode("utf-8", "surrogatepass")))


def without_footers(tags: pa.Array) -> pa.Array:
    """Return tags as a checkpoint has them: its index knows the footers."""
    if not pc.any(pc.is_valid(pc.map_lookup(tags, pa.scalar(FOOTER_TAG), "first"))).as_py():
        return tags
    held = [None if each is None else [pair for pair in each if pair[0] != FOOTER_TAG] for each in tags.to_pylist()]
    return pa.array(held, tags.type)


def index_of(footers: Iterable[tuple[str, int, bytes]], table_id: str, version: int, name: str) -> RowGroupIndex:
    """Return the index of these files: path, size and footer of each, the most important first."""
    kept, held = [], 0
    for path, size, footer in footers:
        if held + len(footer) > MOST_BYTES:
            break
        kept.append((path, size, footer))
        held += len(footer)
    columns = zip(*kept, strict=True) if kept else ((), (), ())
    return RowGroupIndex(pa.table([list(each) for each in columns], schema=_SCHEMA), table_id, version, name)


def rendered(index: RowGroupIndex) -> bytes:
    """Return the object's bytes."""
    told = {"format_version": str(FORMAT_VERSION), "table_id": index.table_id, "version": str(index.version)}
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, _SCHEMA.with_metadata(told), options=options) as stream:
        stream.write_table(index.entries.combine_chunks())
    body: bytes = sink.getvalue().to_pybytes()
    return _MAGIC + hashlib.sha256(body).digest() + body


def parsed(data: bytes, name: str) -> RowGroupIndex:
    """Return what an object says; one with a `fault`, and no entries, where it cannot be used."""
    try:
        start = len(_MAGIC) + _DIGEST_BYTES
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : start] != hashlib.sha256(data[start:]).digest():
            return RowGroupIndex(name=name, fault="it is damaged")
        with pa.ipc.open_stream(pa.py_buffer(data)[start:]) as stream:
            told = stream.schema.metadata or {}
            if told.get(b"format_version") != str(FORMAT_VERSION).encode():
                return RowGroupIndex(name=name, fault=f"its format is {told.get(b'format_version')!r}")
            entries = stream.read_all()
        entries.validate(full=True)
        return RowGroupIndex(entries.cast(_SCHEMA), told[b"table_id"].decode(), int(told[b"version"]), name)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        return RowGroupIndex(name=name, fault=f"it cannot be read: {error}")


def of_table(index: RowGroupIndex, table_id: str) -> RowGroupIndex:
    """Return the index if it is of this table."""
    if index.name is None or index.fault is not None or index.table_id == table_id:
        return index
    return RowGroupIndex(name=index.name, fault=f"it is of table {index.table_id!r}")


def unreadable(name: str, error: StorageError) -> RowGroupIndex:
    """Return what stands for an index whose object cannot be had."""
    return RowGroupIndex(name=name, fault=f"it cannot be had: {error}")
