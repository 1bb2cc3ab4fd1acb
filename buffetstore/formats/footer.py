"""The footer of a Parquet file: what the file holds, where it is, and which row groups a predicate leaves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from buffetstore.errors import CorruptFileError
from buffetstore.expressions import Bounds, columns_of, may_match
from buffetstore.formats.stored import find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.expressions import Expression

MAGIC: Final = b"PAR1"
TRAILER_BYTES: Final = 8  # the length of what is before, and the magic


def footer_bytes(data: Any) -> int:
    """Return how many bytes at the end of a file are its footer, the trailer included.

    Parameters
    ----------
    data:
        The end of the file, its last eight bytes at least.

    Raises
    ------
    CorruptFileError
        It is not the end of a Parquet file.
    """
    end = bytes(memoryview(data)[-TRAILER_BYTES:])
    if len(end) < TRAILER_BYTES or end[4:] != MAGIC:
        raise CorruptFileError(f"the bytes are not a readable Parquet file: they end in {end[-4:]!r}, not in {MAGIC!r}")
    return int.from_bytes(end[:4], "little") + TRAILER_BYTES


def parse_footer(footer: Any, size: int) -> pq.FileMetaData:
    """Return what the footer of a file of `size` bytes says.

    Parameters
    ----------
    footer:
        Exactly the footer, its trailer included.

    Raises
    ------
    CorruptFileError
        It is damaged, or of a file of another size.
    """
    try:
        if footer_bytes(footer) != len(footer):
            raise CorruptFileError("the bytes are not a readable Parquet file: the footer has another length")
        metadata = pq.read_metadata(pa.BufferReader(MAGIC + bytes(footer)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptFileError(f"the bytes are not a readable Parquet file: {error}") from error
    end = size - len(footer)
    for group in range(metadata.num_row_groups):
        held = metadata.row_group(group)
        for leaf in range(held.num_columns):
            start, length = _span(held.column(leaf))
            if not 0 <= start <= start + length <= end:  # an empty chunk may be said to be at 0
                raise CorruptFileError(
                    f"the bytes are not a readable Parquet file: a column is at {start}..{start + length}, "
                    f"and the file has {size} bytes with a footer of {len(footer)}"
                )
    return metadata


def _span(chunk: Any) -> tuple[int, int]:
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return int(start), int(chunk.total_compressed_size)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds of a table's columns.

    Parameters
    ----------
    physical:
        The columns as the file has them.
    schema:
        The columns as the table shows them.
    stored:
        By the table's name for it, the field as files name it.
    constants:
        Columns that have one value in the whole file and are not stored in it.
    """

    metadata: pq.FileMetaData
    physical: pa.Schema
    schema: pa.Schema
    stored: Mapping[str, pa.Field]
    constants: Mapping[str, pa.Scalar]

    def groups(self, predicate: Expression | None) -> list[int]:
        """Return the row groups that may hold a row for which the predicate is true."""
        every = range(self.metadata.num_row_groups)
        if predicate is None:
            return list(every)
        rows = pa.array([self.metadata.row_group(group).num_rows for group in every], pa.int64())
        leaves = _leaves(self.metadata)
        bounds = {name: known for name in columns_of(predicate) if (known := self._bounds(name, leaves)) is not None}
        return [
            group for group, keep in zip(every, may_match(predicate, bounds, rows).to_pylist(), strict=True) if keep
        ]

    def held(self, names: Sequence[str]) -> dict[str, str]:
        """Return the file's name for each of the columns that it stores."""
        named = ((name, find(self.physical, self.stored[name])) for name in names if name not in self.constants)
        return {name: field.name for name, field in named if field is not None}

    def filled(self, names: Sequence[str], groups: Sequence[int]) -> dict[str, str]:
        """Return the same of those that are not null throughout these row groups: others need not be decoded."""
        leaves = _leaves(self.metadata)
        return {name: own for name, own in self.held(names).items() if not self._is_empty(leaves.get(own), groups)}

    def ranges(self, names: Sequence[str], groups: Sequence[int]) -> list[tuple[int, int]]:
        """Return where in the file the columns' chunks in these row groups are, ascending."""
        wanted = set(self.filled(names, groups).values())
        leaves = [leaf for leaf, own in enumerate(_prefixes(self.metadata)) if wanted & own]
        spans = (_span(self.metadata.row_group(group).column(leaf)) for group in groups for leaf in leaves)
        return sorted((start, start + length) for start, length in spans if length)

    def _is_empty(self, leaf: int | None, groups: Sequence[int]) -> bool:
        if leaf is None:
            return False
        chunks = [self.metadata.row_group(group).column(leaf) for group in groups]
        known = [(chunk.num_values, chunk.statistics) for chunk in chunks]
        return all(
            statistics is not None and statistics.has_null_count and statistics.null_count == values
            for values, statistics in known
        )

    def _bounds(self, name: str, leaves: Mapping[str, int]) -> Bounds | None:
        kind = plain(self.schema.field(name).type)
        count = self.metadata.num_row_groups
        if name in self.constants:
            value = self.constants[name]
            same = pa.repeat(value.cast(kind), count)
            return Bounds(same, same, pa.repeat(pa.scalar(0, pa.int64()), count)) if value.is_valid else None
        physical = find(self.physical, self.stored[name])
        leaf = leaves.get(physical.name) if physical is not None else None
        if physical is None or leaf is None:
            return None
        found = [_group_bounds(self.metadata.row_group(group).column(leaf)) for group in range(count)]
        try:
            stored = plain(physical.type)
            low, high = (pa.array([each[at] for each in found], stored).cast(kind) for at in (0, 1))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
        return Bounds(low, high, pa.array([each[2] for each in found], pa.int64()))


def contents_of(
    metadata: pq.FileMetaData, schema: pa.Schema, stored: pa.Schema | None, constants: Mapping[str, pa.Scalar] | None
) -> Contents:
    """Return what a file holds of a table of this schema; `stored` are its fields as files name them."""
    named = dict(zip(schema.names, schema if stored is None else stored, strict=True))
    return Contents(metadata, metadata.schema.to_arrow_schema(), schema, named, constants or {})


def plain(kind: Any) -> Any:
    """Return the type of the values, dictionary-encoded or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _leaves(metadata: pq.FileMetaData) -> dict[str, int]:
    """Return where each column's chunk is in a row group; a nested column has none under its own name."""
    schema = metadata.schema
    return {schema.column(index).path: index for index in range(len(schema))}


def _prefixes(metadata: pq.FileMetaData) -> list[set[str]]:
    """Return for each leaf the names that pyarrow reads it by: a dot in a name counts as a step into it there."""
    found = []
    for index in range(len(metadata.schema)):
        steps = metadata.schema.column(index).path.split(".")
        found.append({".".join(steps[: end + 1]) for end in range(len(steps))})
    return found


def _group_bounds(chunk: Any) -> tuple[Any, Any, int | None]:
    known = chunk.statistics
    if known is None:
        return None, None, None
    nulls = known.null_count if known.has_null_count else None
    try:
        return (known.min, known.max, nulls) if known.has_min_max else (None, None, nulls)
    except (ValueError, pa.ArrowException):  # a foreign writer cut text inside a character
        return None, None, nulls
