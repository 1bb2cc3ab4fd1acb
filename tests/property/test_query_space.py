"""Any history of a data type, asked any question: answers are those of plain Python, with and without pruning.

The oracle knows nothing of the engine: each random filter, value and aggregate comes with a function of plain rows.
"""

from __future__ import annotations

import math
from contextlib import aclosing
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.expressions import And, Not, Or, bucket, col, count
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery, QueryExecutor
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Date, Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.tables import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = dict[str, Any]

START = datetime(2024, 3, 8, 22, tzinfo=UTC)  # clocks change in New York the day after next
KEY = ("symbol", "timestamp")
pytestmark = pytest.mark.timeout(1800)  # many examples, where they are asked for
# An example writes some ten files and asks eight questions, twice.
FEW = settings(max_examples=max(5, settings.default.max_examples // 8))


class Fact(Record, data_type="facts", version="1.0.0", key=KEY):
    symbol: str
    timestamp: Timestamp
    price: Price | None = None
    number: int | None = None
    share: float | None = None
    note: str | None = None
    day: Date | None = None
    live: bool | None = None


class WiderFact(Fact, data_type="facts", version="1.1.0", key=KEY):
    extra: int | None = None


class Kept(Fact, data_type="kept", version="1.0.0", key=KEY, revisions="keep"):
    pass


class WiderKept(Kept, data_type="kept", version="1.1.0", key=KEY, revisions="keep"):
    extra: int | None = None


SCHEMAS = SchemaManager([Fact, WiderFact, Kept, WiderKept])
COLUMNS = ("symbol", "timestamp", "price", "number", "share", "note", "day", "live", "extra")


class Untold(Snapshot):
    """A snapshot of which nothing is told: no file is left out, and none is known without being read."""

    __slots__ = ()

    def prune(self, predicate: Any, statistics: Any = None) -> pa.Table:
        return self.files if statistics is None else self.with_statistics(statistics)

    def with_statistics(self, columns: Any = None) -> pa.Table:
        told = super().with_statistics(columns)
        for at, field in enumerate(told.schema):
            if field.name not in self.files.column_names:
                told = told.set_column(at, field, pa.nulls(told.num_rows, field.type))
        return told


class EveryFile(QueryExecutor):
    """An executor that reads every file of the table for every question."""

    async def retrieve(self, bound: Any, snapshot: Snapshot) -> Any:
        return await super().retrieve(bound, untold(snapshot))

    async def scan(self, bound: Any, snapshot: Snapshot, counts: Any) -> Any:
        async with aclosing(super().scan(bound, untold(snapshot), counts)) as batches:
            async for batch in batches:
                yield batch


def untold(snapshot: Snapshot) -> Snapshot:
    return Untold(**{each.name: getattr(snapshot, each.name) for each in fields(Snapshot)})


def unpruned(store: MemoryStore) -> LakeStorage:
    with patch("buffetstore.storage.lake.QueryExecutor", EveryFile):
        return LakeStorage(store, SCHEMAS)


symbols = st.sampled_from(["A", "B/C", "BRK.B", "..", "é", "^X"])
times = st.integers(0, 96).map(lambda half: START + timedelta(minutes=30 * half)) | st.sampled_from(
    [START - timedelta(days=70), START + timedelta(days=400)]
)
values: dict[str, Any] = {
    "price": st.decimals(-5, 5, places=2),
    "number": st.integers(-3, 3),
    "share": st.sampled_from([-1.5, -0.0, 0.0, 0.25, 2.0]),
    "note": st.sampled_from(["", "a", "ab%", "a_b", "ä", "Ω", "日本", "😀", "\ufffd", "a" * 33, "a" * 32 + "b"]),
    "day": st.integers(0, 4).map(lambda days: date(2024, 1, 1) + timedelta(days=days)),
    "live": st.booleans(),
    "extra": st.integers(-3, 3),
}
rows = st.fixed_dictionaries(
    {"symbol": symbols, "timestamp": times, **{name: st.none() | each for name, each in values.items()}}
)
batches = st.lists(rows, min_size=1, max_size=8, unique_by=lambda row: (row["symbol"], row["timestamp"]))
steps = st.lists(
    st.tuples(st.just("store"), batches)
    | st.tuples(st.just("old"), batches)
    | st.tuples(st.just("nan"), st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True))
    | st.tuples(st.just("delete"), symbols)
    | st.tuples(st.just("compact"), st.none()),
    min_size=1,
    max_size=6,
)


class Model:
    """What is stored, version after version."""

    def __init__(self, lakes: list[LakeStorage], data_type: str) -> None:
        self.lakes = lakes
        self.data_type = data_type
        self.revisions: list[Row] = []
        self.versions: dict[int, list[Row]] = {}

    async def do(self, what: str, given_: Any) -> None:
        # What a compaction finds to do may hang on the milliseconds between commits, and so may version numbers.
        version, *_ = [await self._done(lake, what, given_) for lake in self.lakes]
        if what in {"store", "old"}:
            self._stored([dict(row) | ({"extra": None} if what == "old" else {}) for row in given_])
        elif what == "delete":
            self.revisions = [row for row in self.revisions if row["symbol"] != given_]
        elif what == "nan":
            self._stored([nan_row(at) for at in given_])
        if version is not None:
            self.versions[version] = self.latest()

    async def _done(self, lake: LakeStorage, what: str, given_: Any) -> int | None:
        match what:
            case "store":
                return (await lake.store_data(self.data_type, given_)).table_version
            case "old":
                plain = [{name: value for name, value in row.items() if name != "extra"} for row in given_]
                return (await lake.store_data(self.data_type, plain, version="1.0.0")).table_version
            case "nan":  # as another engine may write it: our own intake makes it null
                await lake.delete_data(self.data_type, filters={"symbol": "NaN", "number": list(given_)})
                table = await lake.table(self.data_type)
                contract = await lake.contract(self.data_type)
                missing = {"created_at": START, "version": contract.version}
                found = [missing | nan_row(at) for at in given_]
                return (await table.append(pa.Table.from_pylist(found, table.schema))).version
            case "delete":
                return (await lake.delete_data(self.data_type, filters={"symbol": given_})).table_version
            case _:
                await lake.compact(self.data_type)
                return None

    def _stored(self, added: list[Row]) -> None:
        now = {key_of(row): row for row in self.latest()}
        self.revisions += [row for row in added if not same(now.get(key_of(row)), row)]

    def latest(self) -> list[Row]:
        return [row for _, row in sorted({key_of(row): row for row in self.revisions}.items())]


def nan_row(at: int) -> Row:
    told = {"symbol": "NaN", "timestamp": START + timedelta(hours=at), "share": math.nan, "number": at}
    return dict.fromkeys(COLUMNS) | told


def key_of(row: Row) -> tuple[str, datetime]:
    return row["symbol"], row["timestamp"]


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; NaN is itself, and sums of floats may differ in the last digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or one == other or math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)


