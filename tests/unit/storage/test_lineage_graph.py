"""Walking from rows to what they were made of, and to what was made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import InvalidInputError, TableNotFoundError, TableVersionNotFoundError, UnknownDataTypeError
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage, LineageGraph, State
from buffetstore.storage.lineage_graph import commits_of, state_of
from buffetstore.tables.history import CommitRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Signal(Record, data_type="signals", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    value: Price


class Order(Record, data_type="orders", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    value: Price


def bar(day: int = 2) -> dict[str, Any]:
    stamp = f"2024-01-{day:02}T00:00:00Z"
    return {"symbol": "AAPL", "timestamp": stamp, "price": 10, "volume": 1, "data_source": "test"}


def value(day: int = 2) -> dict[str, Any]:
    return {"symbol": "AAPL", "timestamp": f"2024-01-{day:02}T00:00:00Z", "value": 1}


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Signal, Order])) as storage:
        yield storage


def edges(graph: LineageGraph) -> set[tuple[str, str]]:
    return {(str(each), str(step.output)) for step in graph.steps for each in step.inputs}


async def chain(lake: LakeStorage) -> tuple[int, int, int]:
    """Store bars twice, a signal of the first, and an order of the signal; return their versions."""
    first = await lake.store_data("market_data", [bar(2)], inputs=["a.csv"], job="load", code_version="c1")
    answer = await lake.retrieve_data(DataQuery("market_data"))
    signal = await lake.store_data("signals", [value()], inputs=[answer], job="train", parameters={"window": 20})
    await lake.store_data("market_data", [bar(3)], inputs=["b.csv"])
    order = await lake.store_data("orders", [value()], inputs=[signal, "https://user:pw@desk/limits"])
    return first.table_version, signal.table_version, order.table_version


async def test_up_to_the_sources_and_down_to_what_was_derived(lake: LakeStorage) -> None:
    first, signal, order = await chain(lake)
    up = await lake.lineage("orders", direction="up")
    assert edges(up) == {
        (f"signals@{signal}", f"orders@{order}"),
        ("https://***@desk/limits", f"orders@{order}"),
        (f"market_data@{first}", f"signals@{signal}"),
        ("a.csv", f"market_data@{first}"),
    }
    assert up.sources == ("a.csv", "https://***@desk/limits")
    assert up.incomplete == ()
    assert {step.origin.job for step in up.steps} == {"load", "train", None}
    down = await lake.lineage("market_data", first, direction="down")
    assert {str(step.output) for step in down.steps} == {f"signals@{signal}", f"orders@{order}"}
    near = await lake.lineage("market_data", first, direction="down", depth=1)
    assert {str(step.output) for step in near.steps} == {f"signals@{signal}"}
    both = await lake.lineage("signals")
    assert edges(both) == edges(up)


async def test_what_was_replaced_is_no_origin(lake: LakeStorage) -> None:
    await chain(lake)
    await lake.store_data("market_data", [bar(4)], mode="overwrite", inputs=["c.csv"])
    assert (await lake.lineage("market_data", direction="up")).sources == ("c.csv",)
    newest = (await lake.table("market_data")).version
    assert (await lake.lineage("market_data", newest, direction="down")).steps == ()
    await lake.restore("market_data", 1)
    assert (await lake.lineage("market_data", direction="up")).sources == ("a.csv",)
    down = await lake.lineage("market_data", direction="down")
    assert {step.output.data_type for step in down.steps} == {"signals", "orders"}


async def test_a_part_that_was_replaced_leaves_the_rest_known(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar(2)], inputs=["a.csv"])
    await lake.store_data(
        "market_data",
        [bar(3)],
        mode="overwrite",
        replace_where={"timestamp": datetime(2024, 1, 3, tzinfo=UTC)},
        inputs=["b.csv"],
    )
    assert (await lake.lineage("market_data")).sources == ("a.csv", "b.csv")


async def test_the_graph_of_a_circle_ends(lake: LakeStorage) -> None:
    await lake.store_data("signals", [value(2)], inputs=["orders@1"])
    await lake.store_data("orders", [value(2)], inputs=["signals@1"])
    graph = await lake.lineage("signals")
    assert edges(graph) == {("orders@1", "signals@1"), ("signals@1", "orders@1")}


async def test_an_input_that_is_gone_is_told(lake: LakeStorage) -> None:
    await lake.store_data("signals", [value(2)], inputs=["orders@3", "nothing_known@1"])
    graph = await lake.lineage("signals", direction="up")
    assert graph.incomplete == (State("orders", 3), State("nothing_known", 1))


async def test_wrong_walks_are_refused(lake: LakeStorage) -> None:
    await chain(lake)
    with pytest.raises(InvalidInputError, match="sideways"):
        await lake.lineage("signals", direction="sideways")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="depth=0"):
        await lake.lineage("signals", depth=0)
    with pytest.raises(TableVersionNotFoundError, match="no version 99"):
        await lake.lineage("signals", 99)
    with pytest.raises(TableNotFoundError):
        await lake.lineage("quotes")
    with pytest.raises(UnknownDataTypeError):
        await lake.lineage("signal")


async def test_as_a_drawing(lake: LakeStorage) -> None:
    await lake.store_data("signals", [value(2)], inputs=['a "b"\\.csv'], job="nightly")
    dot = (await lake.lineage("signals")).to_dot()
    assert dot.startswith("digraph lineage {")
    assert '  "a \\"b\\"\\\\.csv" -> "signals" [label="nightly\\nversion 1"];' in dot
    assert '  "signals" [shape=box];' in dot


@given(st.text(), st.integers(min_value=0, max_value=2**40))
def test_a_state_is_read_as_it_is_written(name: str, version: int) -> None:
    if name:
        assert state_of(str(State(name, version))) == State(name, version)
    assert state_of(name) is None or "@" in name


def test_a_log_that_begins_later_is_told() -> None:
    records = [CommitRecord(5, operation="WRITE"), CommitRecord(4, operation="WRITE")]
    assert commits_of(5, records) == ([5, 4], False)
    whole = [*records, CommitRecord(3, operation="WRITE", parameters={"mode": "Overwrite"})]
    assert commits_of(5, whole) == ([5, 4, 3], True)
    assert commits_of(9, whole) == ([], False)


def test_a_restored_state_is_that_of_its_version() -> None:
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    records = [
        CommitRecord(3, operation="RESTORE", parameters={"timestamp": moment.isoformat()}),
        CommitRecord(2, operation="WRITE", committed_at=datetime(2024, 1, 3, tzinfo=UTC)),
        CommitRecord(1, operation="WRITE", committed_at=datetime(2024, 1, 1, tzinfo=UTC)),
        CommitRecord(0, operation="CREATE TABLE"),
    ]
    assert commits_of(3, records) == ([1, 0], True)
    by_version = [CommitRecord(3, operation="RESTORE", parameters={"version": 1}), *records[1:]]
    assert commits_of(3, by_version) == ([1, 0], True)
