"""Bringing files in."""

from buffetstore.ingest.importer import import_file
from buffetstore.ingest.mapping_file import read_mapping
from buffetstore.ingest.result import ImportResult, Rejection
from buffetstore.ingest.source import Source

__all__ = ["ImportResult", "Rejection", "Source", "import_file", "read_mapping"]
