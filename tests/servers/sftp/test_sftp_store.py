"""SFTP: logins, faults, and what each server can promise."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ConfigurationError,
    InvalidKeyError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects import RetryStore, open_store
from buffetstore.objects.base import CREATE, Update
from buffetstore.objects.fsspec import FsspecStore
from buffetstore.objects.helpers import get_bytes, get_many, list_all
from buffetstore.objects.pool import pool_stats, warm_up
from buffetstore.resilience.retry import RetryPolicy


def opened(server, root, **options):
    return FsspecStore.from_url(server.url, root=str(root), **{**server.options, **options})


def left(folder):
    """Every file below the folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture
async def store(asyncssh_server, tmp_path):
    async with opened(asyncssh_server, tmp_path) as store:
        yield store


class TestLogin:
    async def test_a_password(self, asyncssh_server, tmp_path):
        async with opened(asyncssh_server, tmp_path, client_keys=[], password=asyncssh_server.login[1]) as store:
            await store.put("k", b"body")
            assert (tmp_path / "k").read_bytes() == b"body"

    async def test_the_user_may_stand_in_the_url(self, asyncssh_server, tmp_path):
        options = {name: value for name, value in asyncssh_server.options.items() if name != "username"}
        url = f"sftp://{asyncssh_server.login[0]}@127.0.0.1:{asyncssh_server.port}"
        async with FsspecStore.from_url(url, root=str(tmp_path), **options) as store:
            assert await list_all(store) == []
            assert store.url == f"{url}{tmp_path}"

    async def test_a_wrong_password(self, asyncssh_server, tmp_path):
        async with opened(asyncssh_server, tmp_path, client_keys=[], password="wrong-secret") as store:
            with pytest.raises(AuthenticationError, match="client_keys") as failure:
                await store.get("k")
            assert "wrong-secret" not in f"{failure.value!r} {failure.value} {store!r} {store.url}"

    async def test_a_stranger_s_key(self, asyncssh_server, keys, tmp_path):
        async with opened(asyncssh_server, tmp_path, client_keys=keys.stranger) as store:
            with pytest.raises(AuthenticationError):
                await store.put("k", b"")

    async def test_an_unknown_host_is_not_trusted(self, asyncssh_server, keys, tmp_path):
        other = tmp_path / "known_hosts"
        other.write_text(f"* {keys.stranger.with_suffix('.pub').read_text()}")
        async with opened(asyncssh_server, tmp_path, known_hosts=other) as store:
            with pytest.raises(AuthenticationError, match="known_hosts"):
                await store.get("k")
        async with opened(asyncssh_server, tmp_path, known_hosts=other, verify_host=False) as store:
            with pytest.raises(NotFoundError):
                await store.get("k")

    async def test_files_that_cannot_be_read(self, asyncssh_server, tmp_path):
        for wrong in ({"known_hosts": tmp_path / "none"}, {"client_keys": tmp_path / "none"}):
            async with opened(asyncssh_server, tmp_path, **wrong) as store:
                with pytest.raises(ConfigurationError, match="none"):
                    await store.get("k")


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "options", "expected"),
        [
            ("sftp://host", {}, "sftp://host"),
            ("sftp://me@host:2222", {}, "sftp://me@host:2222"),
            ("sftp://host:22/data/market/", {}, "sftp://host/data/market"),
            ("sftp://[::1]:2022", {"username": "me"}, "sftp://me@[::1]:2022"),
            ("sftp://host", {"root": "~"}, "sftp://host/~"),
            ("sftp://host", {"root": "data"}, "sftp://host/~/data"),
            ("sftp://host", {"port": 2200, "password": "secret"}, "sftp://host:2200"),
        ],
    )
    async def test_the_url_of_a_store(self, url, options, expected):
        async with FsspecStore.from_url(url, **options) as store:
            assert store.url == expected
            assert "secret" not in repr(vars(store))

    async def test_the_path_of_an_opened_url_is_the_servers(self):
        async with open_store("sftp://host/data/market") as store:
            assert store.url == "sftp://host/data/market"

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("sftp://me:hidden@host", {}),
            ("sftp://host:many", {}),
            ("sftp://", {}),
            ("sftp://host", {"bucket": "x"}),
            ("sftp://host/data", {"root": "/other"}),
            ("sftp://host", {"root": "../up"}),
            ("fsspec+nosuch://place", {}),
        ],
    )
    def test_malformed(self, url, options):
        with pytest.raises(ConfigurationError) as failure:
            FsspecStore.from_url(url, **options)
        assert "hidden" not in str(failure.value)

    async def test_the_home_of_the_login(self, openssh_server, tmp_path):
        async with opened(openssh_server, "~") as store:
            with pytest.raises(NotFoundError) as failure:
                await store.get(f"never-there-{tmp_path.name}")
            assert not isinstance(failure.value, BucketNotFoundError)


