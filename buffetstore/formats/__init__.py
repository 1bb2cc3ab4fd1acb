"""Rows to bytes and back."""

from buffetstore.formats.compression import COMPRESSIONS, Compression
from buffetstore.formats.parquet import Encoded, ParquetFormatter
from buffetstore.formats.predicates import Bounds, filter_rows, may_match
from buffetstore.formats.statistics import statistics_json

__all__ = [
    "COMPRESSIONS",
    "Bounds",
    "Compression",
    "Encoded",
    "ParquetFormatter",
    "filter_rows",
    "may_match",
    "statistics_json",
]
