"""LocalStore on disks that are full or may not be written, with chosen permissions, links and too few files."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from buffetstore.errors import ConfigurationError, InvalidKeyError, NotFoundError
from buffetstore.objects import CREATE, LocalStore, Update, exists, get_bytes, list_all, open_store

# In a mount namespace of its own, so that nothing is left mounted whatever becomes of it.
MOUNTED = """
import asyncio, subprocess, sys
from pathlib import Path
from buffetstore.errors import AccessError, PermissionDeniedError, StorageError, StorageFullError
from buffetstore.objects import CREATE, LocalStore, Update, get_bytes, list_all

def mount(folder, *options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=True)

def left(root):
    found = [path for path in root.rglob("*") if path.is_file() and "locks" not in path.parts]
    return sorted(str(path.relative_to(root)) for path in found)

async def uploaded(store, key, mode, size):
    async with await store.start_upload(key, mode=mode) as upload:
        for _ in range(size // 100_000):
            await upload.write(bytes(100_000))
        await upload.complete()

FULL = '''
async def main(root):
    mount(root, "size=1m")
    store = LocalStore(root)
    meta = await store.put("kept", bytes(300_000))
    for attempt in (
        lambda: store.put("large", bytes(2_000_000), mode=CREATE),
        lambda: store.put("kept", bytes(2_000_000)),
        lambda: store.put("kept", bytes(2_000_000), mode=Update(meta.version)),
        lambda: uploaded(store, "large", CREATE, 2_000_000),
        lambda: uploaded(store, "kept", Update(meta.version), 2_000_000),
        lambda: uploaded_copies(store),
    ):
        try:
            await attempt()
        except StorageFullError as error:
            assert not error.ambiguous and not error.transient
        else:
            raise AssertionError("it was not full")
        assert await get_bytes(store, "kept", if_match=meta.version) == bytes(300_000)
        await store.delete([f"copy{number}" for number in range(9)])
        assert left(Path(root)) == ["kept"], left(Path(root))
    await store.put("fits", bytes(300_000))  # what failed has given its room back

async def uploaded_copies(store):
    for number in range(9):
        await store.copy("kept", f"copy{number}")
'''
READ_ONLY = '''
async def main(root):
    mount(root, "size=4m")
    store = LocalStore(root)
    meta = await store.put("kept", b"body")
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    for attempt in (
        lambda: store.put("k", b"", mode=CREATE),
        lambda: store.put("kept", b""),
        lambda: store.put("kept", b"", mode=Update(meta.version)),
        lambda: uploaded(store, "k", CREATE, 100_000),
        lambda: store.copy("kept", "k"),
        lambda: store.delete(["kept"]),
        lambda: LocalStore(root + "/made", create=True).put("k", b""),
    ):
        try:
            await attempt()
        except PermissionDeniedError as error:
            assert not error.ambiguous and not error.transient
        else:
            raise AssertionError("it was not read-only")
    assert await get_bytes(store, "kept", if_match=meta.version) == b"body"
    assert [found.key for found in await list_all(store)] == ["kept"]
'''
exec({"full": FULL, "read only": READ_ONLY}[sys.argv[2]])
asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def namespaces():
    """Skip where this process may not mount."""
    probe = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=4k tmpfs /mnt"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("needs the right to mount a tmpfs (CAP_SYS_ADMIN)")


@pytest.mark.parametrize("case", ["full", "read only"])
async def test_a_disk_that_takes_no_more(tmp_path, namespaces, case):
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", sys.executable, "-c", MOUNTED, str(tmp_path), case),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


FEW_FILES = """
import asyncio, resource, sys
from buffetstore.errors import UnavailableError
from buffetstore.objects import LocalStore, get_bytes
async def main():
    store = LocalStore(sys.argv[1])
    await store.put("k", b"body")
    held = [open("/dev/null") for _ in range(20)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(held), len(held)))
    for call in (lambda: get_bytes(store, "k"), lambda: store.put("k", b"other"), lambda: store.delete(["k"])):
        try:
            await call()
        except UnavailableError as error:
            assert "ulimit" in str(error), error
        else:
            raise AssertionError("there were files enough")
    for file in held:
        file.close()
    print(await get_bytes(store, "k"))
asyncio.run(main())
"""


async def test_too_many_open_files(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FEW_FILES, str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, errors = await process.communicate()
    assert said == b"b'body'\n", errors.decode()


def modes(root) -> set[tuple[str, int]]:
    kinds = {path: "folder" if path.is_dir() else "file" for path in root.rglob("*")}
    return {(kind, path.stat().st_mode & 0o7777) for path, kind in kinds.items()}


@pytest.mark.parametrize(("folder", "file"), [(0o2770, 0o660), ("700", "0600"), (0o777, 0o666)])
async def test_chosen_permissions(tmp_path, folder, file):
    """The bits are the ones asked for, whatever the umask, of objects, folders, locks and temporary files."""
    root = tmp_path / "made"
    mask = os.umask(0o027)
    try:
        async with open_store(root, create=True, folder_mode=folder, file_mode=file) as store:
            meta = await store.put("a/b/put", b"")
            await store.put("a/b/put", b"", mode=Update(meta.version))
            await store.put("c/created", b"", mode=CREATE)
            await store.copy("c/created", "d/copied")
            async with await store.start_upload("e/uploaded") as upload:
                assert modes(root)  # its temporary file is among them
                await upload.write(b"x")
                await upload.complete()
    finally:
        os.umask(mask)
    bits = [int(mode, 8) if isinstance(mode, str) else mode for mode in (folder, file)]
    assert modes(root) == {("folder", bits[0]), ("file", bits[1])}
    assert root.stat().st_mode & 0o7777 == bits[0]


async def test_what_is_there_keeps_its_permissions(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old").chmod(0o751)
    await LocalStore(tmp_path, folder_mode=0o700, file_mode=0o600).put("old/k", b"")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o751


@pytest.mark.parametrize(
    ("option", "value"),
    [("folder_mode", 0o077), ("file_mode", 0o400), ("file_mode", "rw"), ("folder_mode", 0o17777), ("file_mode", -1)],
)
def test_modes_that_cannot_be(tmp_path, option, value):
    with pytest.raises(ConfigurationError, match=option):
        LocalStore(tmp_path, **{option: value})


async def test_links_are_followed_and_never_written_through(tmp_path):
    """Whoever may make links owns the folder; writes and deletes change the folder, not what links lead to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"outside")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    store = LocalStore(root)
    assert await get_bytes(store, "link") == b"outside"
    assert await get_bytes(store, "folder/secret") == b"outside"
    assert [meta.key for meta in await list_all(store)] == ["link"]
    await store.put("link", b"mine")
    assert not (root / "link").is_symlink()
    (root / "link").unlink()
    (root / "link").symlink_to(outside / "secret")
    await store.delete(["link"])
    assert not await exists(store, "link")
    assert (outside / "secret").read_bytes() == b"outside"


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd"])
async def test_no_key_leaves_the_root(tmp_path, key):
    (tmp_path / "outside").write_bytes(b"secret")
    store = LocalStore(tmp_path / "root", create=True)
    for call in (store.get(key), store.put(key, b""), store.delete([key]), store.copy(key, "k")):
        with pytest.raises(InvalidKeyError):
            await call
    assert await list_all(store, "../") == []


async def test_a_path_that_is_too_long(tmp_path):
    """Each name is short enough, but not the whole path below a deep root."""
    deep = tmp_path
    while len(str(deep)) < 3500:
        deep /= "d" * 200
    store = LocalStore(deep, create=True)
    key = "/".join(["k" * 100] * 10)
    with pytest.raises(InvalidKeyError, match="cannot hold"):
        await store.put(key, b"")
    with pytest.raises(NotFoundError):
        await store.get(key)
    await store.delete([key])
    await store.put("short", b"")
