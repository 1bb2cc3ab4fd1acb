"""Looking after a store."""

from buffetstore.operations.health import Check, check_store

__all__ = ["Check", "check_store"]
