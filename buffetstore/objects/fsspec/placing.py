"""Writing objects: under a hidden name beside the last one, which is then given in one step."""

# ruff: noqa: D102 - the docstrings of an upload are those of the contract

from __future__ import annotations

import errno
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from buffetstore.errors import AlreadyExistsError, StorageError, UnavailableError, UnsupportedOperationError
from buffetstore.objects.base import Upload
from buffetstore.objects.fsspec.bodies import meta_of
from buffetstore.objects.fsspec.errors import mapped, missing_root
from buffetstore.objects.fsspec.files import CHUNK_BYTES
from buffetstore.objects.fsspec.listing import RESERVED
from buffetstore.resilience.concurrency import unhurried
from buffetstore.resilience.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from buffetstore.objects.base import Data, ObjectMeta, PutMode
    from buffetstore.objects.fsspec.files import Files, Reader, Status

    T = TypeVar("T")

# The retry wrapper leaves the pieces of an upload to the store, which alone knows which of them arrived.
PIECE_POLICY = RetryPolicy(attempts=5)
NO_RETRY = RetryPolicy(attempts=1)
_ATTEMPTS = 100  # against a delete that takes empty folders away meanwhile


def parent(path: str) -> str:
    """Return the folder of `path`."""
    return path.rpartition("/")[0] or "/"


