from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
import warnings
from datetime import UTC, datetime

import pytest

from buffetstore import manager as awaited
from buffetstore import sync
from buffetstore.config import GCSConfig
from buffetstore.errors import ConfigurationError, SchemaValidationError, TableNotFoundError, UnsupportedOperationError
from buffetstore.objects.gcs import GCSStore  # noqa: F401 - loaded before a loop runs
from buffetstore.query import DataQuery
from buffetstore.sync.face import BlockingFace
from buffetstore.testing.gcs import serve_in_thread

# The Delta table and the object store are objects to be awaited: they have no blocking face.
APART = {"table", "store", "open", "aclose"}
# These are objects whose methods have a blocking face, method by method.
PARTS = {name for name, found in vars(awaited.StorageManager).items() if isinstance(found, property)} - APART
BARS = [
    {
        "symbol": symbol,
        "timestamp": datetime(2024, 1, day, tzinfo=UTC),
        "price": 100.0 + day,
        "volume": 10,
        "data_source": "test",
    }
    for symbol in ("AAPL", "MSFT")
    for day in range(1, 11)
]


@pytest.fixture
def storage():
    with sync.open("memory://") as opened:
        yield opened


def public(kind: type) -> dict[str, object]:
    return {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}


def test_the_blocking_face_has_every_method_of_the_awaited_one() -> None:
    ours, theirs = public(sync.StorageManager), public(awaited.StorageManager)
    assert set(ours) - {"close"} - {"url", "schema_manager", "metrics"} == set(theirs) - APART
    assert set(vars(awaited.StorageManager("memory://"))) >= {"url", "schema_manager", "metrics"}


@pytest.mark.parametrize("name", sorted(public(awaited.StorageManager).keys() - APART - PARTS))
def test_signatures_and_documentation_are_the_same(name: str) -> None:
    ours, theirs = getattr(sync.StorageManager, name), getattr(awaited.StorageManager, name)
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert not inspect.iscoroutinefunction(ours)
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    assert inspect.getdoc(ours)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_the_parts_have_a_blocking_face(name: str, storage: sync.StorageManager) -> None:
    ours, theirs = getattr(sync.StorageManager, name), getattr(awaited.StorageManager, name)
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    assert isinstance(getattr(storage, name), BlockingFace)


def test_refused_rows_are_replayed(storage: sync.StorageManager) -> None:
    assert storage.store_data("market_data", [BARS[0] | {"price": -1}], on_invalid="quarantine").quarantined == 1
    assert [each.open for each in storage.quarantine.list()] == [1]
    assert storage.quarantine.replay("market_data", filters={}, fix={"price": 5}).replayed == 1


def test_store_read_describe_delete(storage: sync.StorageManager) -> None:
    assert storage.store_data("market_data", BARS).inserted == 20
    assert storage.store_data("market_data", storage.validate(BARS, "market_data")).unchanged == 20
    answer = storage.retrieve_data(DataQuery("market_data", {"symbol": "AAPL"}, limit=3))
    assert [float(row["price"]) for row in answer.to_pylist()] == [101, 102, 103]
    assert (storage.list_data_types(), storage.describe("market_data").rows) == (["market_data"], 20)
    assert storage.delete_data("market_data", filters={"symbol": "MSFT"}).rows == 10
    assert storage.describe("market_data").rows == 10
    assert storage.metrics.get_performance_summary()["uploads"]["count"] == 2
    assert storage.url == "memory://"
    assert "market_data" in storage.schema_manager.data_types()


def test_scan_is_a_plain_iterator_that_may_be_left_early(storage: sync.StorageManager) -> None:
    storage.store_data("market_data", BARS)
    batches = storage.scan(DataQuery("market_data"))
    assert iter(batches) is batches
    first = next(batches)
    batches.close()
    assert 0 < len(first) <= 20
    assert sum(len(batch) for batch in storage.scan(DataQuery("market_data"))) == 20


def test_back_and_forth_through_versions(storage: sync.StorageManager) -> None:
    first = storage.store_data("market_data", BARS, idempotency_key="monday", inputs=["bars.csv"])
    assert storage.store_data("market_data", BARS, idempotency_key="monday").done_before
    storage.delete_data("market_data", filters={"symbol": "MSFT"})
    assert [record.operation for record in storage.history("market_data", 2)] == ["DELETE", "MERGE"]
    assert storage.restore("market_data", first.table_version).restored_version == 1
    assert storage.compact("market_data").files_added == 1
    assert storage.verify("market_data", deep=True).ok
    assert not storage.repair("market_data").removed
    assert storage.vacuum("market_data", dry_run=True).files == 0
    assert sum(file.rows or 0 for file in storage.list_files("market_data")) == 20


def test_changes_are_a_plain_iterator_that_may_be_left_early(storage: sync.StorageManager) -> None:
    storage.store_data("market_data", BARS)
    following = storage.changes("market_data", tail=True)
    assert next(following).version == 1
    following.close()
    assert sum(len(change.rows) for change in storage.changes("market_data")) == 20
    assert list(storage.changes("market_data", since=1)) == []


def test_errors_are_those_of_the_awaited_manager(storage: sync.StorageManager) -> None:
    with pytest.raises(SchemaValidationError, match="price"):
        storage.store_data("market_data", [{**BARS[0], "price": -1}])
    with pytest.raises(TableNotFoundError):
        storage.retrieve_data(DataQuery("market_data"))
    with pytest.raises(TableNotFoundError):
        next(storage.scan(DataQuery("market_data")))


def test_a_url_that_cannot_be_opened_leaves_no_thread_behind() -> None:
    with pytest.raises(ConfigurationError, match="scheme"):
        sync.open("gopher://hole")
    assert "buffetstore-sync" not in {thread.name for thread in threading.enumerate()}


def test_closing_twice_is_safe_and_ends_the_thread() -> None:
    storage = sync.open("memory://")
    storage.close()
    storage.close()
    assert "buffetstore-sync" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(UnsupportedOperationError):
        storage.list_data_types()


def test_two_managers_share_the_loop_and_neither_ends_it_for_the_other() -> None:
    first, second = sync.open("memory://"), sync.open("memory://")
    first.close()
    assert second.store_data("market_data", BARS).rows == 20
    second.close()


def test_a_forgotten_manager_warns_and_is_closed_all_the_same() -> None:
    storage = sync.open("memory://")
    storage.store_data("market_data", BARS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del storage
        gc.collect()
        for thread in threading.enumerate():
            if thread.name == "buffetstore-sync":
                thread.join(10)
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert "close()" in str(caught[0].message)
    assert "buffetstore-sync" not in {thread.name for thread in threading.enumerate()}


def test_several_threads_use_one_manager(storage: sync.StorageManager) -> None:
    storage.store_data("market_data", BARS)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(storage.retrieve_data(DataQuery("market_data")).rows))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20] * 8


def test_a_bucket_of_a_configuration() -> None:
    with serve_in_thread(buckets=["bars"]) as server:
        config = GCSConfig(project_id="p", data_bucket="bars", emulator_host=server.url)
        with sync.GCSStorageManager(config) as storage:
            assert storage.store_data("market_data", BARS).inserted == 20
            assert storage.retrieve_data(DataQuery("market_data")).rows == 20
            assert storage.url == "gs://bars"


def test_in_a_notebooks_running_loop() -> None:
    code = """
import asyncio
from buffetstore import sync
async def cell():
    with sync.open("memory://") as storage:
        print(storage.list_data_types())
asyncio.run(cell())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