# Values: a term, and its value of a row.


@dataclass(frozen=True)
class Pair:
    """Something of the engine, and what it means in Python; shown by hypothesis as the first."""

    made: Any
    means: Any

    def __repr__(self) -> str:
        return repr(self.made)


def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *found: None if any(each is None for each in found) else function(*found)


def divided(left: Any, right: Any) -> float:
    left, right = float(left), float(right)
    if right:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)


def column(name: str) -> Pair:
    return Pair(col(name), lambda row: row[name])


def _pair(term: Any, function: Callable[..., Any], *names: str) -> Pair:
    def means(row: Row) -> Any:
        return lifted(function)(*(row[name] for name in names))

    return Pair(term, means)


PRICE, NUMBER, SHARE = col("price"), col("number"), col("share")
numbers = st.sampled_from(
    [
        column("number"),
        column("price"),
        column("share"),
        column("extra"),
        _pair(NUMBER + 2, lambda n: n + 2, "number"),
        _pair(NUMBER * col("extra"), lambda n, e: n * e, "number", "extra"),
        _pair(PRICE * NUMBER, lambda p, n: p * n, "price", "number"),
        _pair(PRICE + Decimal("0.5"), lambda p: p + Decimal("0.5"), "price"),
        _pair(PRICE - NUMBER, lambda p, n: p - n, "price", "number"),
        _pair(-PRICE, lambda p: -p, "price"),
        _pair(PRICE.abs(), abs, "price"),
        _pair(PRICE / NUMBER, divided, "price", "number"),
        _pair(SHARE / NUMBER, divided, "share", "number"),
        _pair(SHARE * 2 + 1, lambda s: s * 2 + 1, "share"),
        _pair(SHARE * PRICE, lambda s, p: s * float(p), "share", "price"),
        _pair(SHARE.sqrt(), lambda s: math.nan if s < 0 or math.isnan(s) else math.sqrt(s), "share"),
        _pair(SHARE.floor(), lambda s: s if math.isnan(s) else float(math.floor(s)), "share"),
        _pair(PRICE.round(), round, "price"),
    ]
)
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def compared(left: Pair, op: str, right: Any) -> Pair:
    compare = OPERATORS[op]

    def means(row: Row) -> bool | None:
        one, other = left.means(row), right.means(row) if isinstance(right, Pair) else right
        if isinstance(one, float) and isinstance(other, Decimal):
            other = float(other)
        if isinstance(one, Decimal) and isinstance(other, float):
            one = float(one)
        return lifted(compare)(one, other)

    return Pair(compare(left.made, right.made if isinstance(right, Pair) else right), means)


