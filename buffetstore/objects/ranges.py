"""Byte ranges: what a range means for an object of a given size, and which ranges are read as one."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.errors import InvalidRangeError, UnavailableError
from buffetstore.objects.base import ByteRange
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.objects.base import Data, ObjectMeta, ObjectStore

NEAR_BYTES = 128 * 1024  # about what one round trip of 1 ms costs at 1 Gbit/s
JOINED_BYTES = 16 * 1024 * 1024  # larger reads are faster as several in parallel


def resolve_range(asked: ByteRange | None, size: int, key: str) -> tuple[int, int]:
    """Return [start, end) of an object of `size` bytes.

    Raises
    ------
    InvalidRangeError
        The range is malformed, empty, or starts at or past the end.
    """
    if asked is None:
        return 0, size
    start, end = asked.start, asked.end
    if start < 0:
        if end is not None:
            raise InvalidRangeError(f"range {start}..{end} of {key!r}: a suffix (negative start) has no end", key=key)
        start = max(0, size + start)
    return checked_range(start, size if end is None else end, size, key)


def checked_range(start: int, end: int, size: int, key: str) -> tuple[int, int]:
    """Return [start, end) with the end cut to `size`; raise `InvalidRangeError` as `resolve_range` does."""
    if start < 0 or (end <= start < size):
        raise InvalidRangeError(f"range {start}..{end} of {key!r} is empty or malformed", key=key)
    if start >= size:
        raise InvalidRangeError(f"range {start}..{end} of {key!r} starts past its end: it has {size} bytes", key=key)
    return start, min(end, size)


def coalesce(
    ranges: Sequence[tuple[int, int]], *, gap: int = NEAR_BYTES, limit: int = JOINED_BYTES
) -> list[tuple[int, int]]:
    """Return the ranges to read, sorted, such that each of `ranges` lies within one of them.

    Neighbours at most `gap` bytes apart are joined while the joined range stays within `limit` bytes.
    """
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined:
            first, last = joined[-1]
            if end <= last:
                continue
            if start <= last + gap and end - first <= limit:
                joined[-1] = (first, end)
                continue
        joined.append((start, end))
    return joined


def cut(ranges: Sequence[tuple[int, int]], joined: Sequence[tuple[int, int]], bodies: Sequence[Data]) -> list[bytes]:
    """Return the bytes of each of `ranges`, in order, out of the `bodies` read for the `joined` ranges.

    A body that is shorter than its range (the object ended) gives shorter bytes.
    """
    starts = [start for start, _ in joined]
    answers = []
    for start, end in ranges:
        # Joined ranges may overlap where `limit` kept them apart: the last that begins early enough may end too early.
        at = bisect_right(starts, start) - 1
        while joined[at][1] < end:
            at -= 1
        offset = start - starts[at]
        whole = (start, end) == joined[at] and isinstance(bodies[at], bytes)
        answers.append(bytes(bodies[at] if whole else memoryview(bodies[at])[offset : offset + end - start]))
    return answers


async def read_ranges(
    store: ObjectStore, key: str, ranges: Sequence[tuple[int, int]], if_match: str | None
) -> list[bytes]:
    """Do `ObjectStore.get_ranges` by `store.get`: near ranges as one, all at once, all of one version.

    Raises
    ------
    UnavailableError
        The object was replaced between two of the requests: read it again.
    """
    for start, end in ranges:
        if start < 0 or end <= start:
            raise InvalidRangeError(f"range {start}..{end} of {key!r} is empty or malformed", key=key)
    if not ranges:
        async with await store.get(key, if_match=if_match, head=True):
            return []
    joined = coalesce(ranges)

    async def read(span: tuple[int, int]) -> tuple[ObjectMeta, bytes]:
        async with await store.get(key, range=ByteRange(*span), if_match=if_match) as result:
            return result.meta, await result.read()

    metas, bodies = zip(*await gather([partial(read, span) for span in joined]), strict=True)
    if len({meta.version for meta in metas}) > 1:
        raise UnavailableError(f"{key!r} in {store.url} was replaced while it was read", key=key)
    return cut([checked_range(start, end, metas[0].size, key) for start, end in ranges], joined, bodies)
