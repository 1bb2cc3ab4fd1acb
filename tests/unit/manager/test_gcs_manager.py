"""The manager on Google Cloud Storage's server: credentials, buckets, and answers that get lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from buffetstore import DataQuery, GCSConfig, GCSStorageManager, Layers, RetryPolicy
from buffetstore.errors import AuthenticationError, BucketNotFoundError, PermissionDeniedError, UnavailableError
from buffetstore.testing.data_storage import bars
from buffetstore.testing.gcs import serve_in_thread
from buffetstore.testing.gcs.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator


async def no_sleep(_seconds: float) -> None:
    """Not wait between tries."""


QUICK = RetryPolicy(attempts=4, sleep=no_sleep)


@pytest.fixture
def gcs() -> Iterator[Any]:
    with serve_in_thread(buckets=["data"]) as server:
        yield server


def manager(server: Any, bucket: str = "data") -> GCSStorageManager:
    config = GCSConfig(project_id="test", data_bucket=bucket, emulator_host=server.url)
    return GCSStorageManager(config, layers=Layers(retry=QUICK))


async def test_a_bucket_that_does_not_exist(gcs: Any) -> None:
    async with manager(gcs, "nowhere") as storage:
        for work in (
            storage.store_data("market_data", bars()),
            storage.retrieve_data(DataQuery("market_data")),
            storage.list_data_types(),
        ):
            with pytest.raises(BucketNotFoundError, match="nowhere"):
                await work


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthenticationError), (403, PermissionDeniedError), (503, UnavailableError)]
)
async def test_a_refusal_is_typed_and_changes_nothing(gcs: Any, status: int, error: type[Exception]) -> None:
    async with manager(gcs) as storage:
        before = await storage.store_data("market_data", bars(["AAPL"]))
        gcs.faults.add(Fault("status", status=status, times=None))
        with pytest.raises(error):
            await storage.store_data("market_data", bars(["MSFT"]))
        with pytest.raises(error):
            await storage.retrieve_data(DataQuery("market_data"))
        gcs.faults.clear()
        after = await storage.retrieve_data(DataQuery("market_data"))
        assert (after.rows, after.table_version) == (5, before.table_version)


@pytest.mark.parametrize("fault", ["status", "reset"])
@pytest.mark.parametrize("skip", range(4))
async def test_rows_are_stored_once_though_an_answer_is_lost(gcs: Any, fault: Any, skip: int) -> None:
    async with manager(gcs) as storage:
        await storage.store_data("market_data", bars(["AAPL"], [1]))
        gcs.faults.add(Fault(fault, operation="objects.insert", when="after", skip=skip, status=503))
        stored = await storage.store_data("market_data", bars(["MSFT"], [1, 2, 3]))
        assert (stored.inserted, stored.table_version) == (3, 2)
        answer = await storage.retrieve_data(DataQuery("market_data", revisions="all"))
        assert answer.rows == 4
        assert (await storage.table("market_data")).version == 2
