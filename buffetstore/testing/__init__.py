"""What users test with: contract suites to subclass, stores that fail on purpose or count, and local servers.

Faults and latency, by where they strike:

* around a store in this process, `FaultyStore`: scripted or random faults, and latency (`latency_seconds`, a number or
  what draws one);
* between a client and an HTTP service, `HttpFaultProxy`: lost answers, truncated or flipped bytes, stalls, by script;
* between a client and any service, `FaultProxy`: latency, slow trickles, resets, black holes, refused connections.

Each name is loaded when it is first asked for: the servers do not need pytest, nor the suites aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buffetstore.testing.background import in_background
    from buffetstore.testing.counting import CountingStore
    from buffetstore.testing.data_storage import DataStorageContract
    from buffetstore.testing.fault_injection import HttpInjector, StoreInjector
    from buffetstore.testing.faulty import Fault, FaultyStore, random_faults
    from buffetstore.testing.http_faults import HttpFault, HttpFaultProxy
    from buffetstore.testing.object_store import ObjectStoreContract
    from buffetstore.testing.object_store_faults import ObjectStoreFaultContract
    from buffetstore.testing.proxy import Conditions, FaultProxy

__all__ = [
    "Conditions",
    "CountingStore",
    "DataStorageContract",
    "Fault",
    "FaultProxy",
    "FaultyStore",
    "HttpFault",
    "HttpFaultProxy",
    "HttpInjector",
    "ObjectStoreContract",
    "ObjectStoreFaultContract",
    "StoreInjector",
    "in_background",
    "random_faults",
]

_MODULES = {
    "Conditions": "proxy",
    "CountingStore": "counting",
    "DataStorageContract": "data_storage",
    "Fault": "faulty",
    "FaultProxy": "proxy",
    "FaultyStore": "faulty",
    "HttpFault": "http_faults",
    "HttpFaultProxy": "http_faults",
    "HttpInjector": "fault_injection",
    "ObjectStoreContract": "object_store",
    "ObjectStoreFaultContract": "object_store_faults",
    "StoreInjector": "fault_injection",
    "in_background": "background",
    "random_faults": "faulty",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