class TestPromises:
    @pytest.mark.parametrize("kind", ["asyncssh_server", "openssh_server"])
    async def test_full_servers(self, kind, request, tmp_path):
        async with opened(request.getfixturevalue(kind), tmp_path) as store:
            await store.put("k", b"body")
            can = store.capabilities
            assert (can.conditional_create, can.conditional_update, can.metadata, can.unique_versions) == (
                True, False, False, True,
            )  # fmt: skip
            assert (store.guarantees.replace, store.guarantees.reason) == ("atomic", "")
            with pytest.raises(UnsupportedOperationError, match="lock"):
                await store.put("k", b"", mode=Update("any"))

    async def test_a_server_without_links_refuses_to_create(self, poor_server, tmp_path):
        async with opened(poor_server, tmp_path) as store:
            for call in (store.put("k", b"", mode=CREATE), store.start_upload("k", mode=CREATE)):
                with pytest.raises(UnsupportedOperationError, match="hardlink@openssh"):
                    await call
            assert not store.capabilities.conditional_create
            assert store.guarantees.replace == "gap"
            await store.put("k", b"one")
            await store.put("k", b"two")
            assert await get_bytes(store, "k") == b"two"
        assert left(tmp_path) == ["k"]

    async def test_versions_differ_within_a_second(self, store, tmp_path):
        versions = {(await store.put("k", b"same")).version for _ in range(50)}
        assert len(versions) == 50
        (tmp_path / "by hand").write_bytes(b"x")
        (listed,) = [meta for meta in await list_all(store) if meta.key == "by hand"]
        assert (await store.get("by hand", head=True)).meta.version == listed.version
        await get_bytes(store, "k")
        assert (await store.get("k", head=True)).meta.version in versions

    async def test_two_stores_race(self, asyncssh_server, tmp_path):
        async with opened(asyncssh_server, tmp_path) as one, opened(asyncssh_server, tmp_path) as two:
            for number in range(8):
                calls = [store.put(f"k{number}", bytes([at]), mode=CREATE) for at, store in enumerate([one, two] * 16)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert sum(isinstance(answer, AlreadyExistsError) for answer in answers) == 31
        assert left(tmp_path) == [f"k{number}" for number in range(8)]


class TestFolders:
    async def test_a_missing_root(self, asyncssh_server, tmp_path):
        async with opened(asyncssh_server, tmp_path / "none") as store:
            for call in (
                store.get("k"), store.put("k", b""), store.delete(["k"]), list_all(store), store.list_prefixes(),
            ):  # fmt: skip
                with pytest.raises(BucketNotFoundError, match="create=True"):
                    await call
        async with opened(asyncssh_server, tmp_path / "none" / "deep", create=True) as store:
            assert await list_all(store) == []
            await store.put("a/b", b"x")
        assert left(tmp_path) == ["none/deep/a/b"]

    async def test_emptied_folders_go_up_to_the_root(self, store, tmp_path):
        await store.put("a/b/c", b"")
        await store.delete(["a/b/c"])
        assert list(tmp_path.iterdir()) == []
        assert tmp_path.exists()

    async def test_one_name_is_not_two_things(self, store, tmp_path):
        await store.put("a/b", b"")
        with pytest.raises(UnsupportedOperationError, match="prefix of others"):
            await store.put("a", b"")
        with pytest.raises(UnsupportedOperationError, match="prefix of others"):
            await store.put("a", b"", mode=CREATE)
        with pytest.raises(UnsupportedOperationError):
            await store.put("a/b/c", b"")
        with pytest.raises(NotFoundError):
            await store.get("a")
        await store.delete(["a"])
        assert left(tmp_path) == ["a/b"]

    async def test_a_name_too_long_for_the_disk(self, store, openssh_server, tmp_path):
        async with opened(openssh_server, tmp_path) as other:
            for each in (store, other):
                with pytest.raises(InvalidKeyError):
                    await each.put("x" * 300, b"")
                with pytest.raises(NotFoundError):
                    await each.get("x" * 300)

    async def test_hidden_names_are_ours(self, store, tmp_path):
        with pytest.raises(InvalidKeyError, match="keeps for itself"):
            await store.put("a/.buffetstore-1", b"")
        stale, fresh = tmp_path / ".buffetstore-stale", tmp_path / ".buffetstore-fresh"
        for path, age in ((stale, 30 * 86400), (fresh, 60)):
            path.write_bytes(b"")
            os.utime(path, (time.time() - age, time.time() - age))
        (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
        assert await list_all(store) == []
        assert not stale.exists()
        assert fresh.exists()

    async def test_links_put_by_hand(self, store, tmp_path):
        await store.put("file", b"body")
        (tmp_path / "link").symlink_to("file")
        (tmp_path / "nothing").symlink_to("none")
        (tmp_path / "folder").symlink_to(tmp_path)
        assert [(meta.key, meta.size) for meta in await list_all(store)] == [("file", 4), ("link", 4)]


class TestFaults:
    async def test_nobody_listens(self, asyncssh_server, tmp_path):
        closed = asyncssh_server._replace(port=1)
        async with opened(closed, tmp_path) as store:
            with pytest.raises(UnavailableError, match="cannot be reached"):
                await store.get("k")

    async def test_a_host_that_does_not_answer(self, asyncssh_server, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            silent = asyncssh_server._replace(port=nobody.getsockname()[1])
            async with opened(silent, tmp_path, timeout_seconds=0.2) as store:
                with pytest.raises(UnavailableError, match=r"0\.2 s"):
                    await store.get("k")

    async def test_an_answer_that_does_not_come(self, sick_server, tmp_path):
        async with opened(sick_server, tmp_path, timeout_seconds=0.5) as store:
            with pytest.raises(UnavailableError, match=r"0\.5 s"):
                await store.get("stall", head=True)
            await store.put("k", b"the next call has a connection of its own")

    async def test_rights_and_full_disks(self, sick_server, tmp_path):
        async with opened(sick_server, tmp_path) as store:
            await store.put("k", b"old")
            with pytest.raises(PermissionDeniedError):
                await store.get("denied")
            with pytest.raises(StorageFullError):
                await store.put("k", b"full")
            assert await get_bytes(store, "k") == b"old"
        assert left(tmp_path) == ["k"]

    async def test_a_full_disk_of_openssh(self, openssh_server, small_disk):
        """It says no more than "Failure"; what is free tells."""
        async with opened(openssh_server, small_disk) as store:
            await store.put("k", b"old")
            with pytest.raises(StorageFullError):
                await store.put("k", bytes(4_000_000))
            assert await get_bytes(store, "k") == b"old"
        assert left(small_disk) == ["k"]

    async def test_a_server_that_dies_while_it_is_written_to(self, mortal_servers, tmp_path):
        mortal_server, other = mortal_servers
        store = opened(mortal_server, tmp_path, timeout_seconds=5)
        upload = await store.start_upload("k")
        await upload.write(bytes(1_000_000))
        mortal_server.process.kill()
        mortal_server.process.wait()
        with pytest.raises(UnavailableError):
            await store.put("other", b"")
        with pytest.raises(UnavailableError):
            await store.get("k")
        await upload.abort()
        await store.aclose()
        async with opened(other, tmp_path) as store:
            assert await list_all(store) == []

    async def test_a_broken_connection_is_replaced(self, store):
        await store.put("k", b"body")
        (session,) = store._files.pool._sessions
        session.connection.abort()
        assert await get_bytes(store, "k") == b"body"
        assert store.pool_stats().idle == 1

    async def test_an_upload_goes_on_after_a_broken_connection(self, store, tmp_path):
        sent = []
        async with await store.start_upload("k") as upload:
            for at in range(6):
                if at in {2, 4}:
                    for session in store._files.pool._sessions:
                        session.connection.abort()
                sent.append(os.urandom(1_000_000))
                await upload.write(sent[-1])
            for session in store._files.pool._sessions:
                session.connection.abort()
            await upload.complete()
        assert (tmp_path / "k").read_bytes() == b"".join(sent)
        assert left(tmp_path) == ["k"]

    async def test_a_create_whose_answer_was_lost_is_known_as_ours(self, store, tmp_path, monkeypatch):
        files = store._files
        create = files.create

        async def lost(source, target):
            monkeypatch.setattr(files, "create", create)
            await create(source, target)
            raise ConnectionResetError("lost")

        for retried in (False, True):
            monkeypatch.setattr(files, "create", lost)
            if retried:
                await RetryStore(store, RetryPolicy(base_seconds=0)).put("retried", b"ours", mode=CREATE)
            else:
                with pytest.raises(UnavailableError) as failure:
                    await store.put("raw", b"ours", mode=CREATE)
                assert failure.value.ambiguous
        assert left(tmp_path) == ["raw", "retried"]

    @pytest.mark.parametrize("step", ["create", "replace"])
    async def test_an_upload_whose_last_answer_was_lost(self, store, tmp_path, monkeypatch, step):
        files = store._files
        real = getattr(files, step)

        async def lost(source, target):
            monkeypatch.setattr(files, step, real)
            await real(source, target)
            raise ConnectionResetError("lost")

        monkeypatch.setattr(files, step, lost)
        inner = RetryStore(store, RetryPolicy(base_seconds=0))
        async with await inner.start_upload("k", **({"mode": CREATE} if step == "create" else {})) as upload:
            await upload.write(b"ours")
            meta = await upload.complete()
        assert await get_bytes(store, "k", if_match=meta.version) == b"ours"
        assert left(tmp_path) == ["k"]

    async def test_cancelled_writes_leave_no_file(self, store, tmp_path):
        for steps in (1, 5, 20, 60):
            task = asyncio.create_task(store.put(f"k{steps}", bytes(8_000_000)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert [name for name in left(tmp_path) if "buffetstore" in name] == []

    async def test_cancelled_downloads_leave_nothing_behind(self, store):
        await store.put("large", bytes(3_000_000))
        before = asyncio.all_tasks()
        tasks = [asyncio.create_task(get_bytes(store, "large")) for _ in range(50)]
        for _ in range(30):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert store.pool_stats().in_use == 0
        left_over = {task for task in asyncio.all_tasks() - before if "buffetstore" in repr(task.get_coro())}
        assert left_over == set()
        assert len(await get_bytes(store, "large")) == 3_000_000


class TestPool:
    async def test_connections_are_shared_up_to_the_limit(self, asyncssh_server, tmp_path):
        async with opened(asyncssh_server, tmp_path, max_connections=2) as store:
            keys = [f"k{number}" for number in range(40)]
            await asyncio.gather(*(store.put(key, key.encode()) for key in keys))
            assert await get_many(store, keys) == [key.encode() for key in keys]
            stats = store.pool_stats()
            assert (stats.in_use, stats.idle, stats.limit) == (0, 2, 2)

    async def test_warm_up(self, asyncssh_server, tmp_path):
        async with RetryStore(opened(asyncssh_server, tmp_path, max_connections=3)) as store:
            await warm_up(store, 2)
            assert pool_stats(store).idle == 2

    def test_a_second_loop_is_refused_while_the_first_lives(self, asyncssh_server, tmp_path):
        store = opened(asyncssh_server, tmp_path)
        first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
        first.run_until_complete(store.put("k", b"body"))
        with pytest.raises(UnsupportedOperationError, match="another event loop"):
            second.run_until_complete(store.put("k", b""))
        first.run_until_complete(store.aclose())
        first.close()
        second.close()

    async def test_a_closed_store(self, asyncssh_server, tmp_path):
        store = opened(asyncssh_server, tmp_path)
        await store.put("k", b"")
        await store.aclose()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            await store.get("k")
