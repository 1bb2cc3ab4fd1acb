"""Bytes that come in any pieces, cut to the parts in which a service takes a large object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from buffetstore.objects.base import Data


def parts_of(data: Data, part_bytes: int) -> list[memoryview]:
    """Return `data` in parts, the last of which may be short; nothing is copied."""
    view = memoryview(data)
    return [view[at : at + part_bytes] for at in range(0, len(view), part_bytes)]


async def whole_parts(held: bytearray, data: Data, part_bytes: int) -> tuple[list[memoryview], bytearray]:
    """Return the whole parts that `held` and `data` after it fill, and what is left; together they fill one at least.

    Only what fills the begun part is copied, and the rest: the interpreter stands still while bytes are.
    """
    view = memoryview(data).cast("B")
    missing = -len(held) % part_bytes
    begun = await in_thread(b"".join, [held, view[:missing]])
    end = missing + (len(view) - missing) // part_bytes * part_bytes
    return parts_of(begun, part_bytes) + parts_of(view[missing:end], part_bytes), bytearray(view[end:])
