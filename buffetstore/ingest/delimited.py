"""Text with delimiters, as batches of text columns; and what its first lines tell about it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from buffetstore.errors import CorruptFileError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

OWN_COLUMNS = ("_record", "_reasons", "_line")
"""What a file of rejected rows has before the columns of the file that they come from."""
_BLOCK_BYTES = 1024 * 1024  # Arrow reads up to 32 blocks ahead
_HEAD_BYTES = 64 * 1024
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no row: its number among the rows (0 is the first), its text, and what is wrong with it."""

    record: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Delimited:
    """How a text is laid out.

    Parameters
    ----------
    header:
        Names of the columns where the text has none.
    delimiter:
        None finds it in the first line.
    """

    header: Sequence[str] = ()
    delimiter: str | None = None
    encoding: str = "utf-8"

    def batches(
        self, opened: Callable[[], AbstractContextManager[Any]], name: str, rows: int
    ) -> Iterator[tuple[pa.Table, NDArray[np.int64], Sequence[Malformed]]]:
        """Yield tables of so many rows, the number of each row (0 is the first), and the lines between them.

        Raises
        ------
        InvalidInputError
            It has no columns, two of one name, or is in another encoding.
        pyarrow.ArrowInvalid, CorruptFileError
            It cannot be decoded.
        """
        with opened() as stream:
            head = stream.read(_HEAD_BYTES)
        if not head.strip():
            raise InvalidInputError(f"{name} is empty", key=name)
        return _Reading(self._sniffed(head), name).batches(opened, rows, head)

    def _sniffed(self, head: bytes) -> Delimited:
        text = head.decode(self.encoding, errors="ignore").lstrip("\ufeff")
        line = next((line for line in text.splitlines() if line.strip()), "")
        if tuple(name.strip('"') for name in line.split(",")[: len(OWN_COLUMNS)]) == OWN_COLUMNS:
            return Delimited(delimiter=",")
        return self if self.delimiter else replace(self, delimiter=_delimiter_of(line, len(self.header)))


def _delimiter_of(line: str, columns: int) -> str:
    """Return the delimiter that cuts a line to so many columns; without a number, the first that is in it."""
    outside = "".join(line.split('"')[::2])
    fits = (each for each in _DELIMITERS if (outside.count(each) == columns - 1 if columns else each in outside))
    return next(fits, ",")


@dataclass(slots=True)
class _Reading:
    layout: Delimited
    name: str
    malformed: list[Malformed] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    are_quotes_even: bool = False

    def batches(
        self, opened: Callable[[], AbstractContextManager[Any]], rows: int, head: bytes
    ) -> Iterator[tuple[pa.Table, NDArray[np.int64], Sequence[Malformed]]]:
        if self.layout.header:
            self._check_header(head)
        columns = self.layout.header or self._columns(head)
        own = tuple(columns[: len(OWN_COLUMNS)]) == OWN_COLUMNS
        # Only an empty field is null: NA is a ticker, and what is no number is for the contract to name.
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=columns[len(OWN_COLUMNS) :] if own else columns,
            null_values=[""],
            strings_can_be_null=True,
        )
        first = 0
        with opened() as stream, csv.open_csv(stream, self._read(_BLOCK_BYTES), self._parse(), convert) as reader:
            for table in self._gathered(reader, rows):
                self._check_quotes(table, opened)
                yield table, self._numbers(first, len(table)), self._told()
                first += len(table)
            if self.malformed:
                self._check_quotes(reader.schema.empty_table(), opened)
                yield reader.schema.empty_table(), np.empty(0, np.int64), self._told()

    def _check_quotes(self, table: pa.Table, opened: Callable[[], AbstractContextManager[Any]]) -> None:
        """Raise where a quote that nothing closes swallowed the rest of the text: it would be lost without a word."""
        last = [] if not len(table) else [column[-1].as_py() or "" for column in table.columns]
        if '"'.encode(self.layout.encoding) != b'"':  # UTF-16, in whose other letters the byte is too
            return
        if self.are_quotes_even or not any("\n" in text for text in (*last, *(line.text for line in self.malformed))):
            return
        quotes = 0
        with opened() as stream:
            while data := stream.read(_BLOCK_BYTES):
                quotes += data.count(b'"')
        if quotes % 2:
            raise CorruptFileError(f"{self.name} cannot be read: a quote is opened and not closed", key=self.name)
        self.are_quotes_even = True

    def _read(self, block: int) -> csv.ReadOptions:
        names = list(self.layout.header) or None
        return csv.ReadOptions(block_size=block, column_names=names, encoding=self.layout.encoding, use_threads=False)

    def _parse(self) -> csv.ParseOptions:
        return csv.ParseOptions(
            delimiter=self.layout.delimiter, newlines_in_values=True, invalid_row_handler=self._note
        )

    def _note(self, row: csv.InvalidRow) -> str:
        record = row.number - (1 if self.layout.header else 2)
        self.skipped.append(record)
        wrong = f"{row.actual_columns} fields instead of {row.expected_columns}"
        self.malformed.append(Malformed(record, row.text, wrong))
        return "skip"

    def _told(self) -> Sequence[Malformed]:
        told, self.malformed = tuple(self.malformed), []
        return told

    def _numbers(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the numbers of rows, of which lines that are no rows have some too."""
        rows = np.arange(first, first + count)
        before = np.array(self.skipped, np.int64) - np.arange(len(self.skipped))
        return rows + np.searchsorted(before, rows, side="right")

    def _columns(self, head: bytes) -> Sequence[str]:
        columns: list[str] = self._parsed(head, ()).column_names
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise InvalidInputError(
                f"{self.name} has two columns {twice[0]!r}: give header names of your own", key=self.name
            )
        return columns

    def _check_header(self, head: bytes) -> None:
        header = self.layout.header
        if not len(self._parsed(head, header)):
            there = len(self._parsed(head, ()).column_names)
            raise InvalidInputError(
                f"header has {len(header)} names ({', '.join(header)}), but {self.name} has {there} columns: name "
                "each, or give the delimiter",
                key=self.name,
            )

    def _parsed(self, head: bytes, header: Sequence[str]) -> pa.Table:
        """Return the first rows, without the last line, of which there may be more."""
        text = head.decode(self.layout.encoding, errors="ignore").lstrip("\ufeff")
        if len(head) == _HEAD_BYTES:
            text = text[: text.rfind("\n") + 1] or text
        read = csv.ReadOptions(column_names=list(header) or None, block_size=4 * _HEAD_BYTES, use_threads=False)
        parse = csv.ParseOptions(
            delimiter=self.layout.delimiter, newlines_in_values=True, invalid_row_handler=lambda _: "skip"
        )
        with csv.open_csv(io.BytesIO(text.encode()), read, parse) as reader:
            return reader.read_all()

    def _gathered(self, reader: Any, rows: int) -> Iterator[pa.Table]:
        """Cut what comes in blocks to tables of so many rows, or fewer where there are as many lines that are none."""
        blocks: list[pa.RecordBatch] = []
        held = 0
        for block in reader:
            blocks.append(block)
            held += len(block)
            while held >= rows or len(self.malformed) >= rows:
                table = pa.Table.from_batches(blocks)
                yield table.slice(0, rows)
                blocks = table.slice(rows).to_batches()
                held = max(held - rows, 0)
        if held:
            yield pa.Table.from_batches(blocks)
