"""The first rows in an order, from the files whose bounds promise the best ones. Pure.

Files are read best first, and no more of them once the last of the rows that are wanted is better than the best that
any file left can hold. Rows that are equal in the column are told apart by others, so a file is left out only where all
of its rows are worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.query.metadata_answers import short_cuts_hold

if TYPE_CHECKING:
    from buffetstore.query.binding import BoundPlan


@dataclass(frozen=True, slots=True)
class TopRows:
    """The first `rows` in the order of `column`, in which no value comes last."""

    column: str
    descending: bool
    rows: int

    @property
    def _bound(self) -> str:
        return f"{'max' if self.descending else 'min'}.{self.column}"

    def best_first(self, files: pa.Table) -> pa.Table:
        """Return the files in the order in which they are read: first those of which no bound is known."""
        if self._bound not in files.column_names:
            return files
        keys = pa.table({"best": files[self._bound], "path": files["path"]})
        order = [("best", "descending" if self.descending else "ascending"), ("path", "ascending")]
        unknown = self._unknown(files)
        keys = keys.append_column("known", pc.cast(pc.invert(unknown), pa.int8()))
        return files.take(pc.sort_indices(keys, sort_keys=[("known", "ascending"), *order]))

    def first_round(self, files: pa.Table) -> int:
        """Return how many of the files have as many rows as are wanted, were no row filtered out."""
        held = pc.cumulative_sum(pc.fill_null(files["num_records"], 0))
        short = pc.sum(pc.cast(pc.less(held, self.rows), pa.int64())).as_py() or 0
        return int(min(short + 1, files.num_rows))

    def unbeaten(self, files: pa.Table, found: pa.Table) -> pa.Table:
        """Return which of the files may hold one of the first rows.

        Parameters
        ----------
        found:
            The first rows of what was read, in their order.
        """
        if found.num_rows < self.rows or self._bound not in files.column_names:
            return files
        last = found[self.column][self.rows - 1]
        if not last.is_valid:
            return files
        better = pc.greater_equal if self.descending else pc.less_equal
        reached = pc.fill_null(better(files[self._bound], last), False)
        return files.filter(pc.or_(reached, self._unknown(files)))

    def _unknown(self, files: pa.Table) -> Any:
        """Return which files may hold a value and tell no bound."""
        empty = pc.fill_null(pc.equal(files[f"null_count.{self.column}"], files["num_records"]), False)
        return pc.and_(pc.is_null(files[self._bound]), pc.invert(empty))


def top_rows(bound: BoundPlan) -> TopRows | None:
    """Return what of a plan's order bounds can be asked for; None where they cannot."""
    shape = bound.shape
    if shape is None or not shape.order_by or shape.limit is None or not short_cuts_hold(bound):
        return None
    if shape.latest is not None or shape.is_grouped or shape.distinct:
        return None
    column, descending = shape.order_by[0]
    converted = bound.conversion.affected if bound.conversion is not None else frozenset()
    if column not in bound.stored or column in converted or column in {each.name for each in shape.computed}:
        return None
    kind = bound.schema.field(column).type
    # NaN is above all numbers and in no bounds.
    if pa.types.is_floating(kind) or pa.types.is_dictionary(kind) or pa.types.is_nested(kind):
        return None
    return TopRows(column, descending, shape.offset + shape.limit)
