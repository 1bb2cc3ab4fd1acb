"""Contracts in the words of others: JSON Schema, Avro, SQL, the Open Data Contract Standard, Markdown; and back."""

from __future__ import annotations

from buffetstore.schemas.interchange.formats import EXPORTS, IMPORTS, draft_from_document, export_contract

__all__ = ["EXPORTS", "IMPORTS", "draft_from_document", "export_contract"]
