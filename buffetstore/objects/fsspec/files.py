"""What the bridge asks of a file system: a few asynchronous calls that raise the operating system's own errors.

Paths are absolute and end without a `/`. An error is an `OSError` whose number says what happened, or one of ours where
no number does (credentials, settings). `ConnectionError` and `TimeoutError` leave open whether a change was made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from buffetstore.objects.base import Data
    from buffetstore.objects.pool import PoolStats

CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Status:
    """A file or folder as it is now; `version` changes with every write, as far as `Guarantees` says."""

    kind: Literal["file", "folder", "other"]
    size: int
    modified: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Guarantees:
    """What a file system can promise, and why not more.

    Parameters
    ----------
    create:
        A finished file can be given a name such that exactly one of several writers gets it.
    replace:
        A finished file can take another's name: in one step ("atomic"), with a moment in which there is none ("gap"),
        or in a way that nobody promises ("unknown": a reader may see a part).
    unique_versions:
        Two writes never have one version.
    reason:
        Why a promise is missing; empty if none is.
    """

    create: bool = True
    replace: Literal["atomic", "gap", "unknown"] = "atomic"
    unique_versions: bool = True
    reason: str = ""


class Reader(ABC):
    """An open file. What `read` returns is of the one version that `status` tells, whatever happens to the name."""

    status: Status

    async def prime(self, start: int, end: int) -> bool:  # noqa: ARG002 - what is open needs nothing
        """Fetch the beginning of [start, end) now if it could be another version's later; False if it is already."""
        return True

    @abstractmethod
    async def read(self, start: int, end: int) -> bytes:
        """Return bytes [start, end), which lie within the file."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close. May be called twice."""


class Writer(ABC):
    """A new file under a temporary name; every call but `open` may be repeated after a failure."""

    @abstractmethod
    async def open(self) -> None:
        """Begin; `FileNotFoundError` if the folder is missing."""

    @abstractmethod
    async def write(self, data: Data, offset: int) -> None:
        """Write `data` at `offset`, which is where the file ends, or did before a failed `write`."""

    @abstractmethod
    async def finish(self, size: int) -> Status | None:
        """Make the bytes durable, all `size` of them; return what the file's status will be under its last name.

        None where that cannot be known before. `FileNotFoundError` if the folder is missing.
        """

    @abstractmethod
    async def discard(self) -> None:
        """Close, and remove the temporary name if it is still there; an error of this is nobody's."""

    async def copy_from(self, source: Reader) -> None:
        """Write all of `source`."""
        size = source.status.size
        for at in range(0, size, CHUNK_BYTES):
            await self.write(await source.read(at, min(at + CHUNK_BYTES, size)), at)


class Files(ABC):
    """A file system, used from one event loop."""

    @property
    @abstractmethod
    def guarantees(self) -> Guarantees:
        """What is promised, as far as it is known without asking the server."""

    async def promised(self) -> Guarantees:
        """Return what is promised, having asked the server where that is needed."""
        return self.guarantees

    @abstractmethod
    async def status(self, path: str) -> Status:
        """Return what is at `path`; links are followed."""

    @abstractmethod
    async def entries(self, folder: str) -> Sequence[tuple[str, Status]]:
        """Return name and status of what is in `folder`; links to folders are of kind "other"."""

    @abstractmethod
    async def reader(self, path: str) -> Reader:
        """Open a file."""

    @abstractmethod
    def writer(self, path: str) -> Writer:
        """Return the writer of a file that is not there yet."""

    @abstractmethod
    async def create(self, source: str, target: str) -> None:
        """Give the finished file `source` the name `target`; `FileExistsError` if that is taken by anything."""

    @abstractmethod
    async def replace(self, source: str, target: str) -> None:
        """Give the finished file `source` the name `target`, whatever file has it; `IsADirectoryError` on a folder."""

    @abstractmethod
    async def make_folder(self, path: str) -> None:
        """Make a folder; `FileExistsError` if its name is taken, `FileNotFoundError` if it has nowhere to be."""

    @abstractmethod
    async def remove(self, path: str) -> None:
        """Remove a file; `IsADirectoryError` for a folder."""

    @abstractmethod
    async def remove_folder(self, path: str) -> None:
        """Remove a folder if it is empty, else raise `OSError`."""

    @abstractmethod
    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle."""

    @abstractmethod
    async def warm_up(self, connections: int) -> None:
        """Open so many connections now."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free connections. May be called twice."""
