"""Rows to bytes and back."""

from buffetstore.formats.compression import COMPRESSIONS, Compression
from buffetstore.formats.parquet import Encoded, ParquetFormatter
from buffetstore.formats.statistics import statistics_json

__all__ = [
    "COMPRESSIONS",
    "Compression",
    "Encoded",
    "ParquetFormatter",
    "statistics_json",
]
