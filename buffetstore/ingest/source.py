"""Files as batches of rows: text with delimiters and Parquet, packed or many in an archive, never whole in memory."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from buffetstore.errors import CorruptFileError, InvalidInputError, NotFoundError, PermissionDeniedError
from buffetstore.ingest.delimited import OWN_COLUMNS, Delimited, Malformed
from buffetstore.ingest.packed import PACKED, PARQUET, Member, members

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

_UNREADABLE = (pa.ArrowInvalid, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file.

    Parameters
    ----------
    rows:
        The columns by the names that the file gives them; of a text file, all text.
    member:
        The file's name, or its member's.
    numbers:
        The number of each row in the file or member; 0 is the first.
    share:
        How much of the file has been read, 0 to 1.
    malformed:
        Lines that are no rows.
    is_text:
        Whether numbers and times are spelled, rather than typed.
    """

    rows: pa.Table
    member: str
    numbers: NDArray[np.int64]
    share: float
    malformed: Sequence[Malformed] = ()
    is_text: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read.

    Parameters
    ----------
    path:
        Parquet by its name (`.parquet`, `.pq`), else text with delimiters; `.gz`, `.bz2`, `.zst` and `.lz4` are
        unpacked, and each member of a `.zip` is read.
    header:
        Names of the columns where the file has none.
    delimiter, encoding:
        Of a text file; None takes the comma, semicolon, tab or bar that its first line has.
    decimal, thousands:
        What stands before the decimals and between the thousands of its numbers: ``','`` and ``'.'`` for 1.234,5.
    batch_rows:
        Rows in a batch: what is held in memory, and what becomes one commit, about.
    """

    path: Path
    header: Sequence[str] = ()
    delimiter: str | None = None
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str | None = None
    batch_rows: int = 500_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise InvalidInputError(f"delimiter {self.delimiter!r} is not one character, such as ';' or a tab")
        if self.decimal not in (".", ",") or self.decimal == self.thousands:
            raise InvalidInputError(
                f"decimal={self.decimal!r}, thousands={self.thousands!r}: the one is '.' or ',', the other differs"
            )
        if self.batch_rows < 1:
            raise InvalidInputError(f"batch_rows={self.batch_rows} is no number of rows: give 1 or more")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise InvalidInputError(f"encoding {self.encoding!r} is not known: utf-8, latin-1, utf-16...") from None

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet."""
        return self.path.suffix.lower() in PARQUET

    @property
    def is_archive(self) -> bool:
        """Whether the file has members."""
        return self.path.suffix.lower() == ".zip"

    @property
    def stem(self) -> str:
        """The file's name without its endings."""
        stem = self.path.name
        for suffix in (*PACKED, ".zip", *PARQUET, ".csv", ".tsv", ".txt"):
            stem = stem.removesuffix(suffix)
        return stem

    def names(self) -> list[str]:
        """Return the names of what is read, an archive's members or the file itself; it blocks."""
        return [member.name for member in self._members()]

    def batches(self) -> Generator[Batch, None, None]:
        """Yield the file's rows in order. Reads as it goes: run each step off the event loop.

        Raises
        ------
        NotFoundError
            The file is not there.
        InvalidInputError
            The file has no columns, or is in another encoding.
        CorruptFileError
            It cannot be unpacked or decoded.
        PermissionDeniedError
            It may not be read.
        """
        for member in self._members():
            where = f"{member.name} in {self.path}" if self.is_archive else str(self.path)
            try:
                yield from self._batches_of(member)
            except UnicodeDecodeError as error:
                raise self._other_encoding(where, f" (byte {error.start}: {error.reason})") from error
            except _UNREADABLE as error:
                raise self._translated(error, where) from error

    def _members(self) -> Iterator[Member]:
        if self.path.is_dir():
            raise InvalidInputError(f"{self.path} is a folder: give its files one by one", key=str(self.path))
        if not self.path.is_file():
            raise NotFoundError(f"there is no file {self.path}", key=str(self.path))
        try:
            with members(self.path) as found:
                yield from found
        except _UNREADABLE as error:
            raise self._translated(error, str(self.path)) from error

    def _batches_of(self, member: Member) -> Iterator[Batch]:
        if member.is_parquet:
            yield from self._parquet(member)
            return
        layout = Delimited(self.header, self.delimiter or ("\t" if _has_tabs(member) else None), self.encoding)
        try:
            batches = layout.batches(member.opened, member.name, self.batch_rows)
        except InvalidInputError:
            if self.is_archive:  # an empty member among others has no rows to miss
                return
            raise
        for rows, numbers, malformed in batches:
            yield Batch(rows, member.name, numbers, member.done(), malformed)

    def _parquet(self, member: Member) -> Iterator[Batch]:
        with member.opened() as stream, pq.ParquetFile(stream) as file:
            total, done = file.metadata.num_rows, 0
            own = [name for name in OWN_COLUMNS if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=self.batch_rows):
                rows = pa.Table.from_batches([batch]).drop_columns(own)
                share = member.done() if self.is_archive else (done + len(rows)) / total
                yield Batch(rows, member.name, np.arange(done, done + len(rows)), share, is_text=False)
                done += len(rows)

    def _translated(self, error: Exception, where: str) -> Exception:
        text = str(error)
        if isinstance(error, PermissionError):
            return PermissionDeniedError(f"{where} may not be read: {text}", key=str(self.path))
        if "Empty CSV" in text:
            return InvalidInputError(f"{where} is empty", key=str(self.path))
        if "UTF8" in text or "UTF-8" in text:
            return self._other_encoding(where)
        if "straddling" in text:
            text = "a quote is opened and not closed within a megabyte"
        return CorruptFileError(f"{where} cannot be read: {text}", key=str(self.path))

    def _other_encoding(self, where: str, detail: str = "") -> InvalidInputError:
        return InvalidInputError(
            f"{where} is not {self.encoding}{detail}: give its encoding, such as latin-1", key=str(self.path)
        )


def _has_tabs(member: Member) -> bool:
    return member.name.lower().endswith(".tsv")
