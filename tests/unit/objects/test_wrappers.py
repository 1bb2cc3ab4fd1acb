from __future__ import annotations

import importlib
import pkgutil

import pytest

import buffetstore.objects.wrappers
import buffetstore.testing
from buffetstore.errors import InvalidKeyError, NotFoundError, UnavailableError
from buffetstore.objects import LocalStore, MemoryStore, MetricsStore, ObjectStore, PrefixStore, get_bytes, list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.testing import Fault, FaultyStore

CONTRACT = frozenset(name for name in vars(ObjectStore) if not name.startswith("_"))


def wrappers() -> list[type[StoreWrapper]]:
    for package in (buffetstore.objects.wrappers, buffetstore.testing):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found, todo = [], [StoreWrapper]
    while todo:
        classes = [kind for kind in todo.pop().__subclasses__() if kind.__module__.startswith("buffetstore.")]
        found += classes
        todo += classes
    return found


def forgotten(kind: type[StoreWrapper]) -> frozenset[str]:
    return CONTRACT - vars(kind).keys() - kind.forwards


@pytest.mark.parametrize("kind", wrappers(), ids=lambda kind: kind.__name__)
def test_no_wrapper_forgets_a_part_of_the_contract(kind):
    assert forgotten(kind) == frozenset()
    assert kind.forwards <= CONTRACT, "it forwards what the contract does not have"
    assert not kind.forwards & vars(kind).keys(), "it defines what it says it forwards"


def test_every_wrapper_is_looked_at():
    names = {kind.__name__ for kind in wrappers()}
    assert names >= {"PrefixStore", "RetryStore", "MetricsStore", "FaultyStore", "CountingStore"}


def test_a_forgotten_method_is_noticed():
    class Forgetful(StoreWrapper):
        forwards = CONTRACT - {"get", "get_ranges"}

        async def get(self, key, **options):
            return await super().get(key, **options)

    assert forgotten(Forgetful) == {"get_ranges"}


async def test_the_base_forwards_the_whole_contract():
    class Everything(StoreWrapper):
        forwards = CONTRACT

    inner = MemoryStore()
    store = Everything(inner)
    await store.put("a/k", b"body")
    await store.copy("a/k", "l")
    async with await store.start_upload("m") as upload:
        await upload.complete()
    assert await get_bytes(store, "a/k") == b"body"
    assert await store.get_ranges("l", [(1, 3)]) == [b"od"]
    assert [meta.key for meta in await list_all(store)] == ["a/k", "l", "m"]
    assert (await store.list_prefixes()).prefixes == ["a/"]
    await store.delete(["l"])
    assert [meta.key for meta in await list_all(inner)] == ["a/k", "m"]
    assert (store.url, store.capabilities) == (inner.url, inner.capabilities)
    async with store:
        pass


class TestPrefixStore:
    async def test_it_sees_only_its_own(self):
        inner = MemoryStore()
        for key in ("raw", "raw/a", "raw/b/c", "raw2/d", "ra"):
            await inner.put(key, key.encode())
        store = PrefixStore(inner, "raw/")
        assert [meta.key for meta in await list_all(store)] == ["a", "b/c"]
        assert await get_bytes(store, "a") == b"raw/a"
        for key in ("../ra", "..", "/a"):
            with pytest.raises(InvalidKeyError):
                await store.get(key)

    async def test_errors_name_its_own_keys(self):
        store = PrefixStore(FaultyStore(MemoryStore(), {"get": [None, Fault("body")]}), "deep/er")
        with pytest.raises(NotFoundError) as gone:
            await store.get("k")
        assert gone.value.key == "k"
        await store.put("k", b"body")
        with pytest.raises(UnavailableError) as broken:
            await get_bytes(store, "k")
        assert broken.value.key == "k"

    @pytest.mark.parametrize("prefix", ["", "/", "a//b", "../a", "a/.."])
    def test_a_senseless_prefix(self, prefix):
        with pytest.raises(InvalidKeyError):
            PrefixStore(MemoryStore(), prefix)

    def test_its_url(self, tmp_path):
        assert PrefixStore(MemoryStore(), "a/b/").url == "memory://a/b"
        assert PrefixStore(LocalStore("/data"), "a/b").url == "file:///data/a/b"


