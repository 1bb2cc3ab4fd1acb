"""Checks that compare rows with other rows: keys that are there twice, values that name nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from buffetstore.schemas.quality import Duplicates, Referential
from buffetstore.storage.quality.tally import Tally
from buffetstore.storage.quality.window import DAY

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from buffetstore.schemas.contract import Contract
    from buffetstore.storage.quality.window import Window


class DuplicatesTally(Tally[Duplicates]):
    """Counts rows whose key another row of the window has: no key is in two windows."""

    def __init__(self, check: Duplicates, contract: Contract, bound: float) -> None:
        super().__init__(check, contract, bound)
        self._key = (*contract.key, "created_at") if contract.revisions == "keep" else contract.key

    def columns(self) -> set[str]:
        """Return the columns that it needs."""
        return set(self._key)

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        codes = window.codes(self._key)
        order = np.argsort(codes, kind="stable")
        again = np.zeros(window.rows, np.bool_)
        again[order[1:]] = codes[order[1:]] == codes[order[:-1]]
        self.rows += window.rows
        self.tell_rows(window, np.flatnonzero(again))


class ReferentialTally(Tally[Referential]):
    """Looks up pairs of value and UTC day.

    `known` is put in place before each window: the pairs that there are in the other data type.
    """

    def __init__(self, check: Referential, contract: Contract, bound: float) -> None:
        super().__init__(check, contract, bound)
        self.known: AbstractSet[tuple[object, int]] = frozenset()

    def observe(self, window: Window) -> None:
        """Count the pairs of the next window."""
        if self.bound is None:  # there is nothing to look them up in
            return
        pairs = pairs_of(window.array(self.check.column), window.days)
        for value, day in sorted(pairs, key=lambda pair: pair[::-1]):
            self.rows += 1
            if (value, day) not in self.known:
                self.failed += 1
                shown = window.shown((self.check.column,), (value,))
                self.tell([shown | {"day": str(np.datetime64(day, "D"))}])

    @property
    def counted(self) -> str:
        """What `rows` counts."""
        return f"pairs of {self.check.column} and day"

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"{self.check.column} is null in every row"


def pairs_of(values: pa.Array, days: np.ndarray) -> set[tuple[object, int]]:
    """Return the distinct pairs of a value that is not null and a day."""
    table = pa.table({"value": values, "day": pa.array(days)}).group_by(["value", "day"], use_threads=False)
    found = table.aggregate([]).to_pydict()
    return {(value, day) for value, day in zip(found["value"], found["day"], strict=True) if value is not None}


def range_of(days: np.ndarray) -> tuple[int, int]:
    """Return the first moment of the first day, and the first after the last (microseconds, UTC)."""
    return int(days.min()) * DAY, (int(days.max()) + 1) * DAY
