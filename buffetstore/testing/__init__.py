"""What users test with: contract suites to subclass, stores that fail on purpose or count, and local servers.

Each name is loaded when it is first asked for: the servers do not need pytest, nor the suites aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buffetstore.testing.counting import CountingStore
    from buffetstore.testing.data_storage import DataStorageContract
    from buffetstore.testing.faulty import Fault, FaultyStore, random_faults
    from buffetstore.testing.object_store import ObjectStoreContract

__all__ = ["CountingStore", "DataStorageContract", "Fault", "FaultyStore", "ObjectStoreContract", "random_faults"]

_MODULES = {
    "CountingStore": "counting",
    "DataStorageContract": "data_storage",
    "Fault": "faulty",
    "FaultyStore": "faulty",
    "ObjectStoreContract": "object_store",
    "random_faults": "faulty",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