def like(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if head == "%":
        return any(like(text[at:], rest) for at in range(len(text) + 1))
    if head == "\\":
        head, rest = rest[0], rest[1:]
        return text[:1] == head and like(text[1:], rest)
    return bool(text) and (head in {"_", text[0]}) and like(text[1:], rest)


def one_of(name: str, members: list[Any]) -> Pair:
    known = [each for each in members if each is not None]

    def means(row: Row) -> bool | None:
        if row[name] is None:
            return True if len(known) < len(members) else None
        return row[name] in known

    return Pair(col(name).is_in(members), means)


plain_columns = st.sampled_from(["symbol", "timestamp", "price", "number", "share", "note", "day", "extra"])
constants = values | {"symbol": symbols, "timestamp": times}
operators = st.sampled_from(sorted(OPERATORS))
patterns = st.sampled_from(
    ["a%", "%b", "_", "a\\_%", "a\\%%", "%", "", "ab\\%", "日%", "😀", "a" * 33 + "%", "B%", "BRK._"]
)
atoms = st.one_of(
    plain_columns.flatmap(lambda name: st.builds(compared, st.just(column(name)), operators, constants[name])),
    st.builds(compared, numbers, operators, st.integers(-2, 2)),
    st.builds(compared, numbers, operators, numbers),
    plain_columns.flatmap(
        lambda name: st.builds(one_of, st.just(name), st.lists(constants[name] | st.none(), max_size=3))
    ),
    st.builds(
        lambda name, pattern: _pair(col(name).like(pattern), lambda text: like(text, pattern), name),
        st.sampled_from(["note", "symbol"]),
        patterns,
    ),
    plain_columns.flatmap(
        lambda name: st.builds(
            lambda low, high: _pair(col(name).between(low, high), lambda found: low <= found <= high, name),
            constants[name],
            constants[name],
        )
    ),
    st.builds(
        lambda name: Pair(col(name).is_null(), lambda row: row[name] is None), st.sampled_from([*values, "symbol"])
    ),
    st.booleans().map(lambda live: compared(column("live"), "==", live)),
)


def every(parts: list[Pair]) -> Pair:
    def means(row: Row) -> bool | None:
        found = [each.means(row) for each in parts]
        return False if False in found else None if None in found else True

    return Pair(And(tuple(each.made for each in parts)), means)


def some(parts: list[Pair]) -> Pair:
    def means(row: Row) -> bool | None:
        found = [each.means(row) for each in parts]
        return True if True in found else None if None in found else False

    return Pair(Or(tuple(each.made for each in parts)), means)


def no(part: Pair) -> Pair:
    return Pair(Not(part.made), lambda row: lifted(lambda found: not found)(part.means(row)))


filters = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(every),
        st.lists(inner, min_size=1, max_size=3).map(some),
        inner.map(no),
    ),
    max_leaves=5,
)


