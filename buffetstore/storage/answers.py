"""From a plan to its answer: the state that is asked, how its rows are read, and what was answered before."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.errors import NotFoundError
from buffetstore.query import QueryOptimizer, bind, counts_of
from buffetstore.query.fingerprint import query_fingerprint
from buffetstore.query.results_cache import ResultKey, Same
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.query import BoundPlan, DataQuery, QueryAnswer, QueryExecutor, QueryLog, QueryPlan
    from buffetstore.query.results_cache import ResultsCache
    from buffetstore.storage.known_schemas import KnownSchemas
    from buffetstore.storage.reading import Reading
    from buffetstore.storage.snapshots import Snapshots
    from buffetstore.tables import Snapshot


def planned(query: DataQuery | QueryPlan) -> tuple[QueryPlan, str | None]:
    """Return the plan of a query and its fingerprint; in a thread, as a filter may list a hundred thousand symbols."""
    plan = QueryOptimizer().optimize(query)
    return plan, query_fingerprint(plan)


class Answers:
    """Answers plans of one storage.

    Parameters
    ----------
    log:
        Told what was read for each answer that had to be computed.
    """

    def __init__(
        self, known: KnownSchemas, executor: QueryExecutor, snapshots: Snapshots, results: ResultsCache, log: QueryLog
    ) -> None:
        self._known = known
        self._executor = executor
        self._snapshots = snapshots
        self._results = results
        self._log = log

    async def bound(self, plan: QueryPlan) -> tuple[BoundPlan, Snapshot]:
        """Return the plan as it can be carried out, and the state of the table that it asks."""
        snapshot, how = await self._found(plan)
        return await self._bound(plan, snapshot, how), snapshot

    async def retrieve(
        self, plan: QueryPlan, fingerprint: str | None, started: float, *, scope: str = ""
    ) -> QueryAnswer:
        """Return the rows, computed unless they are kept; the table's version is part of what they are kept by.

        Where a file was vacuumed while it was to be read, and the newest state is asked, it is looked for once more.
        """
        asked = time.time()
        ask = partial(self._retrieve, plan, fingerprint, started, scope)
        likely = await self._snapshots.likely(plan.query, asked)
        if likely is None:
            return await self._settled(plan, await self._snapshots.of(plan.query, asked), ask)
        # The rows are fetched while it is asked whether there is news, which there mostly is not.
        ahead = asyncio.ensure_future(ask(likely))
        try:
            snapshot = await self._snapshots.of(plan.query, asked)
            if snapshot.version == likely.version:
                return await self._settled(plan, snapshot, ask, ahead)
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        return await self._settled(plan, snapshot, ask)

    async def _settled(
        self,
        plan: QueryPlan,
        snapshot: Snapshot,
        ask: Callable[[Snapshot], Awaitable[QueryAnswer]],
        ahead: Awaitable[QueryAnswer] | None = None,
    ) -> QueryAnswer:
        """Return the answer, asked once more where a file is gone that a newer version does not name."""
        try:
            return await (ask(snapshot) if ahead is None else ahead)
        except NotFoundError as error:
            if not await self._is_outdated(plan, snapshot, error):
                raise
        return await ask(await self._snapshots.of(plan.query))

    async def _is_outdated(self, plan: QueryPlan, snapshot: Snapshot, error: NotFoundError) -> bool:
        """Tell whether a file is gone that the newest version of the table does not name any more."""
        query, inside = plan.query, f"{snapshot.path}/"
        if query.table_version is not None or query.as_of is not None or not (error.key or "").startswith(inside):
            return False
        newest = await self._snapshots.of(replace(query, freshness=None))
        path = (error.key or "").removeprefix(inside)
        return newest.version > snapshot.version and await in_thread(newest.missing, [path]) is not None

    async def _retrieve(
        self, plan: QueryPlan, fingerprint: str | None, started: float, scope: str, snapshot: Snapshot
    ) -> QueryAnswer:
        how = await self._known.reading(plan.data_type, snapshot, plan.query.version)
        key = None
        if fingerprint is not None:
            state = (snapshot.metadata.id, snapshot.version)
            key = ResultKey(plan.data_type, *state, Same(how), fingerprint, scope)
        carried_out: list[BoundPlan] = []

        async def compute() -> QueryAnswer:
            carried_out.append(await self._bound(plan, snapshot, how))
            return await self._executor.retrieve(carried_out[0], snapshot)

        found = await self._results.answer(key, compute)
        answer = replace(found, seconds=time.perf_counter() - started)
        for bound in carried_out:
            self._log.add(bound, counts_of(answer), answer.seconds)
        return answer

    async def _found(self, plan: QueryPlan) -> tuple[Snapshot, Reading]:
        snapshot = await self._snapshots.of(plan.query)
        return snapshot, await self._known.reading(plan.data_type, snapshot, plan.query.version)

    async def _bound(self, plan: QueryPlan, snapshot: Snapshot, how: Reading) -> BoundPlan:
        return await in_thread(
            bind,
            plan,
            how.contract,
            snapshot.schema,
            projection=how.projection,
            conversion=how.conversion,
            hidden=how.hidden,
        )

    async def aclose(self) -> None:
        """Cancel what is being computed. May be called twice."""
        await self._results.aclose()
        await self._snapshots.aclose()