class Folders:
    """The folders between the root and the objects: made when needed, removed when empty."""

    def __init__(self, files: Files, root: str, url: str, *, create: bool) -> None:
        self._files = files
        self._root = root or "/"
        self.url = url
        self._create = create
        self._is_root_seen = False

    async def check_root(self) -> None:
        """Raise `BucketNotFoundError` if the root is missing, unless it may be made."""
        if not self._create and await self._is_root_missing():
            raise missing_root(self.url, self._root)

    async def within(self, folder: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` does, which needs `folder`; make that if it is missing."""
        if not self._is_root_seen:  # some file systems make all folders unasked
            if await self._is_root_missing():
                if not self._create:
                    raise missing_root(self.url, self._root)
                await self._make(self._root, above_root=True)
            self._is_root_seen = True
        for _ in range(_ATTEMPTS):
            try:
                return await call()
            except FileNotFoundError as error:
                if isinstance(error, StorageError):
                    raise
                await self._make(folder, above_root=self._create)
        return await call()

    async def prune(self, folders: Iterable[str]) -> None:
        """Remove those of `folders`, and above them below the root, that are empty."""
        for start in sorted(folders, key=len, reverse=True):
            folder = start
            with suppress(OSError):  # not empty: other objects are there
                while len(folder) > len(self._root) and folder != "/":
                    await self._files.remove_folder(folder)
                    folder = parent(folder)

    async def remove_empty(self, folder: str, key: str) -> None:
        """Remove the folder that has the name of `key` if no object is under it."""
        try:
            for name, status in await self._files.entries(folder):
                if status.kind != "folder":
                    raise self._held(key)
                await self.remove_empty(f"{folder}/{name}", key)
            await self._files.remove_folder(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            if isinstance(error, StorageError | ConnectionError | TimeoutError):
                raise
            raise self._held(key) from error

    def _held(self, key: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{key!r} cannot be stored in {self.url}: there are objects under {key + '/'!r}, and in a folder one name "
            "cannot be both an object and a prefix of others. Choose another key",
            key=key,
        )

    async def _is_root_missing(self) -> bool:
        if self._root == "/":
            return False
        try:
            status = await self._files.status(self._root)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise mapped(error, self.url, self._root) from error
        return status.kind != "folder"

    async def _make(self, folder: str, *, above_root: bool) -> None:
        try:
            await self._files.make_folder(folder)
        except FileExistsError:
            try:
                if (await self._files.status(folder)).kind == "folder":
                    return
            except FileNotFoundError:
                return  # a delete took it away meanwhile: the caller comes again
            raise NotADirectoryError(errno.ENOTDIR, "a prefix of the key is an object", folder) from None
        except FileNotFoundError:
            if folder == self._root and not above_root:
                raise missing_root(self.url, self._root) from None
            if folder == "/":
                raise
            await self._make(parent(folder), above_root=above_root)
            with suppress(FileNotFoundError):
                await self._make(folder, above_root=above_root)


class FileUpload(Upload):
    """One object being written; `put` is one piece of it."""

    def __init__(self, files: Files, folders: Folders, key: str, path: str, mode: PutMode, policy: RetryPolicy) -> None:
        self._files = files
        self._folders = folders
        self._key = key
        self._target = path
        self._mode = mode
        self._policy = policy
        self._temporary = f"{parent(path).rstrip('/')}/{RESERVED}-{secrets.token_hex(8)}"
        self._writer = files.writer(self._temporary)
        self._size = 0
        self._is_over = False
        self._is_unclear = False

    async def open(self) -> None:
        """Begin the hidden file."""
        await unhurried(self._mapped(self._in_folder(self._writer.open)))

    async def write(self, data: Data) -> None:
        self._check_open()
        view = memoryview(data).cast("B")
        for at in range(0, len(view), CHUNK_BYTES):
            piece = view[at : at + CHUNK_BYTES]
            offset = self._size
            await self._policy.call(
                lambda piece=piece, offset=offset: self._mapped(self._writer.write(piece, offset)),  # type: ignore[misc]
                subject=self._key,
            )
            self._size += len(piece)

    async def copy_from(self, source: Reader) -> None:
        """Write all of another file."""
        await self._mapped(self._writer.copy_from(source))
        self._size = source.status.size

    async def complete(self) -> ObjectMeta:
        self._check_open()
        return await unhurried(self._complete())

    async def abort(self) -> None:
        if not self._is_over:
            self._is_over = True
            await unhurried(self._writer.discard())

    async def _complete(self) -> ObjectMeta:
        # The folder cannot go while the hidden file is in it, but some file systems write that only now.
        sealed = await self._mapped(self._in_folder(lambda: self._writer.finish(self._size)))
        await self._mapped(self._place(sealed), placing=True)
        self._is_over = True
        if self._is_unclear:
            await self._writer.discard()
        status = sealed if sealed is not None else await self._mapped(self._files.status(self._target))
        return meta_of(self._key, status, None)

    async def _in_folder(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self._folders.within(parent(self._target), call)

    async def _place(self, sealed: Status | None) -> None:
        for _ in range(_ATTEMPTS):
            try:
                if self._mode.kind == "create":
                    await self._files.create(self._temporary, self._target)
                else:
                    await self._files.replace(self._temporary, self._target)
            except (FileExistsError, IsADirectoryError):
                if await self._is_taken(sealed):
                    return
            except FileNotFoundError:
                if not await self._has_landed(sealed):
                    raise
                return
            else:
                return
        raise UnavailableError(f"{self._key!r}: folders of this name come and go. Try again", key=self._key)

    async def _is_taken(self, sealed: Status | None) -> bool:
        """Return True if it is ours that has the name, False if the name is free now; raise if it is another's."""
        try:
            found = await self._files.status(self._target)
        except FileNotFoundError:
            return False
        if found.kind == "folder":
            await self._folders.remove_empty(self._target, self._key)
            return False
        if self._is_unclear and self._is_ours(found, sealed):
            return True
        raise AlreadyExistsError(f"{self._key!r} already exists in {self._folders.url}", key=self._key)

    async def _has_landed(self, sealed: Status | None) -> bool:
        """Return whether our hidden file is gone because an earlier attempt, whose answer was lost, renamed it."""
        if not self._is_unclear:
            return False
        try:
            return self._is_ours(await self._files.status(self._target), sealed)
        except FileNotFoundError:
            return False

    def _is_ours(self, found: Status, sealed: Status | None) -> bool:
        return self._files.guarantees.unique_versions and sealed is not None and found.version == sealed.version

    def _check_open(self) -> None:
        if self._is_over:
            raise UnsupportedOperationError(f"the upload of {self._key!r} is over: start a new one", key=self._key)

    async def _mapped(self, work: Awaitable[T], *, placing: bool = False) -> T:
        try:
            return await work
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            failure = mapped(error, self._folders.url, self._key, writing=True, placing=placing)
            self._is_unclear = self._is_unclear or failure.ambiguous
            raise failure from error
