"""Data files and parts of them on disk: fewer requests, and never another answer, whatever befalls the folder."""

from __future__ import annotations

import asyncio
import io
import os
import random
import shutil
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.caching import DiskCache, LRUCache
from buffetstore.errors import CorruptFileError, NotFoundError
from buffetstore.objects import MemoryStore
from buffetstore.objects.wrappers.prefix import PrefixStore
from buffetstore.query.cache_manager import CacheManager, Reading
from buffetstore.resilience.threads import in_disk_thread
from buffetstore.testing import CountingStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BODY = random.Random(1).randbytes(300_000)
KEY = "raw/t/a.parquet"
SPANS = ((0, 1_000), (5_000, 90_000), (250_000, 300_000))


def disk(folder: Path, max_bytes: int = 10_000_000) -> DiskCache:
    return DiskCache(folder, max_bytes, in_thread=in_disk_thread)


def opened(store: CountingStore, folder: Path, max_bytes: int = 10_000_000) -> CacheManager:
    return CacheManager(store, LRUCache(0), disk=disk(folder, max_bytes))


@pytest.fixture
async def store() -> CountingStore:
    counting = CountingStore(MemoryStore())
    await counting.put(KEY, BODY)
    counting.reset()
    return counting


def cut(spans: tuple[tuple[int, int], ...] = SPANS) -> list[bytes]:
    return [BODY[start:end] for start, end in spans]


async def test_a_file_is_fetched_once_by_processes_one_after_the_other(store: CountingStore, tmp_path: Path) -> None:
    first, second = Reading(), Reading()
    cache = opened(store, tmp_path)
    assert await cache.fetch(KEY, len(BODY), first) == BODY
    await cache.aclose()
    assert (first.requests, first.bytes, store.total) == (1, len(BODY), 1)
    again = opened(store, tmp_path)
    assert await again.fetch(KEY, len(BODY), second) == BODY
    assert (second.requests, second.bytes, store.total) == (0, 0, 1)


async def test_parts_are_found_alone_and_in_the_whole(store: CountingStore, tmp_path: Path) -> None:
    reading, cache = Reading(), opened(store, tmp_path)
    assert await cache.chunks(KEY, len(BODY), SPANS[:2], reading) == cut(SPANS[:2])
    asked = store.total
    assert await cache.chunks(KEY, len(BODY), SPANS[:2], reading) == cut(SPANS[:2])
    assert store.total == asked, "all of it is on disk"
    before = reading.bytes
    assert await cache.chunks(KEY, len(BODY), SPANS, reading) == cut()
    assert store.total == asked + 1
    assert reading.bytes - before == 50_000, "only what was not there"
    await cache.fetch(KEY, len(BODY), Reading())
    store.reset()
    others = ((1, 2), (100_000, 200_000))
    assert await cache.chunks(KEY, len(BODY), others, reading) == cut(others)
    assert store.total == 0, "the whole file is on disk by now"


async def test_a_footer_is_kept(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": range(1_000)}), sink)
    store = CountingStore(MemoryStore())
    size = len(sink.getvalue())
    await store.put(KEY, sink.getvalue())
    store.reset()
    for number in range(2):
        reading, cache = Reading(), opened(store, tmp_path)
        assert (await cache.footer(KEY, size, reading)).num_rows == 1_000
        assert (reading.requests, reading.footers) == ((1, 1) if number == 0 else (0, 0))
        await cache.aclose()
    assert store.total == 1


async def test_what_is_of_another_size_is_another_file(store: CountingStore, tmp_path: Path) -> None:
    cache = opened(store, tmp_path)
    await cache.fetch(KEY, len(BODY), Reading())
    with pytest.raises(CorruptFileError, match="the table's log says"):
        await cache.fetch(KEY, len(BODY) - 1, Reading())
    with pytest.raises(NotFoundError):
        await cache.fetch("raw/t/none.parquet", 5, Reading())
    other = CountingStore(PrefixStore(MemoryStore(), "elsewhere"))
    with pytest.raises(NotFoundError):
        await opened(other, tmp_path).fetch(KEY, len(BODY), Reading())


async def test_a_file_that_was_damaged_and_mended_is_read_anew(store: CountingStore, tmp_path: Path) -> None:
    cache = CacheManager(store, LRUCache(10_000_000), disk=disk(tmp_path))
    await store.put(KEY, bytes(len(BODY)))
    assert await cache.fetch(KEY, len(BODY), Reading()) != BODY
    await cache.chunks(KEY, len(BODY), SPANS, Reading())
    await store.put(KEY, BODY)
    await cache.source(Reading()).forget(KEY, len(BODY), SPANS)
    assert await cache.fetch(KEY, len(BODY), Reading()) == BODY
    assert await cache.chunks(KEY, len(BODY), SPANS, Reading()) == cut()


async def test_equal_reads_at_one_time_are_one(store: CountingStore, tmp_path: Path) -> None:
    cache = opened(store, tmp_path)
    found = await asyncio.gather(*(cache.fetch(KEY, len(BODY), Reading()) for _ in range(100)))
    assert all(body == BODY for body in found)
    assert store.total == 1


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.entry"))


def truncated(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flipped(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def replaced_by_another(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.choice([each for each in entries(path.parents[1]) if each != path]).read_bytes())


def replaced_by_noise(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.randrange(100_000)))


def replaced_by_a_folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()
    (path / str(chance.random())).write_text("something")


def replaced_by_a_link(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(chance.choice(["/nowhere", "/proc/self/mem", str(path)]))


def taken_away(path: Path, chance: random.Random) -> None:
    shutil.rmtree(path.parents[chance.choice([0, 1])])


POISONS = [
    truncated,
    flipped,
    replaced_by_another,
    replaced_by_noise,
    replaced_by_a_folder,
    replaced_by_a_link,
    taken_away,
]


@pytest.mark.parametrize("poison", POISONS)
async def test_a_folder_that_was_poisoned_by_hand_gives_right_answers(
    poison: Callable[[Path, random.Random], None], store: CountingStore, tmp_path: Path
) -> None:
    chance = random.Random(poison.__name__)
    for number in range(8):
        folder = tmp_path / str(number)
        cache = opened(store, folder)
        await cache.fetch(KEY, len(BODY), Reading())
        await cache.chunks(KEY, len(BODY), ((0, 9),), Reading())
        other = "raw/t/other.parquet"
        await store.put(other, bytes(len(BODY)))
        await cache.fetch(other, len(BODY), Reading())
        await cache.chunks(other, len(BODY), SPANS, Reading())
        poison(chance.choice(entries(folder)), chance)
        for key, whole in ((KEY, BODY), (other, bytes(len(BODY)))):
            again = opened(store, folder)
            assert await again.fetch(key, len(BODY), Reading()) == whole
            assert await again.chunks(key, len(BODY), SPANS, Reading()) == [whole[start:end] for start, end in SPANS]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 5_000), min_size=2, max_size=5)), max_size=12),
    st.integers(0, 12_000),
)
async def test_whatever_is_read_in_whatever_order_is_right_and_bounded(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, set[int]]], budget: int
) -> None:
    folder = tmp_path_factory.mktemp("tier")
    store = CountingStore(MemoryStore())
    bodies = [random.Random(number).randbytes(5_000) for number in range(4)]
    for number, body in enumerate(bodies):
        await store.put(f"k{number}", body)
    for number, edges in reads:
        cache, body = opened(store, folder, budget), bodies[number]
        spans = list(pairwise(sorted(edges)))
        assert await cache.chunks(f"k{number}", 5_000, spans, Reading()) == [body[start:end] for start, end in spans]
        assert await cache.fetch(f"k{number}", 5_000, Reading()) == body
        await cache.aclose()
        assert sum(path.stat().st_size for path in entries(folder)) <= budget


