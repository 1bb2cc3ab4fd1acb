"""Listings in the order of UTF-8 bytes, out of the orders that the service has."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.objects.base import ObjectMeta

_SURROGATES = "\ud7ff"  # what sorts after it may sort otherwise as UTF-16


class ByteOrder:
    """Puts a listing into the order of UTF-8 bytes while it streams, holding back no more than has to wait.

    A flat namespace sorts by units of UTF-16: a character beyond U+FFFF comes before U+E000 to U+FFFF. A hierarchical
    one sorts folder by folder: `a/b` comes before `a-b`, so that a folder at the top of the listing is held back until
    it is complete.

    Parameters
    ----------
    prefix:
        What all keys begin with.
    is_hierarchical:
        The account has a hierarchical namespace.
    """

    def __init__(self, prefix: str, *, is_hierarchical: bool = False) -> None:
        self._from = len(prefix)
        self._is_hierarchical = is_hierarchical
        self._held: list[tuple[bytes, int, ObjectMeta]] = []
        self._numbers = count()

    def add(self, meta: ObjectMeta) -> Iterator[ObjectMeta]:
        """Take the next object of the listing; yield those that nothing to come can precede."""
        heapq.heappush(self._held, (meta.key.encode(), next(self._numbers), meta))
        while self._held and not self._may_be_preceded(self._held[0][2].key, meta.key):
            yield heapq.heappop(self._held)[2]

    def rest(self) -> Iterator[ObjectMeta]:
        """Yield what was held back, as the listing is over."""
        while self._held:
            yield heapq.heappop(self._held)[2]

    def _may_be_preceded(self, key: str, latest: str) -> bool:
        """Whether a key that the listing has after `latest` may sort before `key`."""
        if not self._is_hierarchical and (key.isascii() or max(key) <= "\uffff"):
            return False
        # Only a character after all that the two have in common, or within that, can be another one in what comes.
        for at in range(self._from, len(key)):
            there = latest[at : at + 1]
            if key[at] > "\uffff" or (self._is_hierarchical and key[at] == "/" and there <= "/"):
                return True
            if there != key[at]:
                return False
        return False


def start_from(prefix: str, after: str) -> str:
    """Return where the service may begin, in either of its orders, to miss no key after `after`; empty: at the start.

    >>> start_from("log/", "log/000123.json")
    'log/000123'
    """
    if not after.startswith(prefix):
        return ""
    end = len(prefix)
    while end < len(after) and "/" <= after[end] <= _SURROGATES:
        end += 1
    return after[:end] if end > len(prefix) else ""
