"""Which data files may hold rows that satisfy a predicate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from buffetstore.expressions import And, Bounds, Expression, columns_of, may_match
from buffetstore.tables.file_table import statistics_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from buffetstore.tables.file_pieces import Piece


def prune(files: pa.Table, predicate: Expression) -> pa.Table:
    """Return the files that may hold a row for which the predicate is true: a few kernels over all files at once.

    No file with such a row is ever left out. A file whose statistics are absent is kept. `files` have their statistics
    as columns: see `Snapshot.with_statistics`; `Snapshot.prune` needs no such table.
    """
    return files.filter(_matching(files, predicate)) if files.num_rows else files


def prune_pieces(
    pieces: Sequence[Piece], predicate: Expression, fields: Sequence[pa.Field], partition_columns: Sequence[str]
) -> list[tuple[Piece, pa.Array]]:
    """Return the pieces with files that may hold such rows, and which rows of them those files are.

    Files that were added together mostly have neighbouring values: pieces are left out whole where they can be.
    """
    if not fields:  # nothing needs to be read to know it of all
        every = _matching(pa.table({"num_records": pa.nulls(1, pa.int64())}), predicate)[0].as_py()
        return [(piece, pa.array(np.arange(piece.batch.num_rows))) for piece in pieces] if every else []
    if not pieces:
        return []
    spans = pa.concat_tables([piece.span(fields, partition_columns) for piece in pieces])
    left = [pieces[int(at)] for at in np.flatnonzero(_matching(spans, predicate))]
    if left and all(pa.types.is_string(field.type) for field in fields):
        rows = _rows_by_texts(left, predicate, fields, partition_columns)
    else:
        rows = [_rows(piece, predicate, fields, partition_columns) for piece in left]
    return [(piece, pa.array(found)) for piece, found in zip(left, rows, strict=True) if len(found)]


def _rows(
    piece: Piece, predicate: Expression, fields: Sequence[pa.Field], partition_columns: Sequence[str]
) -> NDArray[np.int64]:
    known = pa.table(statistics_columns(piece.known(fields, partition_columns)))
    return np.flatnonzero(_matching(known, predicate))


def _rows_by_texts(
    pieces: Sequence[Piece], predicate: Expression, fields: Sequence[pa.Field], partition_columns: Sequence[str]
) -> list[NDArray[np.int64]]:
    """Return the rows of each piece; texts are compared once where many files have the same."""
    sets, own = zip(*(piece.distinct(fields, partition_columns) for piece in pieces), strict=True)
    found = _matching(pa.concat_tables(sets), predicate).to_numpy(zero_copy_only=False)
    parts = np.split(found, np.cumsum([held.num_rows for held in sets])[:-1])
    return [np.flatnonzero(part if codes is None else part[codes]) for part, codes in zip(parts, own, strict=True)]


def _matching(files: pa.Table, predicate: Expression) -> pa.BooleanArray:
    parts = predicate.parts if isinstance(predicate, And) else (predicate,)
    texts = [part for part in parts if _compares_text(part, files)]
    if not texts or len(texts) == len(parts):
        return _may_match(predicate, files)
    # Texts cost ten times as much to compare as numbers: they are compared where the other parts leave a file.
    left = _may_match(And(tuple(part for part in parts if part not in texts)), files)
    held = [name for name in files.column_names if name.partition(".")[2] in columns_of(predicate)]
    some = files.select([*held, "num_records"]).filter(left)
    found = left.to_numpy(zero_copy_only=False).copy()
    found[found] = _may_match(And(tuple(texts)), some).to_numpy(zero_copy_only=False)
    return pa.array(found)


def _may_match(predicate: Expression, files: pa.Table) -> pa.BooleanArray:
    bounds = {
        name: Bounds(files[f"min.{name}"], files[f"max.{name}"], files[f"null_count.{name}"])
        for name in columns_of(predicate)
        if f"min.{name}" in files.column_names
    }
    return may_match(predicate, bounds, files["num_records"])


def _compares_text(part: Expression, files: pa.Table) -> bool:
    held = [f"min.{name}" for name in columns_of(part)]
    return any(name in files.column_names and pa.types.is_string(files.schema.field(name).type) for name in held)
