from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    InvalidKeyError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects import CREATE, OVERWRITE, ByteRange, LocalStore, Update, exists, get_bytes, head, list_all
from buffetstore.objects.base import Attributes
from buffetstore.testing import ObjectStoreContract


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path)


def files(root) -> list[str]:
    found = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return sorted(str(path) for path in found if path.parent.name != "locks")


async def upload(store, key: str) -> None:
    async with await store.start_upload(key, mode=CREATE) as parts:
        await parts.write(b"body")
        await parts.complete()


async def test_the_bytes_are_a_plain_file(store, tmp_path):
    await store.put("year=2024/AAPL.parquet", b"PAR1")
    assert (tmp_path / "year=2024/AAPL.parquet").read_bytes() == b"PAR1"
    assert files(tmp_path) == ["year=2024/AAPL.parquet"]


async def test_others_may_read_what_we_write(store, tmp_path):
    mask = os.umask(0)
    os.umask(mask)
    await store.put("k", b"")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("mode", [OVERWRITE, CREATE])
async def test_a_missing_root(tmp_path, mode):
    store = LocalStore(tmp_path / "none")
    calls = [
        store.put("k", b"", mode=mode),
        store.get("k"),
        store.get_ranges("k", [(0, 1)]),
        store.delete(["k"]),
        store.list_prefixes(),
        store.copy("k", "l"),
        store.start_upload("k"),
        list_all(store),
    ]
    for call in calls:
        with pytest.raises(BucketNotFoundError, match="none"):
            await call
    assert not (tmp_path / "none").exists()


async def test_a_root_to_be_made_counts_as_empty(tmp_path):
    store = LocalStore(tmp_path / "a" / "b", create=True)
    assert await list_all(store) == []
    assert not await exists(store, "k")
    await store.delete(["k"])
    await store.put("k", b"", mode=CREATE)
    assert files(tmp_path) == ["a/b/k"]


async def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        await LocalStore(tmp_path / "file", create=True).put("k", b"")


async def test_versions_change_within_one_tick_of_the_clock(store):
    versions = {(await store.put("k", b"same size")).version for _ in range(300)}
    assert len(versions) == 300


