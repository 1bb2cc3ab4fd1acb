"""Reading from a second store: who answered is known, and nothing passes for what it is not."""

from __future__ import annotations

import pyarrow as pa
import pytest

from buffetstore.errors import (
    BucketNotFoundError,
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects import CREATE, LocalStore, MemoryStore, Update, get_bytes, head, list_all
from buffetstore.objects.copy_store import copy_store
from buffetstore.objects.wrappers.failover import FailoverStore
from buffetstore.objects.wrappers.fallback import FallbackStore
from buffetstore.tables import DeltaTable
from buffetstore.testing import Fault, FaultyStore

BODY = bytes(range(256)) * 12_000  # three chunks
READS = frozenset({"get", "head", "get_ranges", "list_objects", "list_prefixes"})


class Switch:
    """Makes every read of a store fail while it is on."""

    def __init__(self, error=UnavailableError):
        self.on = False
        self.error = error

    def __call__(self, verb):
        return Fault(error=self.error) if self.on and verb in READS else None


@pytest.fixture
def down():
    return Switch()


@pytest.fixture
def told():
    return []


@pytest.fixture
async def primary(down):
    store = FaultyStore(MemoryStore(), source=down)
    await store.put("k", BODY)
    await store.put("dir/a", b"a")
    return store


@pytest.fixture
async def second(primary):
    store = MemoryStore()
    await store.put("spent", b"a version, so that the two stores count differently")
    await store.delete(["spent"])
    await copy_store(primary, store)
    return store


@pytest.fixture
def store(primary, second, told):
    return FallbackStore(primary, second, hook=told.append)


async def test_the_primary_answers_while_it_can(store, primary, told):
    async with await store.get("k") as result:
        assert result.answered_by == primary.url
        assert await result.read() == BODY
        assert result.meta == await head(primary, "k")
    assert told == []
    with pytest.raises(NotFoundError):
        await store.get("gone")


@pytest.mark.parametrize("error", [UnavailableError, CircuitOpenError, DeadlineExceededError])
async def test_the_fallback_answers_while_it_cannot(store, down, told, tmp_path, error):
    local = LocalStore(tmp_path)
    await copy_store(store, local)
    store = FallbackStore(store.inner, local, hook=told.append)
    down.on, down.error = True, error
    async with await store.get("k") as result:
        assert result.answered_by == local.url
        assert await result.read() == BODY
        assert result.meta.version.startswith("other-1:")
        version = result.meta.version
    assert await store.get_ranges("k", [(0, 3), (255, 257)], if_match=version) == [b"\0\1\2", b"\xff\0"]
    assert [meta.key for meta in await list_all(store)] == ["dir/a", "k"]
    listing = await store.list_prefixes()
    assert ([meta.version for meta in listing.objects], listing.prefixes) == ([version], ["dir/"])
    assert {(each.name, each.error, each.counts["answered_by"]) for each in told} == {
        ("objects.fallback", error.code, 1)
    }
    down.on = False
    assert await get_bytes(store, "k", if_match=version) == BODY, "its version is asked of the store that gave it"


async def test_other_errors_are_the_primarys_own(store, told):
    store.inner.inject("get", Fault(error=BucketNotFoundError))
    with pytest.raises(BucketNotFoundError):
        await store.get("k")
    assert told == []


async def test_a_version_of_the_primary_is_answered_by_its_copy_alone(store, primary, second, down):
    version = (await head(primary, "k")).version
    down.on = True
    assert await get_bytes(store, "k", if_match=version) == BODY
    assert await store.get_ranges("k", [(1, 2)], if_match=version) == [b"\1"]
    await second.put("k", BODY)
    with pytest.raises(UnavailableError):
        await store.get("k", if_match=version)
    with pytest.raises(UnavailableError):
        await store.get("gone", if_match=version)


async def test_the_marker_of_copies_is_not_shown(store, second, down):
    down.on = True
    assert "source-version" in (await head(second, "k")).attributes.metadata
    assert (await head(store, "k")).attributes.metadata == {}


async def test_what_neither_has(store, second, down, told):
    down.on = True
    with pytest.raises(NotFoundError):
        await store.get("gone")
    assert [each.name for each in told] == ["objects.fallback"], "that it is the copy's word can be seen"


async def test_neither_is_available(primary, down, tmp_path):
    down.on = True
    for other in (FaultyStore(MemoryStore(), source=down), LocalStore(tmp_path / "missing")):
        store = FallbackStore(primary, other)
        for read in (get_bytes(store, "k"), list_all(store), store.list_prefixes(), store.get_ranges("k", [(0, 1)])):
            with pytest.raises(UnavailableError, match="scripted"):
                await read


@pytest.mark.parametrize("way", ["stream", "read", "readinto"])
@pytest.mark.parametrize("after", [0, 1_500_000])
async def test_a_body_that_breaks_goes_on_from_the_copy(store, primary, second, told, way, after):
    async def whole():
        async with await store.get("k", range=None) as result:
            if way == "read":
                return await result.read()
            if way == "readinto":
                buffer = bytearray(len(BODY))
                assert await result.readinto(memoryview(buffer)) == len(BODY)
                return bytes(buffer)
            return b"".join([bytes(chunk) async for chunk in result])

    primary.inject("get", Fault("body", after_bytes=after))
    assert await whole() == BODY
    assert [each.name for each in told] == ["objects.fallback"]
    await second.put("k", bytes(len(BODY)))  # another object: it must not be mixed in
    primary.inject("get", Fault("body", after_bytes=after))
    with pytest.raises(UnavailableError):
        await whole()


async def test_a_body_of_the_fallback_that_breaks_stays_broken(primary, second, down):
    down.on = True
    store = FallbackStore(primary, FaultyStore(second, {"get": [Fault("body", after_bytes=10)]}))
    with pytest.raises(UnavailableError):
        await get_bytes(store, "k")


async def test_a_part_read_before_the_rest_is_not_read_twice(store, primary):
    primary.inject("get", Fault("body", after_bytes=1_500_000))
    async with await store.get("k") as result:
        first = bytes(await anext(aiter(result)))
        assert first + await result.read() == BODY
    async with await store.get("k") as result:
        first = bytes(await anext(aiter(result)))
        buffer = bytearray(len(BODY))
        count = await result.readinto(memoryview(buffer))
        assert first + buffer[:count] == BODY


async def test_a_listing_is_one_stores_alone(store, primary):
    primary.inject("list_objects", Fault("body", after_bytes=1))
    with pytest.raises(UnavailableError):
        await list_all(store)


async def test_it_is_for_reading(store):
    assert not store.capabilities.conditional_create
    assert not store.capabilities.conditional_update
    version = (await head(store, "k")).version
    writes = [
        store.put("k", b"", mode=CREATE),
        store.put("k", b"", mode=Update(version)),
        store.start_upload("k"),
        store.delete(["k"]),
        store.delete([]),
        store.copy("k", "l"),
        store.restore_version("k", "1"),
        store.signed_url("k", method="PUT"),
    ]
    for write in writes:
        with pytest.raises(UnsupportedOperationError, match="for reading"):
            await write
    with pytest.raises(UnsupportedOperationError, match="MemoryStore"):
        await store.signed_url("k")


async def test_a_table_is_read_through_it_and_never_written(primary, down):
    rows = pa.table({"id": pa.array([1], pa.int64())})
    async with await DeltaTable.create(primary, "t", rows.schema) as table:
        await table.append(rows)
    copy = MemoryStore()
    await copy_store(primary, copy)
    store = FallbackStore(primary, copy)
    for down.on in (False, True):
        async with await DeltaTable.open(store, "t") as table:
            assert (await table.to_arrow()).equals(rows)
            with pytest.raises(UnsupportedOperationError):
                await table.append(rows)
    down.on = False
    assert [meta.key for meta in await list_all(copy, "t/")] == [meta.key for meta in await list_all(primary, "t/")]


async def test_a_marked_version_of_no_store(store):
    with pytest.raises(PreconditionFailedError):
        await store.get("k", if_match="other-7:1")
    with pytest.raises(PreconditionFailedError):
        await store.get("k", if_match="other-1:none")


async def test_closing_closes_both(primary):
    closed = []

    class Closing(FaultyStore):
        async def aclose(self):
            closed.append(self)
            raise UnavailableError("it hangs")

    stores = Closing(primary), Closing(primary)
    with pytest.raises(UnavailableError):
        await FallbackStore(*stores).aclose()
    assert closed == list(stores)


def test_it_needs_another_store():
    with pytest.raises(ConfigurationError, match="another store"):
        FailoverStore(MemoryStore())
