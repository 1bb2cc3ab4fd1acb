"""Answers that were given before, and one computation for equal questions at one time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from buffetstore.caching import LRUCache, SingleFlight
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from buffetstore.caching import CacheStats
    from buffetstore.query.answer import QueryAnswer

DEFAULT_RESULTS_BYTES = 64 * 1024 * 1024
LARGEST_SHARE = 4
"""An answer that takes more than a fourth of the budget is not kept: it would drive all others out."""

_OVERHEAD_BYTES = 2_048  # of an entry beside its rows


class Same:
    """Something that equals nothing but itself, held as long as a key names it."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class ResultKey(NamedTuple):
    """All that an answer depends on.

    Parameters
    ----------
    table_id, table_version:
        The state of the table that was asked. It is part of the key, so that no answer is ever of another state.
    as_read:
        By which contracts the rows are read.
    fingerprint:
        Of the question: see `query_fingerprint`.
    scope:
        Of what the caller may see; "" is all.
    """

    data_type: str
    table_id: str
    table_version: int
    as_read: Same
    fingerprint: str
    scope: str = ""


class ResultsCache:
    """Keeps the answers that were used last, and computes each once at a time.

    Rows are shared, as Arrow data never changes. An answer that was kept says so: `cache_hit`, and nothing
    fetched; files and partitions are those that its rows were found in.

    Parameters
    ----------
    max_bytes:
        The budget; 0 keeps nothing, and still computes equal questions of one time once.
    ttl_seconds:
        How long an answer is kept; None is until others need its place. It is right for ever.
    clock:
        Seconds; monotonic.
    """

    def __init__(
        self,
        max_bytes: int = DEFAULT_RESULTS_BYTES,
        *,
        ttl_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache: LRUCache[QueryAnswer] = LRUCache(max_bytes, ttl_seconds, clock)
        self._largest = max_bytes // LARGEST_SHARE
        self._flights: SingleFlight[QueryAnswer] = SingleFlight()

    async def answer(
        self, key: ResultKey | None, compute: Callable[[], Coroutine[Any, Any, QueryAnswer]]
    ) -> QueryAnswer:
        """Return the answer that is kept under `key`, or that somebody is computing, or what `compute` returns.

        A caller who is cancelled leaves the others waiting; an error reaches all of them. None is no key: it computes.
        """
        if key is None:
            return await compute()
        kept = self._cache.get(key)
        if kept is not None:
            return _unread(kept, cache_hit=True)
        is_first = False

        async def first() -> QueryAnswer:
            nonlocal is_first
            is_first = True
            found = await compute()
            await self._keep(key, found)
            return found

        answer = await self._flights.run(key, first)
        return answer if is_first else _unread(answer, cache_hit=False)

    async def _keep(self, key: ResultKey, answer: QueryAnswer) -> None:
        if answer.table.nbytes + _OVERHEAD_BYTES > self._largest:
            return
        table = await in_thread(_without_slack, answer.table)
        size = table.get_total_buffer_size() + _OVERHEAD_BYTES
        if size <= self._largest:
            self._cache.put(key, replace(answer, table=table), size)

    def clear(self) -> None:
        """Forget every answer."""
        self._cache.clear()

    def stats(self) -> CacheStats:
        """Return what is kept, and how often it was of use."""
        return self._cache.stats()

    async def aclose(self) -> None:
        """Cancel what is being computed, and forget everything. May be called twice."""
        await self._flights.aclose()
        self._cache.clear()


def _unread(answer: QueryAnswer, *, cache_hit: bool) -> QueryAnswer:
    """Return the answer as one for which nothing was fetched; how its rows were found stays in it."""
    return replace(answer, bytes_read=0, requests=0, cache_hit=cache_hit)


def _without_slack(table: pa.Table) -> pa.Table:
    """Return the rows in buffers of their own: a few rows may hold on to those of the whole file they are from."""
    if table.get_total_buffer_size() <= 2 * table.nbytes + _OVERHEAD_BYTES:
        return table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()
