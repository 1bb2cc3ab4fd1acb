"""Any rows, in any number of writes, asked any question: the answer is what a loop over the rows gives."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.expressions import evaluate
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery, bind_expression
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Date, Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    import pyarrow as pa

START = datetime(2023, 12, 30, tzinfo=UTC)


class Thing(Record, data_type="things", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    price: Price | None = None
    number: int | None = None
    share: float | None = None
    day: Date | None = None
    live: bool | None = None


class Kept(Thing, data_type="kept", version="1.0.0", revisions="keep"):
    pass


SCHEMAS = SchemaManager([Thing, Kept])
SCHEMA: pa.Schema = SCHEMAS.contract("things").schema

symbols = st.sampled_from(["A", "B/C", "..", "é", "^X"])
times = st.one_of(
    st.integers(0, 4 * 24 * 3600 * 10).map(lambda tenths: START + timedelta(milliseconds=tenths * 100)),
    st.integers(0, 4).map(lambda days: START + timedelta(days=days)),
    st.sampled_from([0, 40, 900]).map(lambda days: START + timedelta(days=days)),
)
values: dict[str, Any] = {
    "price": st.decimals(-5, 5, places=2),
    "number": st.integers(-3, 3) | st.sampled_from([2**60, -(2**60)]),
    "share": st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1e300]),
    "day": st.integers(0, 4).map(lambda days: date(2024, 1, 1) + timedelta(days=days)),
    "live": st.booleans(),
}
rows = st.fixed_dictionaries(
    {"symbol": symbols, "timestamp": times, **{name: st.none() | each for name, each in values.items()}}
)
batches = st.lists(
    st.lists(rows, min_size=1, max_size=8, unique_by=lambda row: (row["symbol"], row["timestamp"])),
    min_size=1,
    max_size=3,
)
# An example writes some ten files and reads them back: half as many as of the pure properties.
FEWER = settings(max_examples=settings.default.max_examples // 2)


def conditions(constants: Any) -> Any:
    bounds = st.dictionaries(st.sampled_from(["gte", "gt", "lte", "lt", "ne"]), constants, min_size=1, max_size=3)
    return st.one_of(constants, st.none(), st.lists(constants | st.none(), max_size=3), bounds)


filters = st.fixed_dictionaries(
    {},
    optional={
        "symbol": conditions(symbols),
        "timestamp": conditions(times),
        **{name: conditions(each) for name, each in values.items() if name != "live"},
        "live": st.none() | st.booleans() | st.lists(st.booleans(), max_size=2),
        "price": conditions(values["price"] | st.sampled_from([Decimal("0.125000001"), 10**20, 0.1])),
    },
)
edges = st.one_of(st.none(), times, times.map(datetime.date))
ranges = st.tuples(edges, edges).map(lambda pair: {"start": pair[0], "end": pair[1]})


def well_ordered(span: dict[str, Any]) -> bool:
    start, end = (
        None if each is None else each.date() if isinstance(each, datetime) else each for each in span.values()
    )
    return start is None or end is None or start < end


def asked(query: DataQuery, row: dict[str, Any]) -> bool:
    start, end = query.time_range()
    time = row["timestamp"]
    inside = (start is None or time >= start) and (end is None or time < end)
    return inside and evaluate(bind_expression(query.predicate(), SCHEMA, "things"), row) is True


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in ("symbol", "timestamp", *values)}


def by_key(row: dict[str, Any]) -> tuple[str, datetime]:
    # Text is ordered as its UTF-8 bytes are, which is the order of code points: Python's.
    return row["symbol"], row["timestamp"]


class TestAnswers:
    query: ClassVar[Any] = st.builds(
        DataQuery,
        st.just("things"),
        filters,
        ranges.filter(well_ordered),
        limit=st.none() | st.integers(0, 8),
    )

    @FEWER
    @given(batches, query)
    async def test_the_answer_is_that_of_a_loop(self, given_batches: Any, query: DataQuery) -> None:
        async with MemoryStore() as store, LakeStorage(store, SCHEMAS) as storage:
            stored: dict[Any, dict[str, Any]] = {}
            for batch in given_batches:
                await storage.store_data("things", batch)
                stored |= {by_key(row): plain(row) for row in batch}
            answer = await storage.retrieve_data(query)
            scanned = [plain(row) async for part in storage.scan(query) for row in part.to_pylist()]
        expected = sorted((row for row in stored.values() if asked(query, row)), key=by_key)
        found = [plain(row) for row in answer.to_pylist()]
        if query.limit is None:
            assert found == expected
            assert sorted(scanned, key=by_key) == expected
        else:
            assert len(found) == len(scanned) == min(query.limit, len(expected))
            assert all(row in expected for row in [*found, *scanned])
            assert found == sorted(found, key=by_key)

    @FEWER
    @given(batches, query)
    async def test_kept_revisions_give_the_latest_or_all(self, given_batches: Any, query: DataQuery) -> None:
        async with MemoryStore() as store, LakeStorage(store, SCHEMAS) as storage:
            latest: dict[Any, dict[str, Any]] = {}
            every = []
            for batch in given_batches:
                await storage.store_data("kept", batch)
                every += [row for row in map(plain, batch) if latest.get(by_key(row)) != row]
                latest |= {by_key(row): plain(row) for row in batch}
            options = {"filters": query.filters, "date_range": query.date_range}
            now = await storage.retrieve_data(DataQuery("kept", **options, limit=query.limit))
            whole = await storage.retrieve_data(DataQuery("kept", **options, revisions="all"))
        expected = sorted((row for row in latest.values() if asked(query, row)), key=by_key)
        assert [plain(row) for row in now.to_pylist()] == expected[: query.limit]
        revisions = [row for row in every if asked(query, row)]
        found = [plain(row) for row in whole.to_pylist()]
        assert len(found) == len(revisions)
        assert all(row in revisions for row in found)
        assert all(row in found for row in revisions)
