"""Governed data types, stored and asked for by name."""

from __future__ import annotations

from buffetstore.storage.base import DataStorage, DataTypeDescription, DeleteResult, StoreResult
from buffetstore.storage.lake import LakeStorage
from buffetstore.storage.layout import time_bucket_layout
from buffetstore.storage.lineage import Lineage, read_lineage
from buffetstore.storage.lineage_graph import LineageGraph, LineageStep, State
from buffetstore.storage.migration import MigrationResult
from buffetstore.storage.quality import CheckResult, QualityChecks, QualityReport
from buffetstore.storage.quarantine import QuarantineSummary, QuarantineTables
from buffetstore.storage.registry import StoredSchemas
from buffetstore.storage.replay import ReplayResult
from buffetstore.storage.schema_store import ModeChange
from buffetstore.storage.versioned import DataFile, LayoutChange, VersionedStorage

__all__ = [
    "CheckResult",
    "DataFile",
    "DataStorage",
    "DataTypeDescription",
    "DeleteResult",
    "LakeStorage",
    "LayoutChange",
    "Lineage",
    "LineageGraph",
    "LineageStep",
    "MigrationResult",
    "ModeChange",
    "QualityChecks",
    "QualityReport",
    "QuarantineSummary",
    "QuarantineTables",
    "ReplayResult",
    "State",
    "StoreResult",
    "StoredSchemas",
    "VersionedStorage",
    "read_lineage",
    "time_bucket_layout",
]
