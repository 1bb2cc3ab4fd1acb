"""obstore and deltalake, which speak the XML API, accept the server."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

obstore = pytest.importorskip("obstore", reason="needs obstore")
deltalake = pytest.importorskip("deltalake", reason="needs deltalake")
from obstore import exceptions  # noqa: E402 - after importorskip
from obstore.store import GCSStore  # noqa: E402


@pytest.fixture
def store(object_store_account, bucket):
    return GCSStore(bucket, service_account_key=object_store_account, client_options={"allow_http": True})


def test_put_create_update(store):
    first = store.put("a/key", b"one", mode="create")
    with pytest.raises(exceptions.AlreadyExistsError):
        store.put("a/key", b"two", mode="create")
    second = store.put("a/key", b"two", mode={"e_tag": first["e_tag"], "version": first["version"]})
    with pytest.raises(exceptions.PreconditionError):
        store.put("a/key", b"three", mode={"e_tag": first["e_tag"], "version": first["version"]})
    assert bytes(store.get("a/key").bytes()) == b"two"
    assert store.head("a/key")["version"] == second["version"]
    with pytest.raises(exceptions.PreconditionError):
        store.get("a/key", options={"if_match": first["e_tag"]})
    with pytest.raises(exceptions.NotModifiedError):
        store.get("a/key", options={"if_none_match": second["e_tag"]})


def test_ranges(store):
    store.put("digits", b"0123456789", attributes={"Content-Type": "text/x", "author": "me"})
    assert bytes(store.get_range("digits", start=2, end=5)) == b"234"
    assert [bytes(part) for part in store.get_ranges("digits", starts=[0, 8], ends=[2, 10])] == [b"01", b"89"]
    assert bytes(store.get("digits", options={"range": {"suffix": 3}}).bytes()) == b"789"
    assert store.get("digits").attributes == {"Content-Type": "text/x", "author": "me"}


def test_list(store):
    names = [f"t/{number:04d}" for number in range(1205)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    store.put("t/x/y", b"123")
    found = [meta["path"] for batch in store.list("t/", chunk_size=500) for meta in batch]
    assert found == [*names, "t/x/y"]
    after = [meta["path"] for batch in store.list("t/", offset="t/1200") for meta in batch]
    assert after == [*names[1201:], "t/x/y"]
    level = store.list_with_delimiter("t")
    assert level["common_prefixes"] == ["t/x"]
    assert len(level["objects"]) == 1205


def test_multipart(store, server):
    data = os.urandom(12 * 1024 * 1024 + 5)
    store.put("big", data, use_multipart=True, chunk_size=5 * 1024 * 1024)
    assert bytes(store.get("big").bytes()) == data
    assert server.log.operations["xml.parts.put"] == 3
    assert server.log.operations["xml.parts.complete"] == 1


def test_copy_and_delete(store):
    store.put("from", b"bytes")
    store.copy("from", "to", overwrite=False)
    with pytest.raises(exceptions.AlreadyExistsError):
        store.copy("from", "to", overwrite=False)
    store.rename("to", "moved")
    assert bytes(store.get("moved").bytes()) == b"bytes"
    store.delete(["from", "moved"])
    with pytest.raises(FileNotFoundError):
        store.get("from")


async def test_race(store):
    async def write(number: int) -> bool:
        try:
            await store.put_async("race", b"%d" % number, mode="create")
        except exceptions.AlreadyExistsError:
            return False
        return True

    assert sum(await asyncio.gather(*(write(number) for number in range(32)))) == 1


def test_delta_appends_at_once(object_store_account, bucket):
    options = {"google_service_account_key": object_store_account, "allow_http": "true"}
    uri = f"gs://{bucket}/table"
    deltalake.write_deltalake(uri, pa.table({"x": [0] * 20}), storage_options=options)

    def append(number: int) -> None:
        deltalake.write_deltalake(uri, pa.table({"x": [number] * 10}), mode="append", storage_options=options)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(8)))
    table = deltalake.DeltaTable(uri, storage_options=options)
    assert table.version() == 8
    assert table.to_pyarrow_table().num_rows == 100
