"""What a write did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buffetstore.tables.actions import AddFile


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The version that holds the rows, the data files written for them, and how many rows.

    `done_before` says that the same write had been committed already, under its idempotency key: nothing was done.
    """

    version: int
    files: tuple[AddFile, ...]
    rows: int
    done_before: bool = False


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """Rows by what became of them. `files` were written, `rewritten` counts the stored files that they replace."""

    version: int
    inserted: int
    updated: int
    unchanged: int
    files: tuple[AddFile, ...] = ()
    rewritten: int = 0
    done_before: bool = False


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """Rows deleted. `files` were written for the rows that stay, `removed` counts the stored files that went."""

    version: int
    deleted: int
    files: tuple[AddFile, ...] = ()
    removed: int = 0
    done_before: bool = False


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The version that was made, and which one it equals; data files by what became of them.

    `missing` are files of the old version that were gone already, which `ignore_missing` allows.
    """

    version: int
    restored_version: int
    restored: int = 0
    removed: int = 0
    missing: tuple[str, ...] = ()
    done_before: bool = False
