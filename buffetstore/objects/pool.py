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
    """Connections: busy, kept open for the next request, and at most; and the requests that wait for one."""

    in_use: int
    idle: int
    limit: int
    waiting: int = 0


@runtime_checkable
class Pooled(Protocol):
    """A store that keeps connections."""

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""

    async def warm_up(self, connections: int) -> None:
        """Open so many connections now, credentials included, so that the first requests need not wait for it."""


def pool_stats(store: ObjectStore) -> PoolStats | None:
    """Return the connections of the innermost store; None where it has none, as memory and folders."""
    pooled = _pooled(store)
    return None if pooled is None else pooled.pool_stats()


async def warm_up(store: ObjectStore, connections: int) -> None:
    """Open so many connections of the innermost store ahead of its first requests; nothing where it has none."""
    pooled = _pooled(store)
    if pooled is not None:
        await pooled.warm_up(connections)


def _pooled(store: ObjectStore) -> Pooled | None:
    while isinstance(store, StoreWrapper):
        store = store.inner
    return store if isinstance(store, Pooled) else None


def sessions_stats(sessions: Iterable[aiohttp.ClientSession], limit: int) -> PoolStats:
    """Return the connections of aiohttp sessions, added up."""
    connectors = [session.connector for session in sessions if session.connector is not None]
    # aiohttp has no public count of either.
    in_use = sum(len(connector._acquired) for connector in connectors)  # noqa: SLF001
    idle = sum(len(kept) for connector in connectors for kept in connector._conns.values())  # noqa: SLF001
    waiting = sum(len(waiters) for connector in connectors for waiters in connector._waiters.values())  # noqa: SLF001
    return PoolStats(in_use, idle, limit, waiting)