@st.composite
def spans(draw: Any) -> Pair:
    """Dates are days of the zone, both included; moments are half open."""
    tz = draw(st.sampled_from([None, "America/New_York", "Asia/Kolkata", "Pacific/Apia"]))
    zone = ZoneInfo(tz or "UTC")
    days = sorted([START.date() + timedelta(days=draw(st.integers(-1, 4))) for _ in range(2)])
    edges: list[Any] = list(days)
    moments = [
        datetime.combine(days[0], time(), zone).astimezone(UTC),
        datetime.combine(days[1] + timedelta(days=1), time(), zone).astimezone(UTC),
    ]
    for at in (0, 1):
        shown = draw(st.sampled_from(["day", "text", "moment", "none"]))
        if shown == "text":
            edges[at] = edges[at].isoformat()
        elif shown == "moment":
            edges[at] = moments[at].astimezone(ZoneInfo("Asia/Tokyo"))
        elif shown == "none":
            edges[at], moments[at] = None, [START - timedelta(days=9999), START + timedelta(days=9999)][at]
    return Pair(
        {"date_range": {"start": edges[0], "end": edges[1]}, "tz": tz},
        lambda row: moments[0] <= row["timestamp"] < moments[1],
    )


# Shapes: options of a query, and what they make of rows that are in order of key.


def ranked(name: str, *, down: bool) -> Callable[[Row, Row], int]:
    """Order by a column: no value last, NaN above all numbers."""

    def compare(one: Row, other: Row) -> int:
        left, right = ((row[name] is None, row[name]) for row in (one, other))
        if left[0] or right[0]:
            return int(left[0]) - int(right[0])
        nan = [isinstance(value, float) and math.isnan(value) for _, value in (left, right)]
        found = nan[0] - nan[1] if any(nan) else (left[1] > right[1]) - (left[1] < right[1])
        return -found if down else found

    return compare


def ordered(found: list[Row], *orders: tuple[str, bool]) -> list[Row]:
    for name, down in reversed(orders):
        found = sorted(found, key=cmp_to_key(ranked(name, down=down)))
    return found


def exact(value: Any) -> Any:
    """Return what is the same for values that are alike: NaN is, and zeros are."""
    return "nan" if isinstance(value, float) and math.isnan(value) else value


AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": lambda found: sum(found) if found else None,
    "mean": lambda found: math.fsum(map(float, found)) / len(found) if found else None,
    "min": lambda found: extreme(found, min),
    "max": lambda found: extreme(found, max),
    "first": lambda found: found[0] if found else None,
    "last": lambda found: found[-1] if found else None,
    "count_distinct": lambda found: len(set(map(exact, found))),
}


def extreme(found: list[Any], choose: Callable[[list[Any]], Any]) -> Any:
    known = [value for value in found if exact(value) != "nan"]
    return choose(known) if known else found[0] if found else None


def aggregate(value: Pair, name: str) -> Pair:
    def means(members: list[Row]) -> Any:
        by_time = sorted(members, key=lambda row: (row["timestamp"], row["symbol"]))
        return AGGREGATES[name]([found for row in by_time if (found := value.means(row)) is not None])

    return Pair(getattr(value.made, name)(), means)


