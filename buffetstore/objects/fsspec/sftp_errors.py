"""What an SFTP server or its connection says, as the operating system's errors."""

from __future__ import annotations

import errno
import os

import asyncssh
from asyncssh import sftp

from buffetstore.errors import AuthenticationError, ConfigurationError, StorageError, UnavailableError

_NUMBERS: dict[type[sftp.SFTPError], int] = {
    sftp.SFTPNoSuchFile: errno.ENOENT,
    sftp.SFTPNoSuchPath: errno.ENOENT,
    sftp.SFTPPermissionDenied: errno.EACCES,
    sftp.SFTPWriteProtect: errno.EROFS,
    sftp.SFTPCannotDelete: errno.EACCES,
    sftp.SFTPFileAlreadyExists: errno.EEXIST,
    sftp.SFTPNoSpaceOnFilesystem: errno.ENOSPC,
    sftp.SFTPQuotaExceeded: errno.EDQUOT,
    sftp.SFTPDirNotEmpty: errno.ENOTEMPTY,
    sftp.SFTPNotADirectory: errno.ENOTDIR,
    sftp.SFTPFileIsADirectory: errno.EISDIR,
    sftp.SFTPInvalidFilename: errno.EINVAL,
    sftp.SFTPBadMessage: errno.EINVAL,  # what OpenSSH answers to a name that the disk cannot hold
    sftp.SFTPOpUnsupported: errno.ENOTSUP,
    sftp.SFTPConnectionLost: errno.ECONNRESET,
    sftp.SFTPNoConnection: errno.ECONNRESET,
}
# Protocol 3, which nearly all servers speak, has one code for all else; some add the system's own words.
_WORDS = {
    os.strerror(number): number
    for number in (
        errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
        errno.EINVAL, errno.EROFS, errno.EILSEQ, errno.EPERM,
    )
}  # fmt: skip
FAILURES = (asyncssh.Error, OSError)


def translated(error: Exception, path: str) -> OSError:
    """Return the operating system's error for what asyncssh raised about `path`."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, sftp.SFTPError):
        number = _NUMBERS.get(type(error)) or next(
            (number for words, number in _WORDS.items() if words in error.reason), errno.EIO
        )
        return OSError(number, error.reason or os.strerror(number), path)
    reason = getattr(error, "reason", "") or type(error).__name__
    return ConnectionResetError(errno.ECONNRESET, f"the connection broke: {reason}")


def refused(error: Exception, url: str, timeout_seconds: float) -> StorageError:
    """Return our error for a connection that was not made."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return AuthenticationError(
            f"{url}: the host key is not among the known hosts ({error.reason}). Compare it with what the server's "
            "owner says and add it to known_hosts, or name another file by the option known_hosts"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return AuthenticationError(
            f"{url} refuses the login ({error.reason}): check the options username, password and client_keys"
        )
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError | asyncssh.ConfigParseError):
        return ConfigurationError(f"{url}: a key or known_hosts cannot be read: {error}")
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError) and error.filename:
        return ConfigurationError(f"{url}: {error.filename!r} cannot be read: {error.strerror}")
    if isinstance(error, ValueError):
        return ConfigurationError(f"{url}: known_hosts or a key cannot be read: {error}")
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{url} does not answer within {timeout_seconds} s. Check host and port, or try again")
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnavailableError(f"{url} cannot be reached: {reason}. Check host and port, or try again")
