"""Bringing files in."""

from buffetstore.ingest.importer import ImportResult, import_file
from buffetstore.ingest.source import Source

__all__ = ["ImportResult", "Source", "import_file"]