class TestMetricsStore:
    @pytest.fixture
    def told(self):
        return []

    @pytest.fixture
    def store(self, told):
        return MetricsStore(MemoryStore(), told.append)

    async def test_each_verb_is_told_with_its_counts(self, store, told):
        await store.put("a/k", b"12345")
        async with await store.start_upload("u") as upload:
            await upload.write(b"123")
            await upload.complete()
        await get_bytes(store, "a/k")
        async with await store.get("a/k", head=True):
            pass
        await store.get_ranges("a/k", [(0, 2), (1, 2)])
        await store.copy("a/k", "c")
        await list_all(store)
        await store.list_prefixes()
        await store.delete(["c", "u"])
        assert [(o.name.removeprefix("objects."), o.subject, dict(o.counts)) for o in told] == [
            ("put", "a/k", {"bytes_out": 5}),
            ("upload", "u", {"bytes_out": 3}),
            ("get", "a/k", {"bytes_in": 5}),
            ("head", "a/k", {}),
            ("get_ranges", "a/k", {"bytes_in": 3}),
            ("copy", "c", {}),
            ("list_objects", "", {"keys": 3}),
            ("list_prefixes", "", {"keys": 3}),
            ("delete", "c", {"keys": 2}),
        ]
        assert all(operation.error is None and operation.seconds >= 0 for operation in told)

    async def test_a_get_is_told_when_its_body_is_consumed(self, store, told):
        await store.put("k", bytes(3_000_000))
        told.clear()
        result = await store.get("k")
        assert told == []
        async for _chunk in result:
            assert told == []
        assert [dict(operation.counts) for operation in told] == [{"bytes_in": 3_000_000}]
        await result.aclose()
        assert len(told) == 1

    async def test_a_get_is_told_when_it_is_closed(self, store, told):
        await store.put("k", bytes(3_000_000))
        told.clear()
        async with await store.get("k") as result:
            async for _chunk in result:
                break
        assert [(operation.error, dict(operation.counts)) for operation in told] == [(None, {"bytes_in": 1024 * 1024})]

    async def test_errors_are_told_by_code(self, told):
        faulty = FaultyStore(MemoryStore(), {"get": [None, Fault("body"), Fault("body", after_bytes=2)]})
        store = MetricsStore(faulty, told.append)
        await store.put("k", b"body")
        with pytest.raises(NotFoundError):
            await store.get("gone")
        with pytest.raises(UnavailableError):
            await get_bytes(store, "k")
        async with await store.get("k") as result:
            with pytest.raises(UnavailableError):
                [chunk async for chunk in result]
        async with await store.start_upload("u") as upload:
            await upload.write(b"left")
        faulty.inject("start_upload", Fault())
        faulty.inject("complete", Fault())
        faulty.inject("list_objects", Fault())
        with pytest.raises(UnavailableError):
            await store.start_upload("u")
        async with await store.start_upload("u") as upload:
            with pytest.raises(UnavailableError):
                await upload.complete()
        with pytest.raises(UnavailableError):
            await list_all(store)
        assert [(operation.name.removeprefix("objects."), operation.error) for operation in told] == [
            ("put", None),
            ("get", "not_found"),
            ("get", "unavailable"),
            ("get", "unavailable"),
            ("upload", None),
            ("upload", "unavailable"),
            ("upload", "unavailable"),
            ("list_objects", "unavailable"),
        ]

    async def test_a_listing_left_early_is_told(self, store, told):
        await store.put("a", b"")
        await store.put("b", b"")
        listing = store.list_objects()
        async for _meta in listing:
            break
        await listing.aclose()
        assert (told[-1].name, told[-1].error, dict(told[-1].counts)) == ("objects.list_objects", None, {"keys": 1})
