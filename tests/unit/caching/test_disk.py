from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.caching import DiskCache, disk
from buffetstore.resilience.threads import in_disk_thread

KEPT = Path(__file__).with_name("kept")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def opened(folder: Path, max_bytes: int = 1_000_000, **options) -> DiskCache:
    return DiskCache(folder, max_bytes, in_thread=in_disk_thread, **options)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.entry"))


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_what_was_put_is_there_after_a_restart(tmp_path):
    cache = opened(tmp_path / "new" / "folder")
    assert await cache.get("k") is None
    assert await cache.put("k", b"whole")
    assert await cache.put("k", b"part", "0-4")
    assert await cache.put("📈\ud800/..", b"")
    await cache.aclose()
    await cache.aclose()
    assert await cache.get("k") is None, "a closed one answers nothing"
    assert not await cache.put("other", b"x")
    again = opened(tmp_path / "new" / "folder")
    assert await again.get_many("k", ["", "0-4", "none"]) == {"": b"whole", "0-4": b"part"}
    assert await again.get("📈\ud800/..") == b""
    assert (again.stats().hits, again.stats().misses) == (3, 1)


async def test_a_second_value_replaces_the_first(tmp_path):
    cache = opened(tmp_path)
    await cache.put("k", b"first, and longer")
    await cache.put("k", b"second")
    assert await cache.get("k") == b"second"
    assert cache.stats().bytes == used(tmp_path)
    assert len(entries(tmp_path)) == 1


async def test_delete_forgets_every_part_of_a_key_alone(tmp_path):
    cache = opened(tmp_path)
    for key in ("a", "b"):
        await cache.put_many(key, {"": b"whole", "0-4": b"part"})
    await cache.delete("a", "never")
    assert await cache.get_many("a", ["", "0-4"]) == {}
    assert len(await cache.get_many("b", ["", "0-4"])) == 2
    assert cache.stats().bytes == used(tmp_path)
    await cache.clear()
    assert await cache.get_many("b", ["", "0-4"]) == {}
    assert used(tmp_path) == 0


async def test_the_least_recently_used_goes_first(tmp_path):
    cache = opened(tmp_path, 40_000)
    for number in range(8):
        await cache.put(f"k{number}", bytes(4_000))
    for path in entries(tmp_path):
        os.utime(path, ns=(10**9, 10**9))
    assert await cache.get("k3") is not None
    for number in range(3):
        await cache.put(f"new{number}", bytes(4_000))
    assert used(tmp_path) <= 40_000
    assert await cache.get("k3") is not None
    assert await cache.get("new2") is not None
    assert cache.stats().evictions >= 1


async def test_the_budget_holds_over_restarts(tmp_path):
    for number in range(30):
        cache = opened(tmp_path, 20_000)
        assert await cache.put(f"k{number}", bytes(3_000))
        assert used(tmp_path) <= 20_000
        assert await cache.get(f"k{number}") is not None


async def test_a_value_larger_than_the_budget_is_not_kept(tmp_path):
    cache = opened(tmp_path, 1_000)
    await cache.put("small", b"s")
    assert not await cache.put("large", bytes(1_000))
    assert await cache.get("small") == b"s"


async def test_values_expire_by_the_wall_clock(tmp_path):
    clock = Clock()
    await opened(tmp_path, ttl_seconds=5, clock=clock).put("k", b"value")
    clock.now += 4.9
    cache = opened(tmp_path, ttl_seconds=5, clock=clock)
    assert await cache.get("k") == b"value"
    clock.now += 0.1
    assert await cache.get("k") is None
    assert cache.stats().expirations == 1
    assert entries(tmp_path) == []


