"""The disk work of `LocalStore`: blocking functions, run in threads.

A write goes to a file in `<root>/.buffetstore/tmp`, is fsynced, and gets its name by one atomic step: `os.link` fails
where the name is taken (put-if-absent), `os.replace` swaps. Then the folder is fsynced. (O_EXCL on the name itself
would show half an object to readers, and leave it after a crash.)
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mimetypes
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buffetstore.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    ConfigurationError,
    InvalidKeyError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StorageError,
    StorageFullError,
    UnavailableError,
    UnsupportedOperationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.objects.base import Data, PutMode

RESERVED = ".buffetstore"
STALE_SECONDS = 24 * 3600.0  # an upload touches its file with every part, so an older one has no writer
_PLACING_ATTEMPTS = 100

# Of the standard library's own table: the machine's files would make the type depend on where it runs.
_TYPES = mimetypes.MimeTypes()
_ENCODED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def content_type(key: str) -> str:
    """Return the content type that the key's extension says."""
    if key.endswith(".parquet"):
        return "application/vnd.apache.parquet"
    kind, encoding = _TYPES.guess_type(key, strict=False)
    return _ENCODED.get(encoding or "", kind or "application/octet-stream")


def version_of(status: os.stat_result) -> str:
    """Return the version of the file: it changes with every write (see `TemporaryFile.seal`)."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


@contextmanager
def mapped(root: Path, key: str, *, writing: bool = False, create: bool = False) -> Iterator[None]:
    """Raise what the operating system says as one of our errors; with `create` a missing root counts as empty."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise _mapped(error, root, key, writing=writing, create=create) from error


def _mapped(error: OSError, root: Path, key: str, *, writing: bool, create: bool) -> StorageError:
    where = f"{key!r} in {os.fspath(root)!r}"
    reason = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if not create and not root.is_dir():
            return missing_root(root)
        case errno.ENOENT if writing:
            return UnavailableError(f"{where}: the temporary file or a folder was removed meanwhile", key=key)
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST if writing:
            return UnsupportedOperationError(
                f"{where} cannot be stored: in a folder one name cannot be both an object and a prefix of others "
                f"({reason}). Choose another key",
                key=key,
            )
        case errno.ENAMETOOLONG | errno.EILSEQ | errno.EINVAL if writing:
            return InvalidKeyError(f"{where}: this file system cannot hold such a name ({reason})", key=key)
        case errno.ENOENT | errno.ENOTDIR | errno.EISDIR | errno.ENAMETOOLONG | errno.EILSEQ | errno.EINVAL:
            return NotFoundError(f"there is no object {where}", key=key)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionDeniedError(f"{where}: {reason}. Check the rights of the folder", key=key)
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageFullError(f"{where}: {reason}. Nothing was written; free some space", key=key)
        case errno.EMFILE | errno.ENFILE:
            return UnavailableError(f"{where}: {reason}. Do less at once, or raise the limit (ulimit -n)", key=key)
        case errno.EXDEV:
            return UnsupportedOperationError(f"{where} is on another file system than the root: open it apart", key=key)
        case _:
            return UnavailableError(f"{where}: {reason}", key=key)


def missing_root(root: Path) -> BucketNotFoundError:
    """Return the error of a root folder that is not there."""
    return BucketNotFoundError(f"there is no folder {os.fspath(root)!r}: make it, or open the store with create=True")


@dataclass(frozen=True, slots=True)
class Modes:
    """The permission bits of folders and files that are made; None leaves them to the process's umask."""

    folder: int | None = None
    file: int | None = None

    def opened(self, path: Path, flags: int) -> int:
        """Open `path`, which is made if it is missing."""
        file = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o666 if self.file is None else self.file)
        if self.file is not None and flags & os.O_EXCL:
            os.fchmod(file, self.file)  # the umask took bits away
        return file


def bits(option: str, value: int | str | None, least: int) -> int | None:
    """Return permission bits, of which the owner's `least` must be among; a string is octal, as in `chmod`."""
    if value is None:
        return None
    try:
        mode = int(value, 8) if isinstance(value, str) else value
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777 or mode & least != least:
        shown = repr(value) if isinstance(value, str) else f"{value:#o}"
        raise ConfigurationError(f"{option} is {shown}: permission bits are octal, at most 0o7777, with {least:#o}")
    return mode