async def test_the_version_survives_reopening(store, tmp_path):
    meta = await store.put("k", b"one")
    again = LocalStore(tmp_path)
    assert (await head(again, "k")).version == meta.version
    await again.put("k", b"two", mode=Update(meta.version))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("a.json", "application/json"),
        ("a.csv", "text/csv"),
        ("a.csv.gz", "application/gzip"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.unheard", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
async def test_the_content_type_is_told_by_the_extension(store, key, kind):
    await store.put(key, b"")
    assert (await head(store, key)).attributes.content_type == kind


async def test_what_a_folder_cannot_hold_is_refused(store, tmp_path):
    for attributes in (Attributes(metadata={"a": "b"}), Attributes(storage_class="COLD")):
        with pytest.raises(UnsupportedOperationError):
            await store.put("k", b"", attributes=attributes)
        with pytest.raises(UnsupportedOperationError):
            await store.start_upload("k", attributes=attributes)
    assert files(tmp_path) == []


@pytest.mark.parametrize("mode", [OVERWRITE, CREATE])
async def test_an_object_is_no_prefix(store, tmp_path, mode):
    await store.put("a", b"kept")
    with pytest.raises(UnsupportedOperationError, match="both an object and a prefix"):
        await store.put("a/b", b"", mode=mode)
    for call in (store.get("a/b"), store.get_ranges("a/b", [(0, 1)]), store.copy("a/b", "c")):
        with pytest.raises(NotFoundError):
            await call
    await store.delete(["a/b"])
    assert await get_bytes(store, "a") == b"kept"
    assert files(tmp_path) == ["a"]


@pytest.mark.parametrize("mode", [OVERWRITE, CREATE])
async def test_a_prefix_is_no_object(store, tmp_path, mode):
    await store.put("a/b", b"kept")
    with pytest.raises(UnsupportedOperationError, match="both an object and a prefix"):
        await store.put("a", b"", mode=mode)
    with pytest.raises(NotFoundError):
        await store.get("a")
    await store.delete(["a"])
    assert await get_bytes(store, "a/b") == b"kept"
    assert files(tmp_path) == ["a/b"]


@pytest.mark.parametrize("mode", [OVERWRITE, CREATE])
async def test_empty_folders_are_no_obstacle(store, tmp_path, mode):
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    assert (await store.list_prefixes()).prefixes == []
    await store.put("a", b"", mode=mode)
    assert files(tmp_path) == ["a"]


async def test_a_name_that_the_system_cannot_hold(store, tmp_path):
    key = "a/" + "x" * 300
    with pytest.raises(InvalidKeyError, match="cannot hold"):
        await store.put(key, b"")
    with pytest.raises(InvalidKeyError):
        await upload(store, key)
    with pytest.raises(NotFoundError):
        await store.get(key)
    await store.delete([key])
    assert await list_all(store, key + "/") == []
    assert files(tmp_path) == []


@pytest.mark.parametrize("key", [".buffetstore/tmp/x", "a/.buffetstore", ".buffetstore"])
async def test_the_store_keeps_a_name_for_itself(store, key):
    with pytest.raises(InvalidKeyError, match="keeps for itself"):
        await store.put(key, b"")


async def test_strange_files_put_by_hand_are_not_listed(store, tmp_path):
    await store.put("a/good", b"")
    (tmp_path / "a" / "new\nline").write_bytes(b"")
    (tmp_path / os.fsdecode(b"bad\xff")).write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert [meta.key for meta in await list_all(store)] == ["a/good"]
    listing = await store.list_prefixes()
    assert ([meta.key for meta in listing.objects], list(listing.prefixes)) == ([], ["a/"])
    with pytest.raises(NotFoundError):
        await store.get("pipe")


FAULTS = [
    (errno.ENOSPC, StorageFullError, "free some space"),
    (errno.EDQUOT, StorageFullError, "free some space"),
    (errno.EROFS, PermissionDeniedError, "rights"),
    (errno.EACCES, PermissionDeniedError, "rights"),
    (errno.EIO, UnavailableError, "error"),
]


@pytest.mark.parametrize(("number", "kind", "words"), FAULTS)
@pytest.mark.parametrize("function", ["write", "fsync", "utime", "link"])
async def test_a_failing_disk(store, tmp_path, monkeypatch, function, number, kind, words):
    """Whatever step fails, the error is typed, the object is absent, and no temporary file is left."""

    def fail(*_args, **_options):
        raise OSError(number, os.strerror(number))

    await store.put("a/other", b"")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(kind, match=words) as failure:
        await store.put("a/k", b"body", mode=CREATE)
    assert failure.value.key == "a/k"
    with pytest.raises(kind):
        await upload(store, "a/k")
    monkeypatch.undo()
    assert files(tmp_path) == ["a/other"]
    await store.put("a/k", b"body", mode=CREATE)


async def test_a_write_whose_folder_cannot_be_synced_is_unclear(store, monkeypatch):
    synced = os.fsync
    calls = []

    def fail_second(file):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        synced(file)

    await store.put("a/other", b"")
    monkeypatch.setattr(os, "fsync", fail_second)
    with pytest.raises(UnavailableError) as failure:
        await store.put("a/k", b"body", mode=CREATE)
    assert failure.value.ambiguous
    assert await get_bytes(store, "a/k") == b"body"


async def test_a_full_disk_for_real(tmp_path):
    """A limit of the operating system on the size of files stands for the full disk."""
    code = """
import asyncio, resource, signal, sys
from buffetstore.errors import StorageFullError
from buffetstore.objects import LocalStore, list_all
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def main():
    store = LocalStore(sys.argv[1])
    await store.put("small", bytes(1000))
    try:
        await store.put("large", bytes(1_000_000))
    except StorageFullError as error:
        print([meta.key for meta in await list_all(store)], error)
asyncio.run(main())
"""
    run = await in_process(code, tmp_path)
    assert run.startswith("['small'] 'large'")
    assert files(tmp_path) == ["small"]


async def in_process(code: str, *args) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *map(str, args), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode()


WRITER = """
import asyncio, itertools, sys
from buffetstore.objects import CREATE, LocalStore
async def main():
    store = LocalStore(sys.argv[1])
    print("begun", flush=True)
    for number in itertools.count():
        body = b"%08d" % number * 100_000
        await store.put(f"created/{number}", body, mode=CREATE)
        await store.put("replaced", body)
        async with await store.start_upload("uploaded") as upload:
            await upload.write(body)
            await upload.complete()
        print(number, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("pause", [0.0, 0.013, 0.05])
async def test_a_killed_writer_leaves_no_half_object(tmp_path, pause):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(tmp_path), stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(3):  # "begun", and two rounds
        await process.stdout.readline()
    await asyncio.sleep(pause)
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in (await process.stdout.read()).split() if line.isdigit()]
    await process.wait()
    store = LocalStore(tmp_path)
    found = await list_all(store)
    assert {meta.key for meta in found} >= {"replaced", "uploaded", "created/0", "created/1"}
    assert {meta.key for meta in found} >= {f"created/{number}" for number in acknowledged}
    for meta in found:
        body = await get_bytes(store, meta.key)
        assert len(body) == 800_000
        assert body == body[:8] * 100_000


async def test_files_of_dead_writers_are_swept(tmp_path):
    folder = tmp_path / ".buffetstore" / "tmp"
    folder.mkdir(parents=True)
    (folder / "1-old").write_bytes(b"")
    (folder / "2-new").write_bytes(b"")
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(folder / "1-old", (long_ago, long_ago))
    await LocalStore(tmp_path).put("k", b"")
    assert [path.name for path in folder.iterdir()] == ["2-new"]


RACER = """
import asyncio, sys
from buffetstore.errors import AlreadyExistsError, PreconditionFailedError
from buffetstore.objects import CREATE, LocalStore, Update, read_object
async def main():
    store = LocalStore(sys.argv[1])
    wins = 0
    for number in range(50):
        try:
            await store.put(f"log/{number}", sys.argv[2].encode(), mode=CREATE)
            wins += 1
        except AlreadyExistsError:
            pass
    for _ in range(25):
        while True:
            meta, body = await read_object(store, "counter")
            try:
                await store.put("counter", b"%d" % (int(body) + 1), mode=Update(meta.version))
                break
            except PreconditionFailedError:
                continue
    print(wins)
asyncio.run(main())
"""


async def test_processes_race_fairly(store, tmp_path):
    await store.put("counter", b"0")
    wins = await asyncio.gather(*(in_process(RACER, tmp_path, number) for number in range(4)))
    assert sum(map(int, wins)) == 50
    assert await get_bytes(store, "counter") == b"100"


async def test_writers_and_deleters_of_one_folder(store, tmp_path):
    """A delete takes empty folders away under the feet of a put, which makes them again."""

    async def churn(name: str) -> None:
        for _ in range(40):
            await store.put(f"a/b/c/{name}", b"x", mode=CREATE)
            await store.delete([f"a/b/c/{name}"])

    await asyncio.gather(*(churn(str(number)) for number in range(6)))
    assert files(tmp_path) == []
    assert not (tmp_path / "a").exists()


async def test_a_body_outlives_its_replacement_and_deletion(store):
    body = bytes(range(256)) * 20_000
    await store.put("k", body)
    async with await store.get("k") as result:
        await store.put("k", b"other")
        await store.delete(["k"])
        assert await result.read() == body


def open_files() -> int:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs a /proc file system")
    return len(list(folder.iterdir()))


async def test_files_are_closed(store):
    await store.put("k", bytes(3_000_000))
    before = open_files()
    for _ in range(3):
        await get_bytes(store, "k")
        async with await store.get("k", range=ByteRange(5)) as result:
            async for _chunk in result:
                break
        with pytest.raises(AlreadyExistsError):
            await store.put("k", b"", mode=CREATE)
        async with await store.start_upload("l") as parts:
            await parts.write(b"x")
    assert open_files() == before


class TestThroughALink(ObjectStoreContract):
    """The root itself may be a link to a folder."""

    nested_names = False

    @pytest.fixture
    async def store(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        async with LocalStore(tmp_path / "link") as store:
            yield store