aggregates = st.one_of(
    st.just(Pair(count(), len)),
    st.builds(aggregate, numbers, st.sampled_from(sorted(AGGREGATES))),
    st.builds(
        aggregate,
        st.sampled_from(["symbol", "note", "day", "timestamp"]).map(column),
        st.sampled_from(["count", "min", "max", "first", "last", "count_distinct"]),
    ),
)


def day_in(tz: str) -> Callable[[datetime], datetime]:
    zone = ZoneInfo(tz)
    return lambda moment: datetime.combine(moment.astimezone(zone).date(), time(), zone).astimezone(UTC)


buckets = st.sampled_from(
    [
        Pair(bucket("timestamp", "1d", name="span"), day_in("UTC")),
        Pair(bucket("timestamp", "1d", tz="America/New_York", name="span"), day_in("America/New_York")),
        Pair(bucket("timestamp", "2h", name="span"), lambda at: at.replace(hour=at.hour // 2 * 2, minute=0)),
        Pair(
            bucket("timestamp", "1w", name="span"),
            lambda at: at.replace(hour=0, minute=0) - timedelta(days=at.weekday()),
        ),
        Pair(bucket("timestamp", "1y", name="span"), lambda at: datetime(at.year, 1, 1, tzinfo=UTC)),
    ]
)


@st.composite
def grouped(draw: Any) -> Pair:
    names = draw(st.lists(st.sampled_from(["symbol", "live", "number", "share", "note"]), max_size=2, unique=True))
    span = draw(st.none() | buckets)
    asked = draw(st.dictionaries(st.sampled_from(["x", "y"]), aggregates, min_size=1))
    groups: list[Any] = [*names, *([] if span is None else [span.made])]

    def means(found: list[Row]) -> list[Row]:
        members: dict[Any, list[Row]] = {}
        shown: dict[Any, Row] = {}
        for row in found:
            group = {name: row[name] for name in names} | (
                {} if span is None else {"span": span.means(row["timestamp"])}
            )
            token = tuple(map(exact, group.values()))
            members.setdefault(token, []).append(row)
            shown.setdefault(token, group)
        if not groups:
            members, shown = {(): found}, {(): {}}
        made = [shown[at] | {name: each.means(members[at]) for name, each in asked.items()} for at in members]
        return ordered(made, *((name, False) for name in [*names, *(["span"] if span else [])]))

    return Pair({"group_by": groups or None, "aggregates": {name: each.made for name, each in asked.items()}}, means)


@st.composite
def listed(draw: Any) -> Pair:
    """Chosen and computed columns: of the latest rows alone, or distinct, or a part of them in an order."""
    names = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True))
    computed = draw(st.none() | numbers)
    latest = draw(st.sampled_from([False, True, ["live"], ["note", "live"]]))
    distinct = draw(st.booleans())
    shown = [*names, *([] if computed is None else ["made"])]
    by = draw(st.none() | st.tuples(st.sampled_from(shown), st.booleans()))
    offset, limit = draw(st.tuples(st.none() | st.integers(0, 3), st.none() | st.integers(0, 5)))
    if not (by or latest or distinct):
        limit = offset = None  # which rows these are is not said
    options = {
        "columns": [*names, *([] if computed is None else [computed.made.alias("made")])],
        "latest": latest,
        "distinct": distinct,
        "order_by": None if by is None else ["-" * by[1] + by[0]],
        "limit": limit,
        "offset": offset,
    }

    def means(found: list[Row]) -> list[Row]:
        if latest:
            groups = ["symbol"] if latest is True else latest
            by_time = sorted(found, key=lambda row: (row["timestamp"], row["symbol"]))
            found = sorted({tuple(row[name] for name in groups): row for row in by_time}.values(), key=key_of)
        made = [row | ({} if computed is None else {"made": computed.means(row)}) for row in found]
        if distinct:
            alike = {tuple(exact(row[name]) for name in shown): row for row in reversed(made)}
            made = ordered(list(alike.values()), *((name, False) for name in shown))
        made = ordered(made, by) if by else made
        part = made[offset or 0 :]
        return [{name: row[name] for name in shown} for row in (part if limit is None else part[:limit])]

    return Pair(options, means)


