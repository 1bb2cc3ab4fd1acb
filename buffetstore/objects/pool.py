"""How busy a store's connections are, for gauges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from buffetstore.objects.wrappers.base import StoreWrapper

if TYPE_CHECKING:
    from collections.abc import Iterable

    import aiohttp

    from buffetstore.objects.base import ObjectStore


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Connections: busy, kept open for the next request, and at most."""

    in_use: int
    idle: int
    limit: int


@runtime_checkable
class Pooled(Protocol):
    """A store that keeps connections."""

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""


def pool_stats(store: ObjectStore) -> PoolStats | None:
    """Return the connections of the innermost store; None where it has none, as memory and folders."""
    while isinstance(store, StoreWrapper):
        store = store.inner
    return store.pool_stats() if isinstance(store, Pooled) else None


def sessions_stats(sessions: Iterable[aiohttp.ClientSession], limit: int) -> PoolStats:
    """Return the connections of aiohttp sessions, added up."""
    connectors = [session.connector for session in sessions if session.connector is not None]
    # aiohttp has no public count of either.
    in_use = sum(len(connector._acquired) for connector in connectors)  # noqa: SLF001
    idle = sum(len(kept) for connector in connectors for kept in connector._conns.values())  # noqa: SLF001
    return PoolStats(in_use, idle, limit)
