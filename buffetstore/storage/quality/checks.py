"""`storage.quality`: checks are run, and what they found is kept."""

# ruff: noqa: D102 - the protocol's methods are the storage's, and documented there

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidQueryError, TableNotFoundError, UnknownDataTypeError
from buffetstore.monitoring.events import Hook, no_hook
from buffetstore.query import BoundPlan, DataQuery, QueryOptimizer
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.quality import Duplicates
from buffetstore.storage.quality.freshness import FreshnessTally
from buffetstore.storage.quality.reading import WINDOW_ROWS, Pass
from buffetstore.storage.quality.report import CheckResult, QualityReport
from buffetstore.storage.quality.sets import ReferentialTally, pairs_of, range_of
from buffetstore.storage.quality.tallies import chosen, secret_columns, shown_symbols, tally_of
from buffetstore.storage.quality.tell import tell
from buffetstore.storage.quality.window import Window, moment

if TYPE_CHECKING:
    from buffetstore.query import QueryAnswer, QueryExecutor, QueryPlan
    from buffetstore.schemas import Contract
    from buffetstore.schemas.quality_check import QualityCheck
    from buffetstore.storage.base import StoreResult
    from buffetstore.storage.quality.tally import Tally
    from buffetstore.tables import Snapshot

RESULTS = "quality_results"
"""The data type of what checks found. It lies beside the others, so that all that can be done with a data type (query,
describe, history, compact, other engines) can be done with it."""


class Lake(Protocol):
    """What is asked of the storage whose rows are judged."""

    _executor: QueryExecutor

    async def _bound(self, plan: QueryPlan) -> tuple[BoundPlan, Snapshot]: ...
    async def contract(self, data_type: str, version: str | None = None) -> Contract: ...
    async def retrieve_data(self, query: DataQuery) -> QueryAnswer: ...
    async def store_data(self, data_type: str, data: Any, **options: Any) -> StoreResult: ...


Reach: TypeAlias = Callable[[], Awaitable[Lake]]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Run:
    """One run over one data type."""

    lake: Lake
    contract: Contract
    every: BoundPlan
    window_rows: int
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    bytes_read: int = 0
    start: int | None = None
    end: int | None = None


class QualityChecks:
    """The quality checks of all data types, on demand.

    A run reads the rows once for all checks that can share it, about `window_rows` at a time; between windows a check
    remembers at most `window` numbers of each series (told apart by the key's columns of text), or one for each day.
    Files that hold more rows than a window are read once for each window in them.

    Parameters
    ----------
    reach:
        Gives the storage.
    hook:
        Told of every check (`quality.check`).
    clock:
        Tells the time.
    window_rows:
        About how many rows are held at a time; twice as many are cut in two, unless they are all of one moment.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        hook: Hook = no_hook,
        clock: Callable[[], datetime] = _now,
        window_rows: int = WINDOW_ROWS,
    ) -> None:
        self._reach = reach
        self._hook = hook
        self._clock = clock
        self._window_rows = window_rows

    async def run(
        self,
        data_type: str,
        checks: Iterable[QualityCheck | str] | None = None,
        *,
        date_range: Mapping[str, Any] | None = None,
        symbols: Sequence[str] | None = None,
        store: bool = True,
    ) -> QualityReport:
        """Run checks, and keep what they found.

        Parameters
        ----------
        checks:
            Checks, or names of those that the contract declares; None is all of these, and freshness where the service
            levels promise it.
        date_range, symbols:
            Only these rows, as `DataQuery` takes them. Freshness is of the newest of them.
        store:
            Keep the results as rows of `quality_results`.

        Raises
        ------
        TableNotFoundError, UnknownDataTypeError
            There is nothing to judge, or no such data type.
        InvalidInputError
            A check does not fit the data type, or there is none of this name.
        InvalidQueryError
            The dates are malformed, or the data type has no symbol.
        MissingDependencyError, ConfigurationError
            A check names a calendar that cannot be had: no package, or no such exchange.
        """
        started, ran_at = time.perf_counter(), self._clock()
        lake = await self._reach()
        contract = await lake.contract(data_type)
        every, snapshot = await _prepared(lake, DataQuery(data_type, _filters(contract, symbols), date_range))
        contract = every.contract
        tallies = [await in_thread(tally_of, check, contract, ran_at) for check in chosen(contract, checks)]
        run = _Run(lake, contract, every, self._window_rows)
        for group in _passes(tallies, contract):
            await self._pass(run, group, snapshot)
        scope = _scope(contract, date_range, symbols)
        results = [_result(run, tally, scope, ran_at, snapshot.version) for tally in tallies]
        for result in results:
            tell(self._hook, result)
        if store and results:
            await lake.store_data(RESULTS, [result.to_row() for result in results], mode="append")
        seconds = time.perf_counter() - started
        return QualityReport(data_type, snapshot.version, scope, ran_at, tuple(results), seconds, run.bytes_read)

    async def results(self, data_type: str | None = None, since: Any = None) -> list[CheckResult]:
        """Return what was found before, the newest first.

        Parameters
        ----------
        data_type:
            Only of this one.
        since:
            Only of runs on or after this day, or at or after this moment.

        Raises
        ------
        InvalidQueryError
            `since` is neither a day nor an aware moment.
        """
        lake = await self._reach()
        filters = None if data_type is None else {"data_type": data_type}
        try:
            answer = await lake.retrieve_data(DataQuery(RESULTS, filters, None if since is None else {"start": since}))
        except TableNotFoundError:
            return []
        return await in_thread(_newest_first, answer)

    async def _pass(self, run: _Run, group: _Group, snapshot: Snapshot) -> None:
        """Read the rows once for the tallies of a group."""
        tallies = group.tallies
        bound = _narrowed(run.every, group)
        reading = Pass(run.lake._executor, bound, snapshot, group.axis, run.window_rows)  # noqa: SLF001 of this package
        withheld = secret_columns(run.contract)
        async with aclosing(reading.windows(newest_first=group.newest)) as windows:
            async for table in windows:
                window = Window(table, run.contract, withheld)
                for tally in tallies:
                    started = time.perf_counter()
                    if isinstance(tally, ReferentialTally):
                        await self._look_up(run, tally, window)
                    await in_thread(tally.observe, window)
                    run.seconds[tally.check.label] += time.perf_counter() - started
                await in_thread(_note_times, run, window)
                if group.newest and group.axis == run.contract.event_time:
                    break
        for tally in tallies:
            await in_thread(tally.finish)
            run.bytes[tally.check.label] += reading.bytes_read
        run.bytes_read += reading.bytes_read

    async def _look_up(self, run: _Run, tally: ReferentialTally, window: Window) -> None:
        """Give the tally the pairs that there are in the other data type on the window's days."""
        check = tally.check
        try:
            other = await run.lake.contract(check.refers_to)
            start, end = range_of(window.days)
            query = DataQuery(
                check.refers_to,
                date_range={"start": moment(start), "end": moment(end)},
                columns=[check.at, other.event_time],
            )
            bound, snapshot = await _prepared(run.lake, query)
        except (TableNotFoundError, UnknownDataTypeError) as error:
            tally.bound, tally.untold = None, str(error)
            return
        reading = Pass(run.lake._executor, bound, snapshot, other.event_time, run.window_rows)  # noqa: SLF001
        wanted = pc.unique(window.array(check.column))
        known: set[tuple[object, int]] = set()
        async with aclosing(reading.windows()) as tables:
            async for table in tables:
                known |= await in_thread(_pairs, table, check.at, other, wanted)
        tally.known = known
        run.bytes[check.label] += reading.bytes_read
        run.bytes_read += reading.bytes_read


