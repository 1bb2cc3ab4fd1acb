"""Governed data types on Azurite: the contract suite behind the manager, and foreign readers and writers."""

from __future__ import annotations

import json
from pathlib import Path

import obstore
import pytest
from azure.storage.blob import ContainerClient
from deltalake import DeltaTable, write_deltalake
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import AzureStore as ForeignStore

from buffetstore import DataQuery, StorageManager
from buffetstore.objects.azure import AzureStore
from buffetstore.objects.base import Attributes
from buffetstore.objects.helpers import get_bytes, head, list_all
from buffetstore.testing.data_storage import DataStorageContract, bars

AZURITE = Path(__file__).parents[3] / ".venv/azurite/node_modules/azurite/package.json"


@pytest.fixture
def foreign(options):
    """Give the options of object_store, which obstore and deltalake speak through."""
    return {
        "azure_storage_account_name": options["account"],
        "azure_storage_account_key": options["account_key"],
        "azure_storage_endpoint": options["endpoint_url"],
        "azure_allow_http": "true",
    }


class TestAzureLake(DataStorageContract):
    @pytest.fixture
    async def storage(self, container, options):
        async with StorageManager.open(f"az://{container}/some/prefix", **options) as storage:
            yield storage


@pytest.fixture
def listings_that_start():
    """Skip where a listing cannot begin at a key: deltalake takes it for granted when it writes."""
    version = json.loads(AZURITE.read_text())["version"]
    if tuple(map(int, version.split(".")[:2])) < (3, 37):
        pytest.skip("needs Azurite 3.37 (npm)")


async def test_deltalake_reads_and_appends_and_we_read_on(container, options, foreign, listings_that_start):
    order = [("symbol", "ascending"), ("timestamp", "ascending")]
    url = f"az://{container}/raw/market_data"
    async with StorageManager.open(f"az://{container}", **options) as storage:
        await storage.store_data("market_data", bars())
        ours = (await storage.retrieve_data(DataQuery("market_data"))).table.sort_by(order)
        table = DeltaTable(url, storage_options=foreign)
        theirs = table.to_pyarrow_table()
        assert theirs.sort_by(order).to_pylist() == ours.to_pylist()

        write_deltalake(url, theirs, mode="append", storage_options=foreign)

        everything = await storage.retrieve_data(DataQuery("market_data", revisions="all"))
        assert everything.table.num_rows == 2 * ours.num_rows


async def test_obstore_keeps_the_same_conditions(container, options, foreign):
    theirs = ForeignStore(
        container_name=container,
        account_name=foreign["azure_storage_account_name"],
        account_key=foreign["azure_storage_account_key"],
        endpoint=foreign["azure_storage_endpoint"],
        client_options={"allow_http": True},
    )
    async with AzureStore.from_url(f"az://{container}", **options) as store:
        meta = await store.put("a/k", b"ours", attributes=Attributes("text/csv", {"run-id": "1"}))
        found = obstore.get(theirs, "a/k")
        assert bytes(found.bytes()) == b"ours"
        assert found.meta["e_tag"] == f'"{meta.version}"'
        assert found.attributes == {"Content-Type": "text/csv", "run_id": "1"}
        with pytest.raises(AlreadyExistsError):
            obstore.put(theirs, "a/k", b"theirs", mode="create")
        obstore.put(theirs, "a/k", b"theirs", mode={"e_tag": f'"{meta.version}"'})
        with pytest.raises(PreconditionError):
            obstore.put(theirs, "a/k", b"again", mode={"e_tag": f'"{meta.version}"'})
        assert await get_bytes(store, "a/k") == b"theirs"


async def test_the_sdk_reads_what_we_write_and_we_what_it_writes(container, options):
    credential = {"account_name": options["account"], "account_key": options["account_key"]}
    with ContainerClient(options["endpoint_url"], container, credential=credential) as sdk:
        async with AzureStore.from_url(f"az://{container}", **options, part_bytes=64 * 1024) as store:
            body = bytes(range(256)) * 4096
            async with await store.start_upload("ours.bin") as upload:
                await upload.write(body)
                await upload.complete()
            assert sdk.download_blob("ours.bin", validate_content=True).readall() == body
            sdk.upload_blob("theirs.bin", body, metadata={"Run_Id": "7"}, max_concurrency=2)
            assert await get_bytes(store, "theirs.bin") == body
            assert (await head(store, "theirs.bin")).attributes.metadata == {"run-id": "7"}
            assert [meta.key for meta in await list_all(store)] == ["ours.bin", "theirs.bin"]
