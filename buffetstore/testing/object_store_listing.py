"""The object store contract: listings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import InvalidInputError
from buffetstore.objects.helpers import delete_prefix, list_all

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore

# In the order of their UTF-8 bytes: `a.b` < `a/` (0x2E < 0x2F) < `a0`, and U+FFxx before the astral characters.
ORDERED = [
    "B",
    "a b",
    "a",
    "a.b",
    "a/b",
    "a/b.c",
    "a/c/d",
    "a0",
    "ab",
    "a-b",
    "é",
    "\uff5e",
    "\U00010000",
    "📈",
]


async def keys(store: ObjectStore, prefix: str = "", *, after: str = "") -> list[str]:
    """Return the keys of a listing."""
    return [meta.key for meta in await list_all(store, prefix, after=after)]


async def fill(store: ObjectStore, names: list[str]) -> None:
    """Write an object of two bytes for each name, many at once."""
    limit = asyncio.Semaphore(64)

    async def put(name: str) -> None:
        async with limit:
            await store.put(name, b"ab")

    await asyncio.gather(*(put(name) for name in names))


class ListingCases:
    """What holds for `list_objects` and `list_prefixes`."""

    listed_objects = 25  # more than a page of the server, where its pages can be made small
    nested_names = True  # False where one name cannot be both an object and a prefix of others (folders)

    async def test_an_empty_store(self, store: ObjectStore) -> None:
        assert await list_all(store) == []
        listing = await store.list_prefixes()
        assert (list(listing.objects), list(listing.prefixes)) == ([], [])

    async def test_the_order_is_that_of_utf8_bytes(self, store: ObjectStore) -> None:
        names = ORDERED if self.nested_names else [name for name in ORDERED if name not in {"a", "a/b"}]
        await fill(store, names)
        assert await keys(store) == sorted(names, key=str.encode)

    async def test_after(self, store: ObjectStore) -> None:
        names = sorted((name for name in ORDERED if name not in {"a", "a/b"}), key=str.encode)
        await fill(store, names)
        for at, name in enumerate(names):
            assert await keys(store, after=name) == names[at + 1 :]
        assert await keys(store, after="a/") == [name for name in names if name.encode() > b"a/"]
        assert await keys(store, "a", after="a.b") == [n for n in names if n.startswith("a") and n.encode() > b"a.b"]
        assert await keys(store, "a/", after="B") == ["a/b.c", "a/c/d"]
        assert await keys(store, "a/", after="b") == []

    async def test_a_prefix_is_a_string_not_a_folder(self, store: ObjectStore) -> None:
        await fill(store, ["log/1", "log/10", "log/2", "logs/1", "lo"])
        assert await keys(store, "log") == ["log/1", "log/10", "log/2", "logs/1"]
        assert await keys(store, "log/") == ["log/1", "log/10", "log/2"]
        assert await keys(store, "log/1") == ["log/1", "log/10"]
        assert await keys(store, "none") == []
        assert await keys(store, "log/1/") == []

    @pytest.mark.parametrize("prefix", ["../", "..", "/", "a//", "./"])
    async def test_a_prefix_never_escapes(self, store: ObjectStore, prefix: str) -> None:
        await fill(store, ["a/b"])
        assert await keys(store, prefix) == []

    async def test_listings_tell_what_head_tells(self, store: ObjectStore) -> None:
        meta = await store.put("a/k", b"body")
        (listed,) = await list_all(store)
        (direct,) = (await store.list_prefixes("a/")).objects
        for found in (listed, direct):
            assert (found.key, found.size, found.version) == ("a/k", 4, meta.version)
            # Some services round the listing's time to seconds.
            assert abs((found.last_modified - meta.last_modified).total_seconds()) <= 1

    async def test_pages(self, store: ObjectStore) -> None:
        names = sorted(f"page/{number:06}" for number in range(self.listed_objects))
        await fill(store, [*names, "page", "pagf/x"] if self.nested_names else [*names, "pagf/x"])
        assert await keys(store, "page/") == names
        middle = len(names) // 2
        assert await keys(store, "page/", after=names[middle]) == names[middle + 1 :]
        assert [meta.key for meta in (await store.list_prefixes("page/")).objects] == names

    async def test_many_prefixes(self, store: ObjectStore) -> None:
        folders = sorted(f"table/day={number:04}/" for number in range(self.listed_objects))
        await fill(store, [f"{folder}part.parquet" for folder in folders])
        listing = await store.list_prefixes("table/")
        assert (list(listing.objects), list(listing.prefixes)) == ([], folders)

    async def test_a_listing_may_be_left_early(self, store: ObjectStore) -> None:
        await fill(store, [f"k{number}" for number in range(self.listed_objects)])
        async for meta in store.list_objects():
            assert meta.key == "k0"
            break
        assert await keys(store, "k1", after="k1")

    async def test_one_level(self, store: ObjectStore) -> None:
        await fill(store, ["top", "raw/a/1", "raw/a/2", "raw/b/c/3", "raw/x.json", "rawer/1", "raw.txt"])
        listing = await store.list_prefixes()
        assert [meta.key for meta in listing.objects] == ["raw.txt", "top"]
        assert list(listing.prefixes) == ["raw/", "rawer/"]
        listing = await store.list_prefixes("raw/")
        assert [meta.key for meta in listing.objects] == ["raw/x.json"]
        assert list(listing.prefixes) == ["raw/a/", "raw/b/"]
        listing = await store.list_prefixes("none/")
        assert (list(listing.objects), list(listing.prefixes)) == ([], [])
        with pytest.raises(InvalidInputError):
            await store.list_prefixes("raw")

    async def test_a_prefix_goes_with_its_last_object(self, store: ObjectStore) -> None:
        await fill(store, ["a/b/c", "a/d"])
        await store.delete(["a/b/c"])
        assert list((await store.list_prefixes("a/")).prefixes) == []
        await store.delete(["a/d"])
        assert list((await store.list_prefixes()).prefixes) == []
        await store.put("a", b"")  # what was a prefix may now be an object

    async def test_delete_prefix(self, store: ObjectStore) -> None:
        await fill(store, ["a/1", "a/2/3", "ab", "b/1"])
        assert await delete_prefix(store, "a/") == 2
        assert await keys(store) == ["ab", "b/1"]
        assert await delete_prefix(store, "a/") == 0
