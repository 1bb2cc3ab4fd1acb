"""Governed data types, stored and asked for by name."""

from __future__ import annotations

from buffetstore.storage.base import DataStorage, DataTypeDescription, DeleteResult, StoreResult
from buffetstore.storage.lake import LakeStorage
from buffetstore.storage.layout import time_bucket_layout

__all__ = ["DataStorage", "DataTypeDescription", "DeleteResult", "LakeStorage", "StoreResult", "time_bucket_layout"]