shapes = st.one_of(st.just(Pair({}, lambda found: found)), grouped(), listed())


@st.composite
def questions(draw: Any) -> Pair:
    chosen, span, shape = draw(st.none() | filters), draw(st.none() | spans()), draw(shapes)
    options = {"filters": None if chosen is None else chosen.made, **({} if span is None else span.made), **shape.made}

    def means(found: list[Row]) -> list[Row]:
        kept = [row for row in found if chosen is None or chosen.means(row) is True]
        return list(shape.means([row for row in kept if span is None or span.means(row)]))

    return Pair(options, means)


@pytest.mark.parametrize("data_type", ["facts", "kept"])
class TestAnswers:
    asked: ClassVar[Any] = st.lists(questions(), min_size=8, max_size=8)

    @FEW
    @given(history=steps, asked=asked, first=batches)
    async def test_every_answer_is_that_of_plain_python(
        self, data_type: str, history: Any, asked: list[Pair], first: Any
    ) -> None:
        async with (
            MemoryStore() as store,
            MemoryStore() as other,
            LakeStorage(store, SCHEMAS) as lake,
            unpruned(other) as whole,
        ):
            model = Model([lake, whole], data_type)
            await model.do("store", first)
            for what, given_ in history:
                await model.do(what, given_)
            for question in asked:
                expected = question.means(model.latest())
                query = DataQuery(data_type, **question.made)
                for storage in model.lakes:
                    assert_same(await answers(storage, query), expected, query)
                scanned = [row async for part in lake.scan(query) for row in part.to_pylist()]
                assert sorted(map(repr, scanned)) == sorted(map(repr, await answers(lake, query, plain=False)))
            for version, then in model.versions.items():
                question = asked[version % len(asked)]
                query = DataQuery(data_type, table_version=version, **question.made)
                assert_same(await answers(lake, query), question.means(then), query)
            every_revision = await answers(lake, DataQuery(data_type, revisions="all"))
            kept = model.revisions if data_type == "kept" else model.latest()
            assert sorted(map(shown, every_revision)) == sorted(map(shown, kept))


def shown(row: Row) -> str:
    return repr([spelled(value) for _, value in sorted(row.items())])


def spelled(value: Any) -> Any:
    """Return the value as one text, of all that it may have."""
    if isinstance(value, Decimal):
        return (value + 0).normalize()
    return value.isoformat() if isinstance(value, datetime) else value


async def test_the_other_side_leaves_no_file_out() -> None:
    async with (
        MemoryStore() as store,
        MemoryStore() as other,
        LakeStorage(store, SCHEMAS) as lake,
        unpruned(other) as whole,
    ):
        found = []
        for storage in (lake, whole):
            for day in range(3):
                row = {"symbol": "A", "timestamp": START + timedelta(days=day), "number": day}
                await storage.store_data("facts", [row])
            found.append((await storage.retrieve_data(DataQuery("facts", {"number": 1}))).files_scanned)
            found.append((await storage.retrieve_data(DataQuery("facts", aggregates={"n": count()}))).files_scanned)
    assert found == [1, 0, 3, 3]


async def answers(storage: LakeStorage, query: DataQuery, *, plain: bool = True) -> list[Row]:
    found = (await storage.retrieve_data(query)).to_pylist()
    return (
        [{name: row[name] for name in row if name not in {"created_at", "version", "available_at"}} for row in found]
        if plain
        else found
    )


def assert_same(found: list[Row], expected: list[Row], query: DataQuery) -> None:
    assert same(found, expected), f"{query}\nfound    {found}\nexpected {expected}"