@given(st.data(), st.binary(max_size=300))
def test_a_damaged_entry_is_noticed_and_dropped(data, value):
    async def go(folder: Path) -> None:
        cache = opened(folder)
        await cache.put("key", value, "part")
        (path,) = entries(folder)
        entry = bytearray(path.read_bytes())
        kind = data.draw(st.sampled_from(["flip", "cut", "longer", "empty", "zeros"]))
        place = data.draw(st.integers(0, len(entry) - 1))
        if kind == "flip":
            entry[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "zeros":
            entry = bytearray(len(entry))
        else:
            entry = {"cut": entry[:place], "longer": entry + bytes(place + 1), "empty": bytearray()}[kind]
        path.write_bytes(entry)
        again = opened(folder)
        assert await again.get("key", "part") is None
        assert again.stats().corrupt == 1
        assert entries(folder) == []
        assert await again.put("key", value, "part")
        assert await again.get("key", "part") == value

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(go(Path(folder)))


async def test_an_entry_under_another_ones_name_is_dropped(tmp_path):
    cache = opened(tmp_path)
    await cache.put("k", b"one", "a")
    (one,) = entries(tmp_path)
    await cache.put("k", b"two", "b")
    (two,) = set(entries(tmp_path)) - {one}
    shutil.copy(one, two)
    assert await cache.get("k", "b") is None
    assert await cache.get("k", "a") == b"one"


async def test_other_files_stay(tmp_path):
    cache = opened(tmp_path, 10_000)
    await cache.put("k", b"value")
    shard = entries(tmp_path)[0].parent
    foreign = [
        tmp_path / "notes.txt", tmp_path / "v2" / "ab" / entries(tmp_path)[0].name, tmp_path / "v1" / "notes.entry",
        shard / "data.parquet", shard / ".hidden.tmp",
    ]  # fmt: skip
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(50_000))
        os.utime(path, (1, 1))
    for number in range(20):
        await cache.put(f"k{number}", bytes(2_000))
    await cache.delete("k")
    await cache.clear()
    assert all(path.stat().st_size == 50_000 for path in foreign)
    assert entries(tmp_path / "v1") == [tmp_path / "v1" / "notes.entry"]


async def test_what_a_crash_left_is_swept(tmp_path):
    cache = opened(tmp_path)
    await cache.put("k", b"value")
    shard = entries(tmp_path)[0].parent
    old, new = shard / f".77-{'a' * 16}.tmp", shard / f".78-{'b' * 16}.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    await opened(tmp_path).put("other", b"x")
    assert (old.exists(), new.exists()) == (False, True)
    assert await cache.get("k") == b"value"


async def test_permissions(tmp_path):
    folder = tmp_path / "cache"
    cache = opened(folder)
    await cache.put("k", b"value")
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*.entry")} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")] if path.is_dir()} == {0o700}


async def test_a_disk_that_fails_keeps_nothing(tmp_path, monkeypatch):
    cache = opened(tmp_path)
    await cache.put("k", b"value")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "_write", full)
        assert not await cache.put("other", b"x")
    assert cache.stats().failures == 1
    assert await cache.get("k") == b"value"
    assert cache.stats().bytes == used(tmp_path)
    assert list(tmp_path.rglob("*.tmp")) == []


async def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = opened(tmp_path / "file")
    assert not await cache.put("k", b"value")
    assert await cache.get("k") is None
    await cache.delete("k")
    await cache.clear()
    assert cache.stats().failures >= 1


async def test_a_folder_that_is_removed_is_made_again(tmp_path):
    cache = opened(tmp_path / "cache")
    await cache.put("k", b"value")
    shutil.rmtree(tmp_path / "cache")
    assert await cache.get("k") is None
    assert await cache.put("k", b"value")
    assert await cache.get("k") == b"value"


async def test_what_is_not_wanted_any_more_is_not_shown(tmp_path):
    cache = opened(tmp_path)
    await cache.put("k", b"old")
    assert not await cache.put_many("k", {"": b"new"}, while_true=lambda: False)
    assert await cache.get("k") == b"old"
    assert cache.stats().bytes == used(tmp_path)
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize(("max_bytes", "ttl"), [(-1, None), (1, 0), (1, -1)])
def test_senseless_options(tmp_path, max_bytes, ttl):
    with pytest.raises(ValueError, match="must be"):
        opened(tmp_path, max_bytes, ttl_seconds=ttl)


def hammer(folder: str, number: int) -> int:
    """Put and get in a process of its own; return how many answers were wrong."""

    async def go() -> int:
        cache = opened(Path(folder), 60_000)
        wrong = 0
        for step in range(120):
            key = f"k{(step * 7 + number) % 40}"
            value = await cache.get(key)
            wrong += value is not None and value != key.encode() * 500
            await cache.put(key, key.encode() * 500)
        return wrong

    return asyncio.run(go())


def test_processes_share_a_folder(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.starmap(hammer, [(str(tmp_path), number) for number in range(2)]) == [0, 0]
    assert 0 < used(tmp_path) <= 60_000 * 5 // 4
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("version", [1])
async def test_every_format_that_was_ever_written_is_read(tmp_path, version):
    shutil.copytree(KEPT / f"v{version}", tmp_path / f"v{version}")
    assert await opened(tmp_path).get_many("gs://bucket/k", ["", "0-4"]) == {"": b"whole", "0-4": b"part"}
