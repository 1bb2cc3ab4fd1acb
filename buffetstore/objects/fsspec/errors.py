"""What a file system says, as one of our errors."""

from __future__ import annotations

import errno

from buffetstore.errors import (
    BucketNotFoundError,
    InvalidKeyError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    UnavailableError,
    UnsupportedOperationError,
)

_TAKEN = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


class LostAnswerError(ConnectionAbortedError):
    """The service failed on the way; `retry_after` is how many seconds it asked to wait, where it did."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(errno.ECONNABORTED, reason)
        self.retry_after = retry_after


def mapped(error: OSError, url: str, key: str, *, writing: bool = False, placing: bool = False) -> StorageError:
    """Return our error for what the operating system or the server said about `key`.

    Parameters
    ----------
    writing:
        The call was to write it.
    placing:
        The call was to change what readers see, so that a lost answer leaves it open whether it did.
    """
    where = f"{key!r} in {url}"
    reason = error.strerror or str(error) or type(error).__name__
    number = error.errno
    if isinstance(error, TimeoutError | ConnectionError):
        reason = reason or "no answer"
        wait = error.retry_after if isinstance(error, LostAnswerError) else None
        return UnavailableError(f"{where}: {reason}. Try again", key=key, ambiguous=placing, retry_after=wait)
    if writing and number in _TAKEN:
        return UnsupportedOperationError(
            f"{where} cannot be stored: in a folder one name cannot be both an object and a prefix of others "
            f"({reason}). Choose another key",
            key=key,
        )
    if writing and number in _NAME:
        return InvalidKeyError(f"{where}: this file system cannot hold such a name ({reason})", key=key)
    if writing and number == errno.ENOENT:
        return UnavailableError(f"{where}: the temporary file or a folder was removed meanwhile", key=key)
    if number == errno.ENOENT or number in _TAKEN | _NAME:
        return NotFoundError(f"there is no object {where}", key=key)
    if number in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return PermissionDeniedError(f"{where}: {reason}. Check the rights of the folder", key=key)
    if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageFullError(f"{where}: {reason}. Nothing was written; free some space", key=key)
    if number == errno.ENOTSUP:
        return UnsupportedOperationError(f"{where}: {reason}", key=key)
    return UnavailableError(f"{where}: {reason}", key=key)


def missing_root(url: str, root: str) -> BucketNotFoundError:
    """Return the error of a root folder that is not there."""
    return BucketNotFoundError(f"there is no folder {root!r} at {url}: make it, or open the store with create=True")
