"""The composition root: settings in, a stack of objects out."""

from __future__ import annotations

from buffetstore.manager.base import GCSStorageManager, StorageManager

__all__ = ["GCSStorageManager", "StorageManager"]
