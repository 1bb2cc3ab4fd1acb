"""The bridge where no server is needed: what it says of file systems, and what it makes of their answers."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import UTC, datetime

import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from buffetstore.errors import (
    AlreadyExistsError,
    ConfigurationError,
    InvalidKeyError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import CREATE
from buffetstore.objects.fsspec import FsspecStore, Guarantees, Primitives
from buffetstore.objects.fsspec.errors import mapped
from buffetstore.objects.fsspec.generic import told
from buffetstore.objects.helpers import get_bytes, list_all


def unknown(folder):
    """Return a file system that the bridge has no primitives for."""
    return DirFileSystem(str(folder), LocalFileSystem())


class TestPromises:
    async def test_an_unknown_file_system_refuses_to_create(self, tmp_path):
        async with FsspecStore(unknown(tmp_path), "/") as store:
            assert not store.capabilities.conditional_create
            assert not store.capabilities.unique_versions
            with pytest.raises(UnsupportedOperationError, match="fsspec has no step") as failure:
                await store.put("k", b"", mode=CREATE)
            assert failure.value.key == "k"
            await store.put("k", b"body")
            assert await get_bytes(store, "k") == b"body"

    async def test_primitives_of_ones_own(self, tmp_path):
        def create(fs, source, target):
            os.link(fs._join(source), fs._join(target))
            fs.rm_file(source)

        mine = Primitives(create=create, guarantees=Guarantees(replace="unknown", unique_versions=False))
        async with FsspecStore(unknown(tmp_path), "/", primitives=mine) as store:
            answers = await asyncio.gather(
                *(store.put("k", bytes([number]), mode=CREATE) for number in range(16)), return_exceptions=True
            )
            assert sum(isinstance(answer, AlreadyExistsError) for answer in answers) == 15
        assert [path.name for path in tmp_path.iterdir()] == ["k"]

    async def test_an_asynchronous_one_runs_on_the_loop(self, tmp_path):
        fs = AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True)
        seen = []
        pipe = fs._pipe_file

        async def noted(*arguments, **options):
            seen.append(asyncio.get_running_loop())
            return await pipe(*arguments, **options)

        fs._pipe_file = noted
        async with FsspecStore(fs, str(tmp_path)) as store:
            await store.put("k", b"body")
        assert seen == [asyncio.get_running_loop()]


class TestUrls:
    async def test_any_protocol(self):
        async with FsspecStore.from_url("fsspec+memory://place/root", create=True) as store:
            assert store.url == "fsspec+memory:///place/root"
            await store.put("a/b", b"body", mode=CREATE)
            assert [meta.key for meta in await list_all(store)] == ["a/b"]
            await store.delete(["a/b"])
        MemoryFileSystem().rm("/place", recursive=True)

    @pytest.mark.parametrize(
        ("url", "message"), [("fsspec+nosuch://x", "nosuch"), ("fsspec+ftp://me:hidden@127.0.0.1:1/x", "password")]
    )
    def test_malformed(self, url, message):
        with pytest.raises(ConfigurationError, match=message) as failure:
            FsspecStore.from_url(url)
        assert "hidden" not in str(failure.value)

    def test_one_that_connects_at_once(self):
        with pytest.raises(UnavailableError, match="ftp://"):
            FsspecStore.from_url("fsspec+ftp://127.0.0.1:1/x")


class TestAnswers:
    @pytest.mark.parametrize(
        "info",
        [
            {"mtime": 1_700_000_000},
            {"LastModified": datetime.fromtimestamp(1_700_000_000, UTC)},
            {"modificationTime": 1_700_000_000_000},
            {"updated": "2023-11-14T22:13:20Z"},
            {"created": datetime(2023, 11, 14, 22, 13, 20)},  # noqa: DTZ001 - as some file systems tell it
        ],
    )
    def test_times_in_every_form(self, info):
        status = told({"type": "file", "size": 3, **info})
        assert status.modified == datetime.fromtimestamp(1_700_000_000, UTC)
        assert (status.kind, status.size) == ("file", 3)

    def test_a_file_whose_time_nobody_knows_is_new(self):
        assert (datetime.now(UTC) - told({"type": "file", "size": 0}).modified).total_seconds() < 60

    def test_marks_make_versions(self):
        one, two = (told({"type": "file", "size": 3, "ETag": tag}).version for tag in ('"a"', '"b"'))
        assert one != two
        assert '"' not in one

    @pytest.mark.parametrize(
        ("error", "writing", "expected"),
        [
            (OSError(errno.ENOENT, "x"), False, NotFoundError),
            (OSError(errno.ENOENT, "x"), True, UnavailableError),
            (OSError(errno.EISDIR, "x"), False, NotFoundError),
            (OSError(errno.ENOTDIR, "x"), True, UnsupportedOperationError),
            (OSError(errno.ENAMETOOLONG, "x"), True, InvalidKeyError),
            (OSError(errno.EROFS, "x"), True, PermissionDeniedError),
            (OSError(errno.EDQUOT, "x"), True, StorageFullError),
            (OSError(errno.ENOTSUP, "x"), True, UnsupportedOperationError),
            (OSError(errno.EIO, "x"), True, UnavailableError),
            (TimeoutError(), True, UnavailableError),
        ],
    )
    def test_errors(self, error, writing, expected):
        failure = mapped(error, "sftp://host", "k", writing=writing)
        assert type(failure) is expected
        assert failure.key == "k"
        assert not failure.ambiguous

    def test_only_a_lost_answer_to_the_last_step_is_ambiguous(self):
        assert mapped(ConnectionResetError(), "sftp://host", "k", writing=True, placing=True).ambiguous
        assert not mapped(OSError(errno.EIO, "x"), "sftp://host", "k", writing=True, placing=True).ambiguous

    async def test_what_a_file_system_raises_is_ours(self, tmp_path, monkeypatch):
        fs = LocalFileSystem(skip_instance_cache=True)
        for error, expected in (
            (ValueError("odd"), UnavailableError),
            (NotImplementedError(), UnsupportedOperationError),
        ):

            def fail(*_arguments, error=error, **_options):
                raise error

            monkeypatch.setattr(fs, "pipe_file", fail)
            async with FsspecStore(fs, str(tmp_path)) as store:
                with pytest.raises(expected, match="LocalFileSystem"):
                    await store.put("k", b"")