@dataclass(frozen=True, slots=True)
class _Group:
    """Tallies that one reading serves."""

    axis: str
    every_revision: bool
    newest: bool
    tallies: list[Tally[Any]]


def _passes(tallies: Sequence[Tally[Any]], contract: Contract) -> list[_Group]:
    found: dict[tuple[str, bool, bool], list[Tally[Any]]] = {}
    for tally in tallies:
        duplicates = isinstance(tally.check, Duplicates)
        timed = contract.event_time in contract.key or not (duplicates or contract.revisions == "keep")
        axis = contract.event_time if timed else contract.key[0]
        every = duplicates and contract.revisions == "keep"
        found.setdefault((axis, every, isinstance(tally, FreshnessTally)), []).append(tally)
    return [_Group(*what, group) for what, group in found.items()]


def _narrowed(every: BoundPlan, group: _Group) -> BoundPlan:
    """Return the plan that reads what the group needs."""
    contract = every.contract
    needed = {*contract.key, contract.event_time}.union(*(tally.columns() for tally in group.tallies))
    plan = replace(every, columns=tuple(name for name in every.schema.names if name in needed))
    return replace(plan, merge=False, below=every.predicate) if group.every_revision else plan


def _newest_first(answer: QueryAnswer) -> list[CheckResult]:
    found = map(CheckResult.from_row, answer.to_pylist())
    return sorted(found, key=lambda each: (each.ran_at, each.data_type), reverse=True)


def _filters(contract: Contract, symbols: Sequence[str] | None) -> dict[str, Any] | None:
    if symbols is None:
        return None
    if contract.symbol is None:
        raise InvalidQueryError(f"{contract.data_type} has no symbol: run the checks over all of its rows")
    return {contract.symbol: [symbols] if isinstance(symbols, str) else list(symbols)}


def _scope(contract: Contract, date_range: Mapping[str, Any] | None, symbols: Sequence[str] | None) -> str:
    parts = []
    if date_range is not None:
        parts.append("..".join(str(date_range.get(edge) or "") for edge in ("start", "end")))
    if symbols is not None:
        parts.append(shown_symbols(contract, [symbols] if isinstance(symbols, str) else symbols))
    return " ".join(parts) or "all"


def _note_times(run: _Run, window: Window) -> None:
    times = window.times
    first, last = int(times.min()), int(times.max())
    run.start = first if run.start is None else min(run.start, first)
    run.end = last if run.end is None else max(run.end, last)


def _pairs(table: pa.Table, at: str, contract: Contract, wanted: pa.Array) -> set[tuple[object, int]]:
    kind = table.schema.field(at).type
    kept = table.filter(pc.is_in(table[at], value_set=wanted.cast(kind).drop_null()))
    window = Window(kept, contract)
    return pairs_of(window.array(at), window.days)


def _result(run: _Run, tally: Tally[Any], scope: str, ran_at: datetime, version: int) -> CheckResult:
    label = tally.check.label
    return CheckResult(
        data_type=run.contract.data_type,
        check=label,
        scope=scope,
        ran_at=ran_at,
        status=tally.status,
        severity=tally.check.severity,
        measured=tally.measured,
        bound=tally.bound,
        rows=tally.rows,
        failed=tally.failed,
        message=tally.message,
        examples=tuple(tally.examples),
        start=None if run.start is None else moment(run.start),
        end=None if run.end is None else moment(run.end),
        table_version=version,
        seconds=run.seconds[label],
        bytes_read=run.bytes[label],
    )


async def _prepared(lake: Lake, query: DataQuery) -> tuple[BoundPlan, Snapshot]:
    plan = await in_thread(QueryOptimizer().optimize, query)
    return await lake._bound(plan)  # noqa: SLF001 a part of the same package
