"""How a query would be answered, as a storage tells it."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from buffetstore.monitoring.events import Hook, observed
from buffetstore.query import QueryOptimizer
from buffetstore.query.explain import Explanation, Place, explained
from buffetstore.resilience.threads import in_thread
from buffetstore.storage.versioned import VersionedStorage

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore
    from buffetstore.query import BoundPlan, DataQuery, QueryExecutor, QueryPlan
    from buffetstore.query.prices import Prices
    from buffetstore.tables import Snapshot


class ExplainedQueries(VersionedStorage):
    """What follows from binding a plan, and an executor."""

    _hook: Hook
    _store: ObjectStore
    _executor: QueryExecutor

    @abstractmethod
    async def _bound(self, plan: QueryPlan) -> tuple[BoundPlan, Snapshot]:
        """Return the plan as it can be carried out, and the state of the table that it asks."""

    async def explain(
        self,
        query: DataQuery | QueryPlan,
        *,
        analyze: bool = False,
        storage_class: str | None = None,
        region: str | None = None,
        prices: Prices | None = None,
    ) -> Explanation:
        plan = await in_thread(QueryOptimizer().optimize, query)
        place = Place(self._store.url, storage_class, region, prices)
        with observed(self._hook, "storage.explain", plan.data_type):
            bound, snapshot = await self._bound(plan)
            found = await in_thread(explained, bound, snapshot, place)
            return found.with_answer(await self._executor.retrieve(bound, snapshot), place) if analyze else found
