"""Which data files may hold rows that satisfy a predicate."""

from __future__ import annotations

import pyarrow as pa

from buffetstore.expressions import And, Bounds, Expression, columns_of, may_match


def prune(files: pa.Table, predicate: Expression) -> pa.Table:
    """Return the files that may hold a row for which the predicate is true: a few kernels over all files at once.

    No file with such a row is ever left out. A file whose statistics are absent is kept.
    """
    if not files.num_rows:
        return files
    parts = predicate.parts if isinstance(predicate, And) else (predicate,)
    texts = [part for part in parts if _compares_text(part, files)]
    if not texts or len(texts) == len(parts):
        return files.filter(_may_match(predicate, files))
    # Texts cost ten times as much to compare as numbers: they are compared where the other parts leave a file.
    left = _may_match(And(tuple(part for part in parts if part not in texts)), files)
    held = [name for name in files.column_names if name.partition(".")[2] in columns_of(predicate)]
    some = files.select([*held, "num_records"]).filter(left)
    found = left.to_numpy(zero_copy_only=False).copy()
    found[found] = _may_match(And(tuple(texts)), some).to_numpy(zero_copy_only=False)
    return files.filter(pa.array(found))


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
