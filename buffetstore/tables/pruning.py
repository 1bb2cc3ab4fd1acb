"""Which data files may hold rows that satisfy a predicate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.expressions import Bounds, Expression, columns_of, may_match

if TYPE_CHECKING:
    import pyarrow as pa


def prune(files: pa.Table, predicate: Expression) -> pa.Table:
    """Return the files that may hold a row for which the predicate is true: a few kernels over all files at once.

    No file with such a row is ever left out. A file whose statistics are absent is kept.
    """
    if not files.num_rows:
        return files
    bounds = {
        name: Bounds(files[f"min.{name}"], files[f"max.{name}"], files[f"null_count.{name}"])
        for name in columns_of(predicate)
        if f"min.{name}" in files.column_names
    }
    return files.filter(may_match(predicate, bounds, files["num_records"]))
