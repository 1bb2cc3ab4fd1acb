"""Reading across versions on real tables: by renamed, filled and computed columns, older readers and newer ones."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import pyarrow.compute as pc
import pytest

from buffetstore.errors import InvalidQueryError, UnsupportedOperationError
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Aliases, Mode, Record, SchemaManager, Upcast
from buffetstore.schemas.types import Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage


class Fill(Record, data_type="fills", version="1.0.0", key=("site", "timestamp")):
    site: str
    timestamp: Timestamp
    px: int
    venue: str | None = None


class FillRenamed(Record, data_type="fills", version="1.1.0", key=("site", "timestamp")):
    site: str
    timestamp: Timestamp
    price: Annotated[int, Aliases("px")]
    venue: str = "unknown"


class FillComputed(Record, data_type="fills", version="1.2.0", key=("site", "timestamp")):
    site: str
    timestamp: Timestamp
    price: Annotated[int, Aliases("px")]
    venue: str = "unknown"
    twice: int

    upcasts: ClassVar[tuple[Upcast, ...]] = (
        Upcast(
            "twice",
            "twice",
            "1.2.0",
            lambda old: pc.multiply(old["price" if "price" in old.column_names else "px"], 2),
        ),
    )


def row(day: int, **fields: Any) -> dict[str, Any]:
    return {"site": "A", "timestamp": datetime(2024, 1, day, tzinfo=UTC)} | fields


def lake_of(store: Any, *types: type[Record]) -> LakeStorage:
    return LakeStorage(store, SchemaManager(types))


async def filled() -> MemoryStore:
    """Return a store with two days of each of two versions, a file each."""
    store = MemoryStore()
    async with lake_of(store, Fill, FillRenamed) as lake:
        for day in (1, 2):
            await lake.store_data("fills", [row(day, px=day * 10, venue="X" if day == 1 else None)], version="1.0.0")
        for day in (3, 4):
            await lake.store_data("fills", [row(day, price=day * 10, venue="Y")])
    return store


async def test_a_renamed_column_is_one_column_and_prunes() -> None:
    async with lake_of(await filled(), Fill, FillRenamed) as lake:
        answer = await lake.retrieve_data(DataQuery("fills"))
        assert answer.table.column_names[:4] == ["site", "timestamp", "price", "venue"]
        assert "px" not in answer.table.column_names
        assert answer.table["price"].to_pylist() == [10, 20, 30, 40]
        assert answer.table["venue"].to_pylist() == ["X", "unknown", "Y", "Y"]
        assert answer.table["version"].to_pylist() == ["1.0.0", "1.0.0", "1.1.0", "1.1.0"], "as they were stored"
        one = await lake.retrieve_data(DataQuery("fills", {"price": 20}))
        assert (one.table["price"].to_pylist(), one.files_scanned) == ([20], 1), "pruned by the old name's statistics"
        some = await lake.retrieve_data(DataQuery("fills", {"price": {"gte": 20, "lt": 40}}, columns=["site"]))
        assert (some.rows, some.files_scanned) == (2, 2)
        default = await lake.retrieve_data(DataQuery("fills", {"venue": "unknown"}))
        assert default.table["price"].to_pylist() == [20]
        assert (await lake.retrieve_data(DataQuery("fills", {"venue": None}))).rows == 0
        assert (await lake.retrieve_data(DataQuery("fills", {"venue": {"ne": "unknown"}}))).rows == 3
        old = await lake.retrieve_data(DataQuery("fills", {"version": "1.0.0"}))
        assert old.table["price"].to_pylist() == [10, 20], "filters on the version are about what was stored"
        raw = await lake.retrieve_data(DataQuery("fills", columns=["px"]))
        assert raw.table["px"].to_pylist() == [10, 20, None, None], "a column of an earlier version, where it is named"
        limited = await lake.retrieve_data(DataQuery("fills", {"price": {"gte": 20}}, limit=1))
        assert limited.table["price"].to_pylist() == [20]
        assert [batch.num_rows async for batch in lake.scan(DataQuery("fills", {"price": 10}))] == [1]


async def test_files_of_mixed_versions_keep_the_order_of_rows() -> None:
    async with lake_of(await filled(), Fill, FillRenamed) as lake:
        await lake.store_data("fills", [row(day, site="B", px=day) for day in (1, 3)], version="1.0.0")
        await lake.compact("fills")
        await lake.store_data("fills", [row(2, price=21, venue="Z")])
        answer = await lake.retrieve_data(DataQuery("fills"))
        assert answer.table["price"].to_pylist() == [10, 21, 30, 40, 1, 3]


async def test_what_is_deleted_is_found_by_the_new_name() -> None:
    async with lake_of(await filled(), Fill, FillRenamed) as lake:
        assert (await lake.delete_data("fills", filters={"price": {"lte": 10}})).rows == 1
        assert (await lake.delete_data("fills", filters={"venue": "unknown"})).rows == 1
        assert (await lake.retrieve_data(DataQuery("fills"))).table["price"].to_pylist() == [30, 40]


async def test_what_is_replaced_is_found_by_the_new_name() -> None:
    async with lake_of(await filled(), Fill, FillRenamed) as lake:
        again = [row(1, price=11, venue="X"), row(9, price=12, venue="Y")]
        done = await lake.store_data("fills", again, mode="overwrite", replace_where={"price": {"lte": 12}})
        assert done.rows == 2
        answer = await lake.retrieve_data(DataQuery("fills"))
        assert answer.table["price"].to_pylist() == [11, 20, 30, 40, 12]


async def test_a_column_is_computed_from_older_rows() -> None:
    store = await filled()
    async with lake_of(store, Fill, FillRenamed, FillComputed) as lake:
        before = await lake.retrieve_data(DataQuery("fills", {"twice": {"gt": 40}}))
        assert before.table["twice"].to_pylist() == [60, 80], "though the table has not adopted it"
        await lake.store_data("fills", [row(5, price=50, twice=1)])
        answer = await lake.retrieve_data(DataQuery("fills"))
        assert answer.table["twice"].to_pylist() == [20, 40, 60, 80, 1]
        few = await lake.retrieve_data(DataQuery("fills", {"twice": {"lt": 40}}))
        assert few.table["price"].to_pylist() == [10, 50]
        with pytest.raises(UnsupportedOperationError, match=r"twice of 1\.0\.0 is computed.*migrate"):
            await lake.delete_data("fills", filters={"twice": 20})
    async with lake_of(store) as lake:
        with pytest.raises(UnsupportedOperationError, match="need an up-cast: give its class"):
            await lake.retrieve_data(DataQuery("fills"))
        assert (await lake.retrieve_data(DataQuery("fills", columns=["price"]))).rows == 5


async def test_an_older_version_can_be_asked_for() -> None:
    class Wider(Fill, version="1.1.0"):
        more: str | None = None

    store = MemoryStore()
    async with lake_of(store, Fill, Wider) as lake:
        await lake.store_data("fills", [row(1, px=1)], version="1.0.0")
        await lake.store_data("fills", [row(2, px=2, more="x")])
        old = await lake.retrieve_data(DataQuery("fills", version="1.0.0"))
        assert "more" not in old.table.column_names
        assert old.table["px"].to_pylist() == [1, 2]
        assert old.table["version"].to_pylist() == ["1.0.0", "1.1.0"], "they are read as they are"
    async with lake_of(await filled(), Fill, FillRenamed) as lake:
        with pytest.raises(UnsupportedOperationError, match=r"1\.1\.0 cannot be read as 1\.0\.0.*price"):
            await lake.retrieve_data(DataQuery("fills", version="1.0.0"))
        only = await lake.retrieve_data(DataQuery("fills", {"version": "1.0.0"}, version="1.0.0"))
        assert only.table["px"].to_pylist() == [10, 20]
        with pytest.raises(InvalidQueryError, match="no column 'prise'"):
            await lake.retrieve_data(DataQuery("fills", {"prise": 1}))


async def test_revisions_are_merged_over_versions() -> None:
    class Kept(Record, data_type="kept", version="1.0.0", key=("site", "timestamp"), revisions="keep"):
        site: str
        timestamp: Timestamp
        px: int

    class KeptRenamed(Record, data_type="kept", version="1.1.0", key=("site", "timestamp"), revisions="keep"):
        site: str
        timestamp: Timestamp
        price: Annotated[int, Aliases("px")]

    store = MemoryStore()
    async with lake_of(store, Kept, KeptRenamed) as lake:
        await lake.store_data("kept", [row(1, px=1), row(2, px=2)], version="1.0.0")
        await lake.store_data("kept", [row(2, price=22)])
        latest = await lake.retrieve_data(DataQuery("kept"))
        assert latest.table["price"].to_pylist() == [1, 22]
        every = await lake.retrieve_data(DataQuery("kept", revisions="all"))
        assert sorted(every.table["price"].to_pylist()) == [1, 2, 22]
        assert (await lake.retrieve_data(DataQuery("kept", {"price": 2}))).rows == 0
        assert (await lake.delete_data("kept", filters={"price": 22})).rows == 2
        assert (await lake.retrieve_data(DataQuery("kept"))).table["price"].to_pylist() == [1]


class Old(Record, data_type="quotes_", version="1.0.0", key=("site", "timestamp")):
    site: str
    timestamp: Timestamp
    depth: int | None = None


class Backward(Record, data_type="quotes_", version="1.1.0", key=("site", "timestamp")):
    """Reads old data: what it adds has a default; old readers do not know its new name."""

    site: str
    timestamp: Timestamp
    levels: Annotated[int | None, Aliases("depth")] = None


class Forward(Record, data_type="quotes_", version="2.0.0", key=("site", "timestamp")):
    """Is read by old readers, and requires what old data has not."""

    site: str
    timestamp: Timestamp
    depth: int | None = None
    side: str


class Full(Record, data_type="quotes_", version="1.1.0", key=("site", "timestamp")):
    site: str
    timestamp: Timestamp
    depth: int | None = None
    note: str | None = None


NEW: dict[str, tuple[type[Record], dict[str, Any]]] = {
    "BACKWARD": (Backward, {"levels": 2}),
    "FORWARD": (Forward, {"depth": 2, "side": "bid"}),
    "FULL": (Full, {"depth": 2, "note": "n"}),
}


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.NONE])
async def test_what_a_mode_promises_holds_on_real_tables(mode: Mode) -> None:
    """The new reader reads old data under BACKWARD, the old one new data under FORWARD, each the other under FULL."""
    word = mode.value.removesuffix("_TRANSITIVE")
    model, fields = NEW[word]
    store = MemoryStore()
    async with lake_of(store, Old) as lake:
        await lake.registry.set_mode("quotes_", mode)
        await lake.store_data("quotes_", [row(1, depth=1)])
    async with lake_of(store, Old, model) as lake:
        await lake.store_data("quotes_", [row(2, **fields)])
        new_reader = DataQuery("quotes_")
        old_reader = DataQuery("quotes_", version="1.0.0")
        if word in {"BACKWARD", "FULL"}:
            name = "levels" if model is Backward else "depth"
            assert (await lake.retrieve_data(new_reader)).table[name].to_pylist() == [1, 2]
        else:
            with pytest.raises(UnsupportedOperationError, match="side is required, and 1 of 1 rows"):
                await lake.retrieve_data(new_reader)
        if word in {"FORWARD", "FULL"}:
            assert (await lake.retrieve_data(old_reader)).table["depth"].to_pylist() == [1, 2]
        else:
            with pytest.raises(UnsupportedOperationError, match=r"1\.1\.0 cannot be read as 1\.0\.0"):
                await lake.retrieve_data(old_reader)


async def test_a_warm_query_over_one_version_has_no_conversion() -> None:
    async with LakeStorage(MemoryStore()) as lake:
        bar = {"symbol": "A", "timestamp": row(1)["timestamp"], "price": Decimal(1), "volume": 1, "data_source": "t"}
        await lake.store_data("market_data", [bar], version="1.0.0")
        await lake.store_data("market_data", [bar | {"symbol": "B"}])
        snapshot = (await lake.table("market_data")).snapshot
        found = await lake.known.reading("market_data", snapshot)
        assert found.conversion is None
        assert await lake.known.reading("market_data", snapshot) is found
        assert (await lake.known.reading("market_data", snapshot, "1.0.0")).conversion is None
