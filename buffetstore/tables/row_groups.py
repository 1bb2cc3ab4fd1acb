"""What of a data file a question needs: all of a small one, column chunks of some row groups of a large one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np

from buffetstore.errors import CorruptFileError, InvalidRangeError
from buffetstore.expressions import columns_of
from buffetstore.formats.chunks import Span, together, within
from buffetstore.formats.footer import contents_of, footer_bytes, parse_footer
from buffetstore.objects.base import ByteRange
from buffetstore.objects.helpers import get_buffer, get_bytes, read_object
from buffetstore.resilience.adaptive import MOST, AdaptivePermits
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

    from buffetstore.expressions import Expression
    from buffetstore.objects.base import Data, ObjectStore

# Measured over HTTP at 30 ms a request, 25 files at once, of which 30 % are needed in two parts: files of 256 KiB take
# as long whole as in parts, of 512 KiB 1.3 times as long, of 2 MiB 2.6 times. One file alone takes a round either way.
WHOLE_BYTES: Final = 512 * 1024  # a smaller file is read whole, in one request
UNKNOWN_WHOLE_BYTES: Final = 2 * 1024 * 1024  # the same, where its footer would have to be read first
WHOLE_SHARE: Final = 0.6  # of a file that is needed, from which on it is read whole
_FOOTER_GUESS: Final = 64 * 1024
_IN_PARTS_FROM: Final = 16 * 1024 * 1024  # bytes: one stream of more than this is slower than several at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read of each file: columns of a table, None being all, of the rows that satisfy a predicate.

    `stored` are the fields of `schema` as files name them. `rows` says that a file's first so many will do, where all
    satisfy the predicate: there may be more in the answer.
    """

    schema: pa.Schema
    stored: pa.Schema | None = None
    columns: Sequence[str] | None = None
    predicate: Expression | None = None
    rows: int | None = None

    @property
    def names(self) -> list[str]:
        """The columns that are read, those that only the predicate needs included."""
        wanted = list(self.schema.names if self.columns is None else self.columns)
        tested = set() if self.predicate is None else columns_of(self.predicate)
        return [*wanted, *sorted(tested - set(wanted))]

    @property
    def is_all(self) -> bool:
        """Whether every byte of a file is needed."""
        return self.predicate is None and self.rows is None and set(self.names) >= set(self.schema.names)

    @property
    def share(self) -> float:
        """A guess at which part of a file is needed, before its footer is known."""
        return min(1.0, 1.5 * len(self.names) / max(len(self.schema), 1))

    def parts(
        self, metadata: pq.FileMetaData, size: int, constants: Mapping[str, pa.Scalar] | None
    ) -> tuple[list[int], list[Span]] | None:
        """Return the row groups that are needed, and where their chunks are; None where all of the file is read."""
        contents = contents_of(metadata, self.schema, self.stored, constants)
        groups = contents.groups(self.predicate)
        if self.rows is not None and self.predicate is None:
            held = np.cumsum([0, *(metadata.row_group(group).num_rows for group in groups)])
            groups = groups[: int(np.searchsorted(held, self.rows))]
        ranges = contents.ranges(self.names, groups)
        is_little = sum(end - start for start, end in together(ranges)) <= WHOLE_SHARE * size
        return (groups, ranges) if is_little else None


class Source(ABC):
    """Where data files come from: the store, or a cache before it. Keys and sizes name files, which never change.

    All of it raises `NotFoundError` where a file is gone and `CorruptFileError` where it has another size.
    """

    in_parts = True

    def held(self, key: str, size: int) -> Data | None:  # noqa: ARG002 - a store holds nothing
        """Return the file if it is in memory."""
        return None

    def footer_held(self, key: str, size: int) -> pq.FileMetaData | None:  # noqa: ARG002 - as `held`
        """Return the file's footer if it is in memory."""
        return None

    def hold_footer(self, key: str, size: int, metadata: pq.FileMetaData) -> None:  # noqa: B027 - nothing need be held
        """Take note of a footer that is known from elsewhere."""

    async def forget(self, key: str, size: int, ranges: Sequence[Span]) -> None:  # noqa: B027 - as `hold_footer`
        """Hold no longer the file and these ranges of it, which are damaged."""

    @abstractmethod
    async def whole(self, key: str, size: int) -> Data:
        """Return the file."""

    @abstractmethod
    async def chunks(self, key: str, size: int, ranges: Sequence[Span]) -> Sequence[Data]:
        """Return the bytes of each of the ranges, which are ascending."""

    @abstractmethod
    async def footer(self, key: str, size: int) -> pq.FileMetaData:
        """Return what the file's footer says."""


class FetchSource(Source):
    """Whole files, by a function."""

    in_parts = False

    def __init__(self, fetch: Callable[[str, int], Awaitable[Data]]) -> None:
        self._fetch = fetch

    async def whole(self, key: str, size: int) -> Data:
        """Return the file."""
        return await self._fetch(key, size)

    async def chunks(self, key: str, size: int, ranges: Sequence[Span]) -> Sequence[Data]:
        """Return parts of the file."""
        held = memoryview(await self._fetch(key, size))
        return [held[start:end] for start, end in ranges]

    async def footer(self, key: str, size: int) -> pq.FileMetaData:
        """Return what the file's footer says."""
        held = memoryview(await self._fetch(key, size))
        return parse_footer(held[-footer_bytes(held) :], size)


class StoreSource(Source):
    """Data files from the store; as many requests at once as it bears, for all who share this."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._permits = AdaptivePermits()

    async def whole(self, key: str, size: int) -> Data:
        """Return the file."""
        async with self._permits.call():
            if size <= _IN_PARTS_FROM:
                data: Data = await get_bytes(self._store, key)
            else:
                data = await get_buffer(self._store, key, size=size)
        if len(data) != size:
            wrong_size(key, len(data), size)
        return data

    async def chunks(self, key: str, size: int, ranges: Sequence[Span]) -> Sequence[Data]:
        """Return the bytes of the ranges; near ones are read together, and all at once."""
        spans = together(ranges)
        bodies = await gather([partial(self._read, key, size, span) for span in spans], limit=MOST)
        return within(ranges, spans, bodies)

    async def footer(self, key: str, size: int) -> pq.FileMetaData:
        """Return what the file's footer says."""
        return parse_footer(await self.raw_footer(key, size), size)

    async def raw_footer(self, key: str, size: int) -> bytes:
        """Return the file's footer: one request, two where it is longer than 64 KiB."""
        start = max(0, size - _FOOTER_GUESS)
        tail = await self._read(key, size, (start, size))
        length = footer_bytes(tail)
        if length > len(tail):
            missing = max(0, size - length)
            tail = (await self._read(key, size, (missing, start)) if missing < start else b"") + tail
        return tail[-length:]

    async def _read(self, key: str, size: int, span: Span) -> bytes:
        try:
            async with self._permits.call():
                meta, data = await read_object(self._store, key, range=ByteRange(*span))
        except InvalidRangeError as error:
            raise CorruptFileError(
                f"it is shorter than the {size} bytes that the table's log says: {error}", key=key
            ) from error
        if meta.size != size or len(data) != span[1] - span[0]:
            wrong_size(key, meta.size, size)
        return data


def wrong_size(key: str, found: int, size: int) -> NoReturn:
    """Raise `CorruptFileError` for a file that is not as long as the log says."""
    raise CorruptFileError(f"it has {found} bytes, the table's log says {size}", key=key)


def is_whole(size: int, wanted: Wanted) -> bool:
    """Return whether a file is read whole, whatever its footer may say."""
    return size <= WHOLE_BYTES or wanted.is_all
