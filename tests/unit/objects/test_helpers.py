from __future__ import annotations

import asyncio

import pytest

from buffetstore.errors import AlreadyExistsError, NotFoundError, UnavailableError
from buffetstore.objects import (
    CREATE,
    MemoryStore,
    delete_prefix,
    download_file,
    exists,
    get_bytes,
    get_many,
    get_text,
    head,
    list_all,
    put_text,
    read_object,
    upload_file,
)
from buffetstore.testing import CountingStore, Fault, FaultyStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_text(store):
    await put_text(store, "k", "naïve 📈")
    assert await get_text(store, "k") == "naïve 📈"
    assert (await head(store, "k")).attributes.content_type == "text/plain; charset=utf-8"
    with pytest.raises(AlreadyExistsError):
        await put_text(store, "k", "x", mode=CREATE)


async def test_read_object(store):
    put = await store.put("k", b"body")
    meta, body = await read_object(store, "k")
    assert (meta.version, body) == (put.version, b"body")


async def test_delete_prefix_deletes_in_batches(store):
    for number in range(2500):
        await store.put(f"a/{number}", b"")
    await store.put("b", b"")
    counting = CountingStore(store)
    assert await delete_prefix(counting, "a/") == 2500
    assert counting.requests["delete"] == 3
    assert [meta.key for meta in await list_all(store)] == ["b"]


async def test_get_many_bounds_what_is_in_flight(store):
    keys = [str(number) for number in range(20)]
    for key in keys:
        await store.put(key, key.encode())

    class Watching(CountingStore):
        now = most = 0

        async def get(self, key, **options):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            try:
                return await super().get(key, **options)
            finally:
                self.now -= 1

    watching = Watching(store)
    assert await get_many(watching, keys, concurrency=3) == [key.encode() for key in keys]
    assert watching.most == 3
    assert await get_many(store, []) == []


async def test_get_many_raises_the_first_error_itself(store):
    with pytest.raises(NotFoundError):
        await get_many(store, ["gone"] * 5)


@pytest.mark.parametrize("size", [0, 5, 9_000_001])
async def test_files_go_up_and_come_down(store, tmp_path, size):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"abcdefg" * (size // 7 + 1))
    with source.open("r+b") as file:
        file.truncate(size)
    told: list[tuple[int, int]] = []
    meta = await upload_file(store, source, "k", progress=lambda done, total: told.append((done, total)))
    assert meta.size == size
    assert told[-1] == (size, size)
    told.clear()
    meta = await download_file(store, "k", target, progress=lambda done, total: told.append((done, total)))
    assert target.read_bytes() == source.read_bytes()
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert not told or told[-1] == (size, size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


async def test_an_upload_keeps_its_mode(store, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(5_000_000))
    await upload_file(store, path, "k", mode=CREATE)
    with pytest.raises(AlreadyExistsError):
        await upload_file(store, path, "k", mode=CREATE)


async def test_a_file_that_is_not_there_cannot_be_uploaded(store, tmp_path):
    with pytest.raises(NotFoundError, match="missing"):
        await upload_file(store, tmp_path / "missing", "k")
    assert not await exists(store, "k")


async def test_a_broken_download_leaves_the_old_file(store, tmp_path):
    await store.put("k", bytes(3_000_000))
    path = tmp_path / "f"
    path.write_bytes(b"old")
    faulty = FaultyStore(store, {"get": [Fault("body", after_bytes=2_000_000)]})
    with pytest.raises(UnavailableError):
        await download_file(faulty, "k", path)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("f", b"old")]


async def test_get_bytes_of_a_key_that_is_gone(store):
    with pytest.raises(NotFoundError, match="'gone'"):
        await get_bytes(store, "gone")