MOUNTED = """
import asyncio, subprocess, sys
from pathlib import Path
from buffetstore.caching import DiskCache, LRUCache
from buffetstore.objects import MemoryStore
from buffetstore.query.cache_manager import CacheManager, Reading
from buffetstore.resilience.threads import in_disk_thread

def mount(folder, *options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=True)

async def main(folder, case):
    mount(folder, "size=256k")
    store = MemoryStore()
    bodies = {f"k{number}": bytes([number]) * 100_000 for number in range(8)}
    for key, body in bodies.items():
        await store.put(key, body)
    disk = DiskCache(folder, 10_000_000, in_thread=in_disk_thread)
    cache = CacheManager(store, LRUCache(0), disk=disk)
    await cache.fetch("k0", 100_000, Reading())
    if case == "read only":
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    for _ in range(2):
        for key, body in bodies.items():
            reading = Reading()
            assert await cache.fetch(key, 100_000, reading) == body
            assert await cache.chunks(key, 100_000, [(5, 50_000)], reading) == [body[5:50_000]]
    reading = Reading()
    assert await cache.fetch("k0", 100_000, reading) == bodies["k0"]
    assert reading.requests == 0, "what is there is still of use"
    assert disk.stats().failures > 0, disk.stats()
    assert not list(Path(folder).rglob("*.tmp"))
    await cache.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Skip where this process may not mount."""
    probe = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=4k tmpfs /mnt"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("needs the right to mount a tmpfs (CAP_SYS_ADMIN)")


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("case", ["full", "read only"])
async def test_a_disk_that_takes_no_more(tmp_path: Path, case: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", sys.executable, "-c", MOUNTED, str(tmp_path), case),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


SHARED = """
import asyncio, random, sys
from buffetstore.caching import DiskCache, LRUCache
from buffetstore.objects import MemoryStore
from buffetstore.query.cache_manager import CacheManager, Reading
from buffetstore.resilience.threads import in_disk_thread

async def main(folder, seed):
    store = MemoryStore()
    bodies = {f"k{number}": random.Random(number).randbytes(20_000) for number in range(20)}
    for key, body in bodies.items():
        await store.put(key, body)
    cache = CacheManager(store, LRUCache(0), disk=DiskCache(folder, 150_000, in_thread=in_disk_thread))
    chance = random.Random(seed)
    for _ in range(150):
        key = chance.choice(list(bodies))
        if chance.random() < 0.5:
            assert await cache.fetch(key, 20_000, Reading()) == bodies[key]
        else:
            start = chance.randrange(10_000)
            assert await cache.chunks(key, 20_000, [(start, 15_000)], Reading()) == [bodies[key][start:15_000]]
    await cache.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_share_a_folder(tmp_path: Path) -> None:
    running = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SHARED, str(tmp_path), str(seed)), stderr=subprocess.PIPE
        )
        for seed in range(3)
    ]
    for process in running:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    total = sum(path.stat().st_size for path in entries(tmp_path))
    assert 0 < total <= 150_000 + 3 * (150_000 // 8 + 21_000)
