"""Bytes by key: the contract of an object store, the stores, and conveniences over them."""

from __future__ import annotations

from buffetstore.objects.base import (
    CREATE,
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Capabilities,
    Checksum,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    ObjectVersion,
    PutMode,
    Update,
    Upload,
)
from buffetstore.objects.copy_store import CopyReport, copy_store
from buffetstore.objects.helpers import (
    delete_prefix,
    download_file,
    exists,
    get_buffer,
    get_bytes,
    get_many,
    get_text,
    head,
    list_all,
    put_stream,
    put_text,
    read_object,
    upload_file,
)
from buffetstore.objects.layers import Layers
from buffetstore.objects.local import LocalStore
from buffetstore.objects.memory import MemoryStore
from buffetstore.objects.open import open_store, register_store
from buffetstore.objects.pool import PoolStats, pool_stats, warm_up
from buffetstore.objects.wrappers import MetricsStore, PrefixStore, RetryStore, StoreWrapper

__all__ = [
    "CREATE",
    "DEFAULT_ATTRIBUTES",
    "OVERWRITE",
    "Attributes",
    "ByteRange",
    "Capabilities",
    "Checksum",
    "CopyReport",
    "Data",
    "GetResult",
    "Layers",
    "Listing",
    "LocalStore",
    "MemoryStore",
    "MetricsStore",
    "ObjectMeta",
    "ObjectStore",
    "ObjectVersion",
    "PoolStats",
    "PrefixStore",
    "PutMode",
    "RetryStore",
    "StoreWrapper",
    "Update",
    "Upload",
    "copy_store",
    "delete_prefix",
    "download_file",
    "exists",
    "get_buffer",
    "get_bytes",
    "get_many",
    "get_text",
    "head",
    "list_all",
    "open_store",
    "pool_stats",
    "put_stream",
    "put_text",
    "read_object",
    "register_store",
    "upload_file",
    "warm_up",
]