class TemporaryFile:
    """An object being written, out of every reader's sight until `place`."""

    def __init__(self, root: Path, modes: Modes, *, create: bool) -> None:
        if not create and not root.is_dir():
            raise missing_root(root)
        folder = root / RESERVED / "tmp"
        make_folders(folder, modes)
        self._root = root
        self._modes = modes
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        self._file: int | None = modes.opened(self._path, os.O_WRONLY | os.O_EXCL)

    @property
    def fd(self) -> int:
        """The open file, or an error when the write is over."""
        if self._file is None:
            raise UnsupportedOperationError("the upload is over: start a new one")
        return self._file

    def write(self, data: Data) -> None:
        """Append `data` whole."""
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(self.fd, view) :]

    def place(self, path: Path, key: str, mode: PutMode) -> os.stat_result:
        """Give the file its name, if `mode` allows it, durably; return its status."""
        status = self._seal()
        for attempt in range(_PLACING_ATTEMPTS):
            try:
                make_folders(path.parent, self._modes)
                self._name(path, key, mode)
            except FileNotFoundError:
                # A delete in between took the empty folder away.
                if attempt == _PLACING_ATTEMPTS - 1:
                    raise
            else:
                break
        try:
            sync_folder(path.parent)
        except OSError as error:
            message = f"{key!r} is written, but its folder could not be synced: {error.strerror}"
            raise UnavailableError(message, key=key, ambiguous=True) from error
        self.discard()
        return status

    def discard(self) -> None:
        """Close the file and remove its temporary name. May be called twice."""
        if self._file is not None:
            file, self._file = self._file, None
            self._path.unlink(missing_ok=True)
            os.close(file)

    def _seal(self) -> os.stat_result:
        # Two writes within one tick of the file system's clock would else have one version; the digits below a
        # millisecond are random instead.
        tick = time.time_ns() // 1_000_000 * 1_000_000 + secrets.randbelow(1_000_000)
        os.utime(self.fd, ns=(tick, tick))
        os.fsync(self.fd)
        return os.fstat(self.fd)

    def _name(self, path: Path, key: str, mode: PutMode) -> None:
        if mode.kind == "create":
            try:
                os.link(self._path, path)
            except FileExistsError:
                if path.is_dir() and not path.is_symlink():
                    remove_empty(path, key)
                    return self._name(path, key, mode)
                raise AlreadyExistsError(f"{key!r} already exists in {os.fspath(self._root)!r}", key=key) from None
            return None
        with locked(self._root, key, self._modes):
            if mode.kind == "update":
                check_version(path, key, mode.version)
            try:
                self._path.replace(path)
            except IsADirectoryError:
                remove_empty(path, key)
                self._path.replace(path)
        return None


def check_version(path: Path, key: str, version: str | None) -> None:
    """Raise `PreconditionFailedError` unless the file is there with this version."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise PreconditionFailedError(f"{key!r} is not there, expected version {version}", key=key) from None
    if not stat.S_ISREG(status.st_mode) or version_of(status) != version:
        found = version_of(status)
        raise PreconditionFailedError(f"{key!r} has version {found}, expected {version}", key=key)


@contextmanager
def locked(root: Path, key: str, modes: Modes) -> Iterator[None]:
    """Hold the lock of `key` among all threads and processes; it falls when its holder dies."""
    folder = root / RESERVED / "locks"
    make_folders(folder, modes)
    # A few lock files serve all keys, so that they need never be removed.
    name = hashlib.blake2b(key.encode(), digest_size=1).hexdigest()
    file = lock_file(folder / name, modes)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def lock_file(path: Path, modes: Modes) -> int:
    """Return a lock file, open; whoever makes it gives it its bits."""
    try:
        return modes.opened(path, os.O_RDWR | os.O_EXCL)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def make_folders(folder: Path, modes: Modes) -> None:
    """Make `folder` and what is missing above it, durably.

    Raises
    ------
    FileNotFoundError
        A delete took a folder away meanwhile: do it again.
    NotADirectoryError
        An object has the name of a folder.
    """
    try:
        folder.mkdir(0o777 if modes.folder is None else modes.folder)
    except FileExistsError:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a prefix of the key is an object", os.fspath(folder)) from None
    except FileNotFoundError:
        make_folders(folder.parent, modes)
        make_folders(folder, modes)
    else:
        if modes.folder is not None:
            folder.chmod(modes.folder)  # the umask took bits away
        sync_folder(folder.parent)


def remove_empty(path: Path, key: str) -> None:
    """Remove the folder at `path` if no object is under it."""
    try:
        for folder, _, _ in sorted(os.walk(path), reverse=True):
            Path(folder).rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise
        if error.errno != errno.ENOENT:
            raise UnsupportedOperationError(
                f"{key!r} cannot be stored: there are objects under {key + '/'!r}, and in a folder one name cannot be "
                "both an object and a prefix of others. Choose another key",
                key=key,
            ) from None


def remove(root: Path, path: Path, key: str, modes: Modes) -> Path | None:
    """Remove the file and the folders that this empties; return the folder to be synced, None if it was not there."""
    try:
        with locked(root, key, modes):
            path.unlink()
    except OSError as error:
        absent = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
        if error.errno in absent or path.is_dir():
            return None
        raise
    folder = path.parent
    with suppress(OSError):  # not empty: other objects are there
        while folder != root:
            folder.rmdir()
            folder = folder.parent
    return folder


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; a folder that has gone meanwhile needs nothing."""
    with suppress(FileNotFoundError):
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def sweep(root: Path, now: float) -> None:
    """Remove temporary files whose writers died long ago."""
    with suppress(FileNotFoundError), os.scandir(root / RESERVED / "tmp") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process sweeps too
                if now - entry.stat().st_mtime > STALE_SECONDS:
                    Path(entry.path).unlink()
