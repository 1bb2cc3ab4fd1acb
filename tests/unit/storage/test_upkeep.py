"""Looking back, going back and upkeep by data type."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.errors import (
    InvalidInputError,
    InvalidQueryError,
    StorageError,
    TableNotFoundError,
    TableVersionNotFoundError,
    UnknownDataTypeError,
)
from buffetstore.objects import MemoryStore, list_all
from buffetstore.query import DataQuery, LayoutReport
from buffetstore.storage import LakeStorage, VersionedStorage, read_lineage
from buffetstore.testing.data_storage import bar, bars, keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from buffetstore.monitoring import Operation


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def told() -> list[Operation]:
    return []


@pytest.fixture
async def lake(store: MemoryStore, told: list[Operation]) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store, hook=told.append) as storage:
        yield storage


async def stored_keys(lake: LakeStorage, **options: Any) -> list[tuple[str, int]]:
    return keys((await lake.retrieve_data(DataQuery("market_data", **options))).to_pylist())


async def test_the_files_of_the_newest_version(store: MemoryStore, lake: LakeStorage) -> None:
    stored = await lake.store_data("market_data", bars(["AAPL"], [1, 2, 15]))
    files = await lake.list_files("market_data")
    assert [file.path for file in files] == sorted(stored.file_paths)
    assert [(file.rows, file.start, file.end) for file in files] == [
        (1, datetime(2024, 1, day, tzinfo=UTC), datetime(2024, 1, day, tzinfo=UTC)) for day in (1, 2, 15)
    ]
    sizes = {meta.key: meta.size for meta in await list_all(store)}
    assert all(sizes[file.path] == file.bytes for file in files)
    assert [file.path for file in await lake.list_files("market_data", "year=2024/month=01/day=1")] == [files[2].path]
    assert await lake.list_files("market_data", "year=2023/") == []


async def test_history_tells_who_did_what_with_which_rows(lake: LakeStorage, told: list[Operation]) -> None:
    await lake.store_data("market_data", bars(), inputs=["bars.csv"], code_version="9f2c")
    await lake.delete_data("market_data", filters={"symbol": "MSFT"})
    records = await lake.history("market_data")
    assert [(record.version, record.operation) for record in records] == [
        (2, "DELETE"),
        (1, "MERGE"),
        (0, "CREATE TABLE"),
    ]
    (lineage,) = read_lineage(records[1].user_metadata)
    assert (lineage.schema_version, lineage.inputs, lineage.code_version) == ("1.2.0", ("bars.csv",), "9f2c")
    assert [record.version for record in await lake.history("market_data", 1)] == [2]
    assert [each.counts["commits"] for each in told if each.name == "storage.history"] == [3, 1]


async def test_going_back_and_on(lake: LakeStorage) -> None:
    first = await lake.store_data("market_data", bars())
    await lake.delete_data("market_data", filters={"symbol": "MSFT"})
    done = await lake.restore("market_data", first.table_version)
    assert (done.version, done.restored_version) == (3, 1)
    assert await stored_keys(lake) == keys(bars())
    await lake.restore("market_data", 2)
    assert await stored_keys(lake) == keys(bars(["AAPL"]))
    assert (await lake.store_data("market_data", bars())).inserted == 5
    moment = (await lake.history("market_data"))[-3].timestamp  # taken just before version 2 was there
    assert moment is not None
    assert (await lake.restore("market_data", timestamp=moment)).restored_version == 1


async def test_a_key_lasts_beyond_going_back(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars(["AAPL"]))
    await lake.store_data("market_data", bars(["MSFT"]), idempotency_key="k")
    assert not (await lake.restore("market_data", 1, idempotency_key="undo")).done_before
    assert (await lake.store_data("market_data", bars(["MSFT"]), idempotency_key="k")).done_before
    assert (await lake.restore("market_data", 1, idempotency_key="undo")).done_before
    assert await stored_keys(lake) == keys(bars(["AAPL"]))


async def test_compacting_changes_no_row(lake: LakeStorage, told: list[Operation]) -> None:
    for day in range(1, 6):
        await lake.store_data("market_data", bars(days=[day]))
    steps: list[tuple[int, int]] = []
    before = await lake.retrieve_data(DataQuery("market_data"))
    done = await lake.compact("market_data", progress=lambda *step: steps.append(step))
    assert (done.files_removed, done.files_added, done.rows) == (5, 1, 10)
    after = await lake.retrieve_data(DataQuery("market_data"))
    assert after.table.equals(before.table)
    (file,) = await lake.list_files("market_data")
    assert file.path.rpartition("/")[2].startswith("market_20240101_000000_v1-")
    assert steps[-1][0] == steps[-1][1] > 0
    assert (await lake.compact("market_data")).commits == 0
    assert [each.counts["files_removed"] for each in told if each.name == "storage.compact"] == [5, 0]


async def test_compacting_what_is_chosen(lake: LakeStorage) -> None:
    for day in range(1, 7):
        await lake.store_data("market_data", [bar("AAPL", day)])
    done = await lake.compact("market_data", date_range={"start": "2024-01-03", "end": "2024-01-05"})
    assert (done.files_removed, done.rows) == (3, 3)
    with pytest.raises(InvalidQueryError, match="did you mean 'symbol'"):
        await lake.compact("market_data", filters={"symbl": "AAPL"})


async def test_vacuum_keeps_what_retention_needs(store: MemoryStore, lake: LakeStorage, told: list[Operation]) -> None:
    await lake.store_data("market_data", bars())
    await lake.compact("market_data")
    assert (await lake.vacuum("market_data")).files == 0
    with pytest.raises(InvalidInputError, match="allow_short_retention"):
        await lake.vacuum("market_data", retention=timedelta(0))
    before = len(await list_all(store))
    would = await lake.vacuum("market_data", retention=timedelta(0), allow_short_retention=True, dry_run=True)
    assert (would.files, len(await list_all(store))) == (5, before)
    steps: list[tuple[int, int]] = []
    done = await lake.vacuum(
        "market_data",
        retention=timedelta(0),
        allow_short_retention=True,
        progress=lambda *step: steps.append(step),
    )
    assert (done.files, len(await list_all(store))) == (5, before - 5)
    assert steps[-1] == (5, 5)
    assert await stored_keys(lake) == keys(bars())
    assert [each.counts["files_deleted"] for each in told if each.name == "storage.vacuum" and not each.error] == [
        0,
        0,
        5,
    ]


async def test_verify_and_repair(store: MemoryStore, lake: LakeStorage) -> None:
    stored = await lake.store_data("market_data", bars())
    assert (await lake.verify("market_data", deep=True)).ok
    await store.delete([stored.file_paths[0]])
    report = await lake.verify("market_data")
    assert not report.ok
    assert [f"raw/market_data/{path}" for path in report.missing] == [stored.file_paths[0]]
    looked = await lake.repair("market_data")
    assert (looked.dry_run, looked.removed) == (True, report.missing)
    mended = await lake.repair("market_data", dry_run=False)
    assert (mended.removed, mended.version) == (report.missing, 2)
    assert (await lake.verify("market_data")).ok
    assert await stored_keys(lake) == keys(bars(days=range(2, 6)))


async def test_following_what_changes(lake: LakeStorage, told: list[Operation]) -> None:
    await lake.store_data("market_data", [bar("AAPL", 1)])
    await lake.store_data("market_data", [bar("MSFT", 1)])
    found = [change async for change in lake.changes("market_data", columns=["symbol"])]
    assert [(change.version, change.rows["symbol"].to_pylist()) for change in found] == [(1, ["AAPL"]), (2, ["MSFT"])]
    for since in (1, found[0].cursor, str(found[0].cursor)):
        later = [change async for change in lake.changes("market_data", since)]
        assert [change.version for change in later] == [2]
    chosen = [change async for change in lake.changes("market_data", filters={"symbol": "MSFT"})]
    assert [change.version for change in chosen] == [2]
    assert [change.version async for change in lake.changes("market_data", until=1)] == [1]
    async with aclosing(lake.changes("market_data", tail=True, poll_seconds=(0, 0))) as changes:
        assert (await anext(changes)).version == 1
        assert (await anext(changes)).version == 2
        waiting = asyncio.ensure_future(anext(changes))
        await lake.store_data("market_data", [bar("TSLA", 1)])
        assert (await waiting).rows["symbol"].to_pylist() == ["TSLA"]
    assert {each.error for each in told if each.name == "storage.changes"} == {None}


@pytest.mark.parametrize(
    ("options", "kind", "shown"),
    [
        ({"since": "x"}, InvalidInputError, "'x' is no cursor"),
        ({"since": 9}, TableVersionNotFoundError, "latest is 1"),
        ({"since": -5}, InvalidInputError, "-5"),
        ({"filters": {"symbl": "A"}}, InvalidQueryError, "did you mean 'symbol'"),
        ({"columns": ["symbl"]}, InvalidQueryError, "did you mean 'symbol'"),
        ({"timestamp": datetime(2024, 1, 1)}, InvalidInputError, "no zone"),  # noqa: DTZ001
    ],
)
async def test_changes_that_cannot_be_told(lake: LakeStorage, options: Any, kind: Any, shown: str) -> None:
    await lake.store_data("market_data", bars())
    with pytest.raises(kind, match=shown):
        await anext(lake.changes("market_data", **options))


CALLS: dict[str, Callable[[VersionedStorage, str], Awaitable[Any]]] = {
    "table": lambda lake, name: lake.table(name),
    "list_files": lambda lake, name: lake.list_files(name),
    "history": lambda lake, name: lake.history(name),
    "restore": lambda lake, name: lake.restore(name, 0),
    "compact": lambda lake, name: lake.compact(name),
    "analyze": lambda lake, name: lake.analyze(name),
    "apply": lambda lake, name: lake.apply(LayoutReport(name, 0, 0, 0, 0, 0)),
    "vacuum": lambda lake, name: lake.vacuum(name),
    "verify": lambda lake, name: lake.verify(name),
    "repair": lambda lake, name: lake.repair(name),
    "changes": lambda lake, name: anext(lake.changes(name)),
    "explain": lambda lake, name: lake.explain(DataQuery(name)),
    "lineage": lambda lake, name: lake.lineage(name),
    "join_asof": lambda lake, name: lake.join_asof(DataQuery(name), DataQuery("market_data")),
    "scan_asof": lambda lake, name: anext(lake.scan_asof(DataQuery(name), DataQuery("market_data"))),
}


def test_every_method_is_called_here() -> None:
    own = {name for name in VersionedStorage.__abstractmethods__ if name in vars(VersionedStorage)}
    assert own == set(CALLS)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_data_type_that_is_not_there(lake: LakeStorage, call: Any) -> None:
    await lake.store_data("market_data", bars())
    with pytest.raises(UnknownDataTypeError, match="market_data"):
        await call(lake, "market_dta")
    with pytest.raises(TableNotFoundError, match="stored are market_data"):
        await call(lake, "forecasts")


@pytest.mark.parametrize(
    ("options", "kind", "shown"),
    [
        ({}, InvalidInputError, "one of them"),
        ({"table_version": 1, "timestamp": datetime(2024, 1, 1, tzinfo=UTC)}, InvalidInputError, "one of them"),
        ({"table_version": 7}, TableVersionNotFoundError, "versions 0 to 1"),
        ({"table_version": -1}, StorageError, "-1"),
        ({"timestamp": datetime(2024, 1, 1)}, InvalidInputError, "no zone"),  # noqa: DTZ001
        ({"timestamp": datetime(1999, 1, 1, tzinfo=UTC)}, TableVersionNotFoundError, "oldest entry"),
    ],
)
async def test_a_version_that_cannot_be(lake: LakeStorage, options: Any, kind: Any, shown: str) -> None:
    await lake.store_data("market_data", bars())
    with pytest.raises(kind, match=shown):
        await lake.restore("market_data", **options)
    assert (await lake.table("market_data")).version == 1


@pytest.mark.parametrize("limit", [-1])
async def test_a_limit_that_cannot_be(lake: LakeStorage, limit: Any) -> None:
    await lake.store_data("market_data", bars())
    with pytest.raises(InvalidInputError, match=str(limit)):
        await lake.history("market_data", limit)
