"""Types that keep revisions: which rows of a write are new, and which keys a delete concerns. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from buffetstore.expressions import And, Comparison, Expression, IsIn, Or
from buffetstore.tables.matching import first_rows, row_codes, same_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IGNORED = ("created_at", "version")


class Revisions(NamedTuple):
    """The rows of a write that say something new, and what the others are."""

    rows: pa.Table
    inserted: int
    updated: int
    unchanged: int


def new_revisions(rows: pa.Table, latest: pa.Table, key: Sequence[str]) -> Revisions:
    """Return the rows that differ from the latest revision of their key in more than `IGNORED`.

    Parameters
    ----------
    latest:
        The latest revision of each key that may be among the rows', in the same columns.
    """
    codes, stored = row_codes([rows, latest], key)
    size = int(max((found.max() for found in (codes, stored) if len(found)), default=-1)) + 1
    match = first_rows(stored, size)[codes]
    known = match >= 0
    changed = np.zeros(rows.num_rows, np.bool_)
    at, of = pa.array(np.flatnonzero(known)), pa.array(match[known])
    for name in rows.column_names:
        if name not in key and name not in IGNORED:
            changed[known] |= ~same_values(rows[name].take(at), latest[name].take(of))
    keep = ~known | changed
    kept = rows if keep.all() else rows.filter(pa.array(keep))
    updated = int(changed.sum())
    return Revisions(kept, int((~known).sum()), updated, int(known.sum()) - updated)


def keys_predicate(keys: pa.Table) -> Expression:
    """Return the expression that holds for rows with one of these keys: the column of most values as a list."""
    names = sorted(keys.column_names, key=lambda name: len(keys[name].unique()))
    *others, widest = names
    if not others:
        return IsIn(widest, tuple(keys[widest].to_pylist()))
    return Or(tuple(_groups(keys, others, widest)))


def _groups(keys: pa.Table, others: Sequence[str], widest: str) -> Iterator[Expression]:
    groups: list[dict[str, Any]] = keys.group_by(list(others)).aggregate([(widest, "distinct")]).to_pylist()
    for group in groups:
        same = tuple(Comparison(name, "==", group[name]) for name in others)
        yield And((*same, IsIn(widest, tuple(group[f"{widest}_distinct"]))))
