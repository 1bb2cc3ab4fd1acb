"""The bridge over file systems that fsspec has at hand: blocking ones in threads, asynchronous ones on the loop."""

from __future__ import annotations

import uuid

import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from buffetstore.objects.fsspec import FsspecStore
from buffetstore.testing import ObjectStoreContract


class FsspecContract(ObjectStoreContract):
    nested_names = False


class TestFsspecLocal(FsspecContract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with FsspecStore(LocalFileSystem(), str(tmp_path)) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, tmp_path):
        async with FsspecStore(LocalFileSystem(), str(tmp_path / "none")) as store:
            yield store


class TestFsspecMemory(FsspecContract):
    @pytest.fixture
    async def store(self):
        fs = MemoryFileSystem(skip_instance_cache=True)
        root = f"/{uuid.uuid4().hex}"
        fs.mkdir(root)
        async with FsspecStore(fs, root) as store:
            yield store
        fs.rm(root, recursive=True)


class TestFsspecUnknown(FsspecContract):
    """A file system that the bridge knows nothing of: what needs a primitive is skipped, as the capability says."""

    @pytest.fixture
    async def store(self, tmp_path):
        async with FsspecStore(DirFileSystem(str(tmp_path), LocalFileSystem()), "/") as store:
            yield store


class TestFsspecAsynchronous(FsspecContract):
    @pytest.fixture
    async def store(self, tmp_path):
        fs = AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True)
        async with FsspecStore(fs, str(tmp_path)) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, tmp_path):
        async with FsspecStore(
            AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True), str(tmp_path / "none")
        ) as store:
            yield store
