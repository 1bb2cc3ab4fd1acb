"""Validated financial data as Delta tables in Google Cloud Storage, S3 or a folder.

Names are loaded when they are first used, so that importing the package is quick and needs no extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buffetstore.config import AzureConfig, GCSConfig, LayerConfig, S3Config
    from buffetstore.errors import (
        AccessError,
        CommitUnknownError,
        ConfigurationError,
        ConflictError,
        CorruptionError,
        IdempotencyKeyReusedError,
        IncompatibleSchemaError,
        InvalidInputError,
        InvalidQueryError,
        NotFoundError,
        SchemaValidationError,
        StorageError,
        TableNotFoundError,
        UnavailableError,
        UnknownDataTypeError,
        UnknownSchemaVersionError,
        UnsupportedError,
    )
    from buffetstore.expressions import bucket, col, count
    from buffetstore.ingest import import_file
    from buffetstore.manager import GCSStorageManager, StorageManager
    from buffetstore.monitoring import StorageMetrics
    from buffetstore.objects.layers import Layers
    from buffetstore.query import DataQuery, QueryAnswer, QueryOptimizer, QueryPlan, ohlc
    from buffetstore.resilience.retry import RetryPolicy
    from buffetstore.schemas import Mapping, Record, SchemaManager, ValidationLevel, ValidationResult
    from buffetstore.storage import DataStorage, DataTypeDescription, DeleteResult, StoreResult

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "AzureConfig",
    "CommitUnknownError",
    "ConfigurationError",
    "ConflictError",
    "CorruptionError",
    "DataQuery",
    "DataStorage",
    "DataTypeDescription",
    "DeleteResult",
    "GCSConfig",
    "GCSStorageManager",
    "IdempotencyKeyReusedError",
    "IncompatibleSchemaError",
    "InvalidInputError",
    "InvalidQueryError",
    "LayerConfig",
    "Layers",
    "Mapping",
    "NotFoundError",
    "QueryAnswer",
    "QueryOptimizer",
    "QueryPlan",
    "Record",
    "RetryPolicy",
    "S3Config",
    "SchemaManager",
    "SchemaValidationError",
    "StorageError",
    "StorageManager",
    "StorageMetrics",
    "StoreResult",
    "TableNotFoundError",
    "UnavailableError",
    "UnknownDataTypeError",
    "UnknownSchemaVersionError",
    "UnsupportedError",
    "ValidationLevel",
    "ValidationResult",
    "bucket",
    "col",
    "count",
    "import_file",
    "ohlc",
]

_HOMES = {
    "config": ("AzureConfig", "GCSConfig", "LayerConfig", "S3Config"),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "expressions": ("bucket", "col", "count"),
    "ingest": ("import_file",),
    "manager": ("GCSStorageManager", "StorageManager"),
    "monitoring": ("StorageMetrics",),
    "objects.layers": ("Layers",),
    "query": ("DataQuery", "QueryAnswer", "QueryOptimizer", "QueryPlan", "ohlc"),
    "resilience.retry": ("RetryPolicy",),
    "schemas": ("Mapping", "Record", "SchemaManager", "ValidationLevel", "ValidationResult"),
    "storage": ("DataStorage", "DataTypeDescription", "DeleteResult", "StoreResult"),
}
_HOME = {name: f"buffetstore.{home}" for home, names in _HOMES.items() for name in names}


_PACKAGES = ("errors", "sync")  # reached by attribute as well: `buffetstore.sync.open(url)`


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"buffetstore.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'buffetstore' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
