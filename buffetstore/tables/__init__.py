"""Delta tables over an object store."""

from __future__ import annotations

from buffetstore.tables.actions import AddFile, CommitInfo, Metadata, Protocol, RemoveFile, Txn
from buffetstore.tables.commit_times import copy_tables, keep_commit_times
from buffetstore.tables.feed import Change, Cursor
from buffetstore.tables.files import DataPart, Layout
from buffetstore.tables.history import CommitRecord
from buffetstore.tables.operations.bins import Coarsening
from buffetstore.tables.operations.compact import CompactResult
from buffetstore.tables.operations.repair import RepairResult
from buffetstore.tables.operations.vacuum import VacuumResult
from buffetstore.tables.operations.verify import VerifyReport
from buffetstore.tables.pruning import prune
from buffetstore.tables.reading import Fetch, read_file, read_tables
from buffetstore.tables.results import CommitResult, DeleteResult, RestoreResult, UpsertResult
from buffetstore.tables.snapshot import Snapshot
from buffetstore.tables.table import DeltaTable

__all__ = [
    "AddFile",
    "Change",
    "Coarsening",
    "CommitInfo",
    "CommitRecord",
    "CommitResult",
    "CompactResult",
    "Cursor",
    "DataPart",
    "DeleteResult",
    "DeltaTable",
    "Fetch",
    "Layout",
    "Metadata",
    "Protocol",
    "RemoveFile",
    "RepairResult",
    "RestoreResult",
    "Snapshot",
    "Txn",
    "UpsertResult",
    "VacuumResult",
    "VerifyReport",
    "copy_tables",
    "keep_commit_times",
    "prune",
    "read_file",
    "read_tables",
]
