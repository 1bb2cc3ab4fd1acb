"""The manager for callers that cannot await: notebooks, Streamlit, scripts."""

from buffetstore.sync.manager import GCSStorageManager, StorageManager, open  # noqa: A004 - `sync.open(url)` is the point

__all__ = ["GCSStorageManager", "StorageManager", "open"]
