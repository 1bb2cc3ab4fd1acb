"""WebHDFS: faults, credentials, and a lake."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ConfigurationError,
    InvalidKeyError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StorageFullError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects import RetryStore, open_store
from buffetstore.objects.base import CREATE, ByteRange
from buffetstore.objects.fsspec import FsspecStore
from buffetstore.objects.fsspec.files import CHUNK_BYTES
from buffetstore.objects.helpers import get_bytes, list_all
from buffetstore.query import DataQuery
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.storage import LakeStorage
from buffetstore.testing.data_storage import bars


def opened(server, **options):
    return FsspecStore.from_url(f"webhdfs://127.0.0.1:{server.port}", **{"root": "/data", **options})


@pytest.fixture
async def store(namenode):
    async with opened(namenode) as store:
        yield store


def once(op, method, answer):
    """Return a fault that gives `answer` to the first request of this operation."""
    left = [answer]

    async def fault(request):
        if left and request.method == method and request.query.get("op") == op:
            return left.pop()
        return None

    return fault


def remote(status, name):
    return web.json_response({"RemoteException": {"exception": name, "message": f"{name} says no"}}, status=status)


async def test_what_is_promised(store):
    await store.put("k", b"body", mode=CREATE)
    can = store.capabilities
    assert (can.conditional_create, can.conditional_update, can.metadata, can.unique_versions) == (
        True, False, False, True,
    )  # fmt: skip
    assert store.guarantees.replace == "atomic"
    versions = {(await store.put("k", b"same")).version for _ in range(20)}
    assert len(versions) == 20


async def test_the_url_and_its_secrets(namenode):
    url = f"webhdfs://analyst@127.0.0.1:{namenode.port}"
    async with open_store(f"{url}/data", password="hidden") as store:
        await store.put("k", b"body")
        assert store.url == f"{url}/data"
    for wrong in (f"webhdfs://me:hidden@127.0.0.1:{namenode.port}", "webhdfs://"):
        with pytest.raises(ConfigurationError) as failure:
            open_store(wrong)
        assert "hidden" not in str(failure.value)
    for options in ({"root": "~"}, {"token": "t", "user": "u"}, {"no_such_option_at_all": 1, "root": "data"}):
        with pytest.raises(ConfigurationError):
            FsspecStore.from_url("webhdfs://host", **options)


async def test_a_delegation_token(guarded):
    async with opened(guarded, root="/", token="delegated") as store:
        await store.put("k", b"body")
        assert await get_bytes(store, "k") == b"body"
    async with opened(guarded, root="/", token="wrong-token") as store:
        with pytest.raises(AuthenticationError, match="token") as failure:
            await store.put("k", b"")
        assert "wrong-token" not in str(failure.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((403, "AccessControlException"), PermissionDeniedError),
        ((403, "DSQuotaExceededException"), StorageFullError),
        ((403, "SafeModeException"), UnavailableError),
        ((403, "StandbyException"), UnavailableError),
        ((500, "RetriableException"), UnavailableError),
        ((401, "SecurityException"), AuthenticationError),
    ],
)
async def test_what_the_server_says_is_told(store, namenode, answer, expected):
    namenode.faults.append(once("CREATE", "PUT", remote(*answer)))
    with pytest.raises(expected, match="says no"):
        await store.put("k", b"")
    assert await list_all(store) == []


async def test_a_lost_rename_may_have_happened(store, namenode):
    async def after(request):
        """Apply the rename, then lose the answer, as a proxy does that gives up."""
        if request.query.get("op") == "RENAME" and after in namenode.faults:
            namenode.faults.remove(after)
            await namenode.handle(request)
            return web.Response(status=502)
        return None

    namenode.faults.append(after)
    with pytest.raises(UnavailableError) as failure:
        await store.put("raw", b"ours", mode=CREATE)
    assert failure.value.ambiguous
    retrying = RetryStore(store, RetryPolicy(base_seconds=0))
    for mode in ({"mode": CREATE}, {}):
        namenode.faults.append(after)
        async with await retrying.start_upload(f"k{len(mode)}", **mode) as upload:
            await upload.write(b"ours")
            await upload.complete()
    namenode.faults.append(after)
    await retrying.put("put", b"ours", mode=CREATE)
    with pytest.raises(AlreadyExistsError):
        await retrying.put("put", b"theirs", mode=CREATE)
    assert sorted(namenode.nodes) == ["/", "/data", "/data/k0", "/data/k1", "/data/put", "/data/raw"]


async def test_nobody_listens_and_nobody_answers(namenode):
    async with FsspecStore.from_url("webhdfs://127.0.0.1:1") as store:
        with pytest.raises(UnavailableError):
            await store.get("k")
    async with opened(namenode, timeout_seconds=0.2, token="secret-token") as store:

        async def stall(_request):
            await asyncio.sleep(1)

        namenode.faults.append(stall)
        with pytest.raises(UnavailableError, match=r"0\.2 s") as failure:
            await store.get("k")
        assert "secret-token" not in repr(failure.value)


async def test_folders(store, namenode):
    await store.put("a/b", b"")
    for mode in ({}, {"mode": CREATE}):
        with pytest.raises(UnsupportedOperationError, match="prefix of others"):
            await store.put("a", b"", **mode)
    with pytest.raises(UnsupportedOperationError):
        await store.put("a/b/c", b"")
    with pytest.raises(NotFoundError):
        await store.get("a/b/c")
    with pytest.raises(NotFoundError):
        await store.get("a")
    with pytest.raises(InvalidKeyError):
        await store.put("x" * 300, b"")
    await store.delete(["a", "a/b"])
    assert sorted(namenode.nodes) == ["/", "/data"]


async def test_a_missing_root(namenode):
    async with opened(namenode, root="/none") as store:
        for call in (store.get("k"), store.put("k", b""), store.delete(["k"]), list_all(store)):
            with pytest.raises(BucketNotFoundError):
                await call
    async with opened(namenode, root="/none", create=True) as store:
        assert await list_all(store) == []
        await store.put("k", b"")
    assert "/none/k" in namenode.nodes


async def test_a_body_replaced_while_it_is_read(store):
    size = CHUNK_BYTES + 10
    meta = await store.put("k", bytes(size))
    async with await store.get("k") as result:
        chunks = aiter(result)
        assert len(await anext(chunks)) == CHUNK_BYTES
        await store.put("k", b"1" * size)
        with pytest.raises(UnavailableError, match="replaced"):
            await anext(chunks)
    retrying = RetryStore(store, RetryPolicy(base_seconds=0))
    async with await retrying.get("k") as result:
        chunks = aiter(result)
        await anext(chunks)
        await store.put("k", bytes(size))
        with pytest.raises(PreconditionFailedError):
            await anext(chunks)
    assert await get_bytes(store, "k", range=ByteRange(-3)) == bytes(3)
    assert (await store.get("k", head=True)).meta.version != meta.version


async def test_a_lake(namenode):
    url = f"webhdfs://127.0.0.1:{namenode.port}/data/lake"
    async with (
        open_store(url) as one,
        open_store(url) as two,
        LakeStorage(one) as first,
        LakeStorage(two) as second,
    ):
        await first.store_data("market_data", bars(["AAPL"], [1]))
        await asyncio.gather(
            *(first.store_data("market_data", bars([f"A{day}"], [day])) for day in range(1, 5)),
            *(second.store_data("market_data", bars([f"B{day}"], [day])) for day in range(1, 5)),
        )
        found = await second.retrieve_data(DataQuery("market_data"))
    assert len(found.table) == 9
