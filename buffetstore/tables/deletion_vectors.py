"""Rows of a data file that were deleted without rewriting it. Source: Delta protocol, "Deletion Vectors"."""

from __future__ import annotations

import base64
import json
import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from buffetstore.errors import CorruptFileError, UnsupportedFeatureError
from buffetstore.tables.log import join

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from buffetstore.objects.base import ObjectStore

_MAGIC = 1681511377  # of a RoaringBitmapArray, the portable form of a bitmap of 64-bit positions
_UUID_CHARACTERS = 20
# Z85 is the Base85 of Python with another order of its digits.
_Z85 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_B85 = bytes.maketrans(_Z85, _B85)


@dataclass(frozen=True, slots=True)
class DeletionVector:
    """Where the positions of a file's deleted rows are, and how many there are."""

    storage: str
    place: str
    offset: int | None
    size: int
    cardinality: int

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DeletionVector:
        """Read the `deletionVector` of an `add` action."""
        return cls(
            body["storageType"],
            body["pathOrInlineDv"],
            body.get("offset"),
            body["sizeInBytes"],
            body["cardinality"],
        )

    @classmethod
    def from_text(cls, text: str) -> DeletionVector:
        """Read what a snapshot's file table holds."""
        return cls.from_json(json.loads(text))


async def read_positions(store: ObjectStore, path: str, vector: DeletionVector, file: str) -> NDArray[np.int64]:
    """Return the positions of the deleted rows, ascending: no request where they stand in the log, else one.

    Raises
    ------
    CorruptFileError
        The bytes are damaged, or do not hold as many positions as the log says.
    UnsupportedFeatureError
        The vector is outside of the table.
    """
    where = f"the deletion vector of {file!r} in table {path!r}"
    try:
        if vector.storage == "i":
            data: bytes | memoryview = _unquoted(vector.place)
        else:
            data = await _stored(store, vector_key(path, vector, where), vector)
        found = _positions(memoryview(data))
    except (ValueError, struct.error, IndexError, AssertionError) as error:
        raise CorruptFileError(f"{where} cannot be read: {error}", key=join(path, file)) from error
    if len(found) != vector.cardinality:
        raise CorruptFileError(
            f"{where} has {len(found)} positions, the log says {vector.cardinality}", key=join(path, file)
        )
    return found


def vector_key(path: str, vector: DeletionVector, where: str) -> str:
    """Return the key of the file that holds a stored vector.

    Raises
    ------
    UnsupportedFeatureError
        It is outside of the table.
    """
    if vector.storage != "u":
        raise UnsupportedFeatureError(f"{where} is outside of the table, at {vector.place!r}: it is not read", key=path)
    prefix, name = vector.place[:-_UUID_CHARACTERS], vector.place[-_UUID_CHARACTERS:]
    file = f"deletion_vector_{uuid.UUID(bytes=_unquoted(name))}.bin"
    return join(path, f"{prefix}/{file}" if prefix else file)


async def _stored(store: ObjectStore, key: str, vector: DeletionVector) -> memoryview:
    # A size, the bytes, and their CRC; before the first of them in the file is a version byte.
    start = vector.offset if vector.offset is not None else 1
    (data,) = await store.get_ranges(key, [(start, start + 4 + vector.size + 4)])
    (size,), (crc,) = struct.unpack_from(">i", data), struct.unpack_from(">I", data, 4 + vector.size)
    body = memoryview(data)[4 : 4 + vector.size]
    if size != vector.size:
        raise ValueError(f"{key!r} has {size} bytes at {start}, the log says {vector.size}")
    if zlib.crc32(body) != crc:
        raise ValueError(f"the bytes in {key!r} do not have their CRC")
    return body


def _unquoted(text: str) -> bytes:
    return base64.b85decode(text.encode("ascii").translate(_TO_B85))


def _positions(data: memoryview) -> NDArray[np.int64]:
    magic, count = struct.unpack_from("<iq", data)
    if magic != _MAGIC:
        raise ValueError(f"the magic number is {magic}, not {_MAGIC}")
    found, at = [np.empty(0, np.int64)], 12
    for _ in range(count):
        (high,) = struct.unpack_from("<I", data, at)
        low, at = _bitmap(data, at + 4)
        found.append(low.astype(np.int64) + (high << 32))
    return np.concatenate(found)


# https://github.com/RoaringBitmap/RoaringFormatSpec
_NO_RUNS, _RUNS = 12346, 12347
_SMALL = 4  # with runs and fewer containers than this, there are no offsets
_ARRAY_LIMIT = 4096
_BITMAP_BYTES = 8192


def _bitmap(data: memoryview, at: int) -> tuple[NDArray[np.int64], int]:
    """Return the values of one 32-bit Roaring bitmap, ascending, and where it ends."""
    (cookie,) = struct.unpack_from("<I", data, at)
    at += 4
    runs = np.zeros(0, np.bool_)
    if cookie & 0xFFFF == _RUNS:
        count = (cookie >> 16) + 1
        size = (count + 7) // 8
        runs = np.unpackbits(np.frombuffer(data, np.uint8, size, at), bitorder="little")[:count].astype(np.bool_)
        at += size
    elif cookie == _NO_RUNS:
        (count,) = struct.unpack_from("<I", data, at)
        at += 4
    else:
        raise ValueError(f"the cookie of a bitmap is {cookie}")
    heads = np.frombuffer(data, "<u2", 2 * count, at).astype(np.int64).reshape(count, 2)
    at += 4 * count
    if not len(runs) or count >= _SMALL:
        at += 4 * count  # offsets of the containers, which follow each other anyhow
    found = [np.empty(0, np.int64)]
    for index, (key, less_one) in enumerate(heads.tolist()):
        values, at = _container(data, at, less_one + 1, is_run=bool(len(runs)) and bool(runs[index]))
        found.append(values + (key << 16))
    return np.concatenate(found), at


def _container(data: memoryview, at: int, cardinality: int, *, is_run: bool) -> tuple[NDArray[np.int64], int]:
    if is_run:
        (count,) = struct.unpack_from("<H", data, at)
        pairs = np.frombuffer(data, "<u2", 2 * count, at + 2).astype(np.int64).reshape(count, 2)
        spans = [np.arange(start, start + length + 1, dtype=np.int64) for start, length in pairs.tolist()]
        return np.concatenate(spans or [np.empty(0, np.int64)]), at + 2 + 4 * count
    if cardinality <= _ARRAY_LIMIT:
        return np.frombuffer(data, "<u2", cardinality, at).astype(np.int64), at + 2 * cardinality
    bits = np.unpackbits(np.frombuffer(data, np.uint8, _BITMAP_BYTES, at), bitorder="little")
    return np.flatnonzero(bits).astype(np.int64), at + _BITMAP_BYTES
