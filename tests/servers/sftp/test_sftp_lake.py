"""Governed data types on SFTP: the contract suite, two writers at once, and a foreign reader of the same folder."""

from __future__ import annotations

import asyncio

import pytest
from deltalake import DeltaTable

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects import open_store
from buffetstore.query import DataQuery
from buffetstore.storage import LakeStorage
from buffetstore.testing.data_storage import DataStorageContract, bars


def opened(server, root):
    return open_store(f"{server.url}{root}", **server.options)


class TestOpenSSHLake(DataStorageContract):
    @pytest.fixture
    async def storage(self, openssh_server, tmp_path):
        async with opened(openssh_server, tmp_path) as store, LakeStorage(store) as storage:
            yield storage


@pytest.mark.parametrize("kind", ["asyncssh_server", "openssh_server"])
async def test_two_writers_and_a_foreign_reader(kind, request, tmp_path):
    server = request.getfixturevalue(kind)
    async with (
        opened(server, tmp_path) as one,
        opened(server, tmp_path) as two,
        LakeStorage(one) as first,
        LakeStorage(two) as second,
    ):
        await first.store_data("market_data", bars(["AAPL"], [1]))
        await asyncio.gather(
            *(first.store_data("market_data", bars([f"A{day}"], [day])) for day in range(1, 9)),
            *(second.store_data("market_data", bars([f"B{day}"], [day])) for day in range(1, 9)),
        )
        found = await second.retrieve_data(DataQuery("market_data"))
    symbols = ["AAPL", *(f"{name}{day}" for name in "AB" for day in range(1, 9))]
    assert sorted(found.table["symbol"].to_pylist()) == sorted(symbols)
    table = DeltaTable(str(tmp_path / "raw" / "market_data"))
    assert sorted(table.to_pyarrow_table()["symbol"].to_pylist()) == sorted(symbols)
    assert list(tmp_path.rglob(".buffetstore-*")) == []


async def test_a_table_refuses_to_commit_where_nothing_can_be_created(poor_server, tmp_path):
    async with opened(poor_server, tmp_path) as store, LakeStorage(store) as storage:
        with pytest.raises(UnsupportedOperationError, match="hardlink@openssh"):
            await storage.store_data("market_data", bars())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
