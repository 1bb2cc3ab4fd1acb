"""What lies in a file: itself, what it was packed from, or the members of an archive."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import CorruptFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
PARQUET = frozenset({".parquet", ".pq"})
ENCRYPTED = 1  # the flag of a member that needs a password


@dataclass(frozen=True, slots=True)
class Member:
    """One file to read.

    Parameters
    ----------
    name:
        Its name, without the folders and without the ending that says how it is packed.
    opened:
        Gives its bytes, unpacked, from the start; it may be called again. Parquet files and members are seekable.
    done:
        Tells how much of the whole file has been read, 0 to 1.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Any]]
    done: Callable[[], float]

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet by its name."""
        return PurePosixPath(self.name).suffix.lower() in PARQUET


@contextmanager
def members(path: Path) -> Iterator[Iterator[Member]]:
    """Give what lies in a file, in order: folders, hidden files and what macOS adds to archives are left out."""
    with ExitStack() as stack:
        if path.suffix.lower() == ".zip":
            yield _of_archive(stack.enter_context(zipfile.ZipFile(path)), path)
        else:
            yield iter([_of_file(path)])


def _of_file(path: Path) -> Member:
    size, raw = path.stat().st_size or 1, list[pa.NativeFile]()

    @contextmanager
    def opened() -> Iterator[Any]:
        # Arrow's own file: its threads read ahead, and need no lock of the interpreter for it.
        with pa.OSFile(str(path)) as file:
            raw[:] = [file]
            yield _unpacked(file, path.name)

    def done() -> float:
        return 1.0 if not raw or raw[0].closed else min(raw[0].tell() / size, 1.0)

    return Member(_without_packing(path.name), opened, done)


def _of_archive(archive: zipfile.ZipFile, path: Path) -> Iterator[Member]:
    found = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    for info in found:
        if info.flag_bits & ENCRYPTED:
            raise CorruptFileError(f"{info.filename} in {path} needs a password: unpack it first", key=str(path))
    size, before = sum(info.file_size for info in found) or 1, 0
    for info in found:
        before += info.file_size
        name = _without_packing(PurePosixPath(info.filename).name)
        yield Member(name, partial(_opened_member, archive, info), partial(float, before / size))


@contextmanager
def _opened_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[Any]:
    with archive.open(info) as stream:
        yield _unpacked(pa.PythonFile(stream, mode="r"), info.filename)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _unpacked(stream: pa.NativeFile, name: str) -> pa.NativeFile:
    packing = PACKED.get(PurePosixPath(name).suffix.lower())
    return stream if packing is None else pa.CompressedInputStream(stream, packing)


def _without_packing(name: str) -> str:
    plain = PurePosixPath(name)
    return plain.stem if plain.suffix.lower() in PACKED else name
