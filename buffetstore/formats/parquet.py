"""Arrow tables to Parquet bytes and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from buffetstore.errors import ConfigurationError, CorruptFileError, InvalidQueryError, StorageError
from buffetstore.expressions import Expression, columns_of, filter_rows
from buffetstore.formats.chunks import ChunkFile, Chunks
from buffetstore.formats.compression import COMPRESSIONS, Compression, choose_codec, encodings
from buffetstore.formats.footer import Contents, contents_of, plain
from buffetstore.formats.statistics import MAX_COLUMNS, statistics_json
from buffetstore.formats.stored import align
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MIN_ROW_GROUP_ROWS = 50_000
_LEVELS = {"zstd": 1, "gzip": 6}


@dataclass(frozen=True, slots=True)
class Encoded:
    """One Parquet file in memory. `statistics` is Delta's JSON about its columns."""

    data: memoryview
    rows: int
    statistics: str

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.data.nbytes


@dataclass(frozen=True, slots=True)
class ParquetFormatter:
    """Parquet with an encoding chosen for each column from its type and values.

    Parameters
    ----------
    compression:
        The codec; `auto` picks one from the data.
    level:
        The codec's own level, where it has levels; None takes a quick one.
    row_group_rows:
        Rows in a row group, at least 50,000: small groups make whole scans slow.
    statistics_columns:
        How many columns, from the first, have statistics; or the names of those that have.

    Raises
    ------
    ConfigurationError
        An unknown codec, or row groups that are too small.

    >>> formatter = ParquetFormatter()
    >>> formatter.decode(formatter.encode(pa.table({"x": [1, 2]})).data).to_pydict()
    {'x': [1, 2]}
    """

    compression: Compression = "zstd"
    level: int | None = None
    row_group_rows: int = 131_072
    statistics_columns: int | tuple[str, ...] = MAX_COLUMNS

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise ConfigurationError(f"compression {self.compression!r} is not one of {', '.join(COMPRESSIONS)}")
        if self.row_group_rows < MIN_ROW_GROUP_ROWS:
            raise ConfigurationError(
                f"row_group_rows is {self.row_group_rows}: at least {MIN_ROW_GROUP_ROWS} are needed"
            )

    def encode(self, table: pa.Table) -> Encoded:
        """Return the table as one Parquet file. Of more than a few rows call `aencode` instead: this blocks."""
        codec = choose_codec(table) if self.compression == "auto" else self.compression
        dictionaries, others = encodings(table)
        # Groups of equal size, so that no small one is left at the end.
        groups = max(1, table.num_rows // self.row_group_rows)
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            row_group_size=max(1, -(-table.num_rows // groups)),
            compression=codec,
            compression_level=(_LEVELS.get(codec) if self.level is None else self.level) if codec in _LEVELS else None,
            use_dictionary=dictionaries or False,
            column_encoding=others or None,
            store_decimal_as_integer=True,
            write_statistics=True,
            write_page_checksum=True,
        )
        statistics = statistics_json(table, columns=self.statistics_columns)
        return Encoded(memoryview(sink.getvalue()), table.num_rows, statistics)

    def decode(
        self,
        data: Any,
        columns: Sequence[str] | None = None,
        predicate: Expression | None = None,
        *,
        schema: pa.Schema | None = None,
        constants: Mapping[str, pa.Scalar] | None = None,
        stored: pa.Schema | None = None,
        deleted: NDArray[np.int64] | None = None,
    ) -> pa.Table:
        """Return the rows of a Parquet file that satisfy the predicate.

        Row groups that cannot hold such a row are not decoded.

        Parameters
        ----------
        data:
            The whole file, as bytes or anything with the buffer protocol; or the parts of it that are needed, of which
            `buffetstore.formats.footer.Contents.ranges` says which they are.
        columns:
            The columns to return, in this order; all where None.
        schema:
            What the rows should look like: columns that the file lacks come as null, others are cast. Text that is
            asked for dictionary-encoded is not decoded to plain text first, which is much quicker.
        constants:
            Columns that have one value in the whole file and are not stored in it.
        stored:
            The fields of `schema`, in its order and nested alike, as files name them; an id
            (`buffetstore.formats.stored.FIELD_ID`) goes before a name. By default files use the schema's own names.
        deleted:
            Positions of rows, counted from the start of the file and ascending, that are not there any more.

        Raises
        ------
        CorruptFileError
            The bytes are no Parquet file, or a damaged one.
        InvalidQueryError
            A column is neither in the file nor in the schema, or does not compare with its value.
        """
        constants = constants or {}
        try:
            metadata, source = _opened(data)
            shown = schema if stored is None else stored
            coded = {
                named.name for named, field in zip(shown or (), schema or (), strict=True) if _is_coded(field.type)
            }
            if predicate is not None:  # filtered by code first, so that only what is left becomes text
                coded |= _coded_in_file(metadata)
            with _file(source, metadata, sorted(coded)) as file:
                shape = schema if schema is not None else _with_constants(file, constants)
                contents = contents_of(metadata, shape, stored, constants)
                groups = data.groups if isinstance(data, Chunks) else None
                return _Reading(file, contents, deleted, groups).read(columns, predicate)
        except StorageError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CorruptFileError(f"the bytes are not a readable Parquet file: {error}") from error

    async def aencode(self, table: pa.Table) -> Encoded:
        """Do `encode` in a thread."""
        return await in_thread(self.encode, table)

    async def adecode(
        self,
        data: Any,
        columns: Sequence[str] | None = None,
        predicate: Expression | None = None,
        *,
        schema: pa.Schema | None = None,
        constants: Mapping[str, pa.Scalar] | None = None,
        stored: pa.Schema | None = None,
        deleted: NDArray[np.int64] | None = None,
    ) -> pa.Table:
        """Do `decode` in a thread."""
        return await in_thread(
            self.decode,
            data,
            columns,
            predicate,
            schema=schema,
            constants=constants,
            stored=stored,
            deleted=deleted,
        )


def _file(source: Any, metadata: pq.FileMetaData, coded: list[str]) -> Any:
    return pq.ParquetFile(
        source,
        metadata=metadata,
        read_dictionary=coded,
        page_checksum_verification=True,
        pre_buffer=False,  # everything is in memory
    )


def _with_constants(file: pq.ParquetFile, constants: Mapping[str, pa.Scalar]) -> pa.Schema:
    schema = file.schema_arrow
    for name, value in constants.items():
        if name not in schema.names:
            schema = schema.append(pa.field(name, value.type))
    return schema.remove_metadata()


def _opened(data: Any) -> tuple[pq.FileMetaData, pa.NativeFile]:
    if isinstance(data, Chunks):
        return data.metadata, pa.PythonFile(ChunkFile(data), mode="r")
    source = pa.BufferReader(pa.py_buffer(data))
    return pq.read_metadata(source), source


@dataclass(frozen=True, slots=True)
class _Reading:
    file: pq.ParquetFile
    contents: Contents
    deleted: NDArray[np.int64] | None = None
    chosen: Sequence[int] | None = None

    def read(self, columns: Sequence[str] | None, predicate: Expression | None) -> pa.Table:
        schema = self.contents.schema
        wanted = list(schema.names if columns is None else columns)
        tested = sorted(columns_of(predicate) - set(wanted)) if predicate is not None else []
        for name in [*wanted, *tested]:
            if name not in schema.names:
                raise InvalidQueryError(f"there is no column {name!r}: there are {', '.join(schema.names)}")
        names = [*wanted, *tested]
        groups = self.contents.groups(predicate) if self.chosen is None else list(self.chosen)
        rows = sum(self.file.metadata.row_group(group).num_rows for group in groups)
        raw = self._raw(names, groups)
        found = pa.table({name: self._conformed(raw, name, rows) for name in names} or {"": pa.nulls(rows)})
        if self.deleted is not None and len(self.deleted):
            found = found.filter(pa.array(self._living(groups, self.deleted)))
        if predicate is not None:
            found = filter_rows(found, predicate)
        if not wanted:  # a table without columns still counts its rows
            return found.select([])
        return found.select(wanted).cast(pa.schema([schema.field(name) for name in wanted]))

    def _raw(self, names: Sequence[str], groups: list[int]) -> pa.Table:
        """Return what the file stores of the columns; one that is null throughout need not be decoded."""
        if not groups:
            return _renamed(self.file.schema_arrow.empty_table(), self.contents.held(names))
        filled = self.contents.filled(names, groups)
        if not filled:
            return pa.table({})
        return _renamed(self.file.read_row_groups(groups, columns=list(filled.values())), filled)

    def _living(self, groups: list[int], deleted: NDArray[np.int64]) -> NDArray[np.bool_]:
        sizes = [self.file.metadata.row_group(group).num_rows for group in range(self.file.metadata.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        living = np.ones(starts[-1], np.bool_)
        living[deleted] = False
        return np.concatenate([living[starts[group] : starts[group + 1]] for group in groups] or [living[:0]])

    def _conformed(self, raw: pa.Table, name: str, rows: int) -> Any:
        kind = self.contents.schema.field(name).type
        if name in self.contents.constants:
            return pa.repeat(self.contents.constants[name].cast(kind), rows)
        if name not in raw.column_names:
            return pa.nulls(rows, kind)
        column = raw[name]
        return column if plain(column.type) == kind else align(column, self.contents.stored[name], kind)


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Return the columns under the table's names for them: `names` says which is which in the file."""
    return pa.table({name: table[stored] for name, stored in names.items()})


def _coded_in_file(metadata: pq.FileMetaData) -> set[str]:
    """Return the text columns that the file holds as codes of a dictionary."""
    if not metadata.num_row_groups:
        return set()
    chunks = [metadata.row_group(0).column(leaf) for leaf in range(metadata.num_columns)]
    return {
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY"
        and "RLE_DICTIONARY" in chunk.encodings
        and "." not in chunk.path_in_schema
    }


def _is_coded(kind: Any) -> bool:
    return bool(pa.types.is_dictionary(kind))
