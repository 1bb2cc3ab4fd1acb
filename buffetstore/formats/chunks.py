"""Parts of a file: which to ask for together, and reading a file of which only they are there. Pure."""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from buffetstore.errors import CorruptFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.parquet as pq

Data = bytes | bytearray | memoryview
Span = tuple[int, int]

NEAR_BYTES: Final = 256 * 1024  # a gap that costs less than another request
WASTE: Final = 0.4  # of the bytes that are wanted, at most, may be read for nothing
PART_BYTES: Final = 8 * 1024 * 1024  # longer reads are faster as several at once


@dataclass(frozen=True, slots=True)
class Chunks:
    """Some ranges of a file of `size` bytes: ascending, none within another; `bodies` are their bytes.

    `groups` are the row groups that are there; None are those that the predicate leaves.
    """

    metadata: pq.FileMetaData
    size: int
    spans: Sequence[Span]
    bodies: Sequence[Data]
    groups: Sequence[int] | None = None

    def read(self, start: int, length: int) -> memoryview:
        """Return so many bytes from there.

        Raises
        ------
        CorruptFileError
            They are not among the ranges.
        """
        at = bisect_right(self.spans, (start, self.size + 1)) - 1
        if at < 0 or start + length > self.spans[at][1]:
            raise CorruptFileError(f"bytes {start}..{start + length} are not in what the footer says is needed")
        offset = start - self.spans[at][0]
        return memoryview(self.bodies[at])[offset : offset + length]


class ChunkFile(io.RawIOBase):
    """The ranges as a file, whose other bytes cannot be read."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__()
        self._chunks = chunks
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._chunks.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> memoryview:
        """Return the bytes, which are not copied."""
        length = self._chunks.size - self._at if size is None or size < 0 else size
        found = self._chunks.read(self._at, length)
        self._at += length
        return found


def together(ranges: Sequence[Span]) -> list[Span]:
    """Return what to ask for, so that each of the ranges, which are ascending, is within one of the answers.

    The nearest neighbours are joined first, as long as few bytes are read that nobody wants.
    """
    if not ranges:
        return []
    gaps = [(after[0] - before[1], at) for at, (before, after) in enumerate(pairwise(ranges))]
    spare = int(WASTE * sum(end - start for start, end in ranges))
    joined = set()
    for gap, at in sorted(gaps):
        if gap > min(NEAR_BYTES, spare):
            break
        spare -= max(gap, 0)
        joined.add(at)
    found: list[Span] = []
    for at, (start, end) in enumerate(ranges):
        if at and (at - 1 in joined) and end - found[-1][0] <= PART_BYTES:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def within(ranges: Sequence[Span], spans: Sequence[Span], bodies: Sequence[Data]) -> list[memoryview]:
    """Return the bytes of each range out of the answers for `spans`, not copied."""
    starts = [start for start, _ in spans]
    found = []
    for start, end in ranges:
        at = bisect_right(starts, start) - 1
        found.append(memoryview(bodies[at])[start - starts[at] : end - starts[at]])
    return found
