"""HDFS by WebHDFS or HttpFS: its rename is the step that gives a finished file its name.

fsspec's `WebHDFS` holds the session, the credentials and the proxies; the requests are our own, as fsspec's tell
neither what a rename answered nor which exception the server raised, and have no timeouts.
"""

# ruff: noqa: D102 - the docstrings are those of `Files`

from __future__ import annotations

import errno
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter

from buffetstore.errors import AuthenticationError, RateLimitedError, StorageError, UnsupportedOperationError
from buffetstore.objects.fsspec.errors import LostAnswerError
from buffetstore.objects.fsspec.files import Guarantees, Reader, Status
from buffetstore.objects.fsspec.generic import FsspecFiles, PathReader
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsspec.implementations.webhdfs import WebHDFS  # type: ignore[import-untyped]

    from buffetstore.objects.fsspec.spool import Spool

_NUMBERS = {
    "FileNotFoundException": errno.ENOENT,
    "FileAlreadyExistsException": errno.EEXIST,
    "AccessControlException": errno.EACCES,
    "AuthorizationException": errno.EACCES,
    "ParentNotDirectoryException": errno.ENOTDIR,
    "PathIsNotDirectoryException": errno.ENOTDIR,
    "PathIsNotEmptyDirectoryException": errno.ENOTEMPTY,
    "NSQuotaExceededException": errno.EDQUOT,
    "DSQuotaExceededException": errno.EDQUOT,
    "QuotaExceededException": errno.EDQUOT,
    "PathComponentTooLongException": errno.ENAMETOOLONG,
    "FSLimitException$PathComponentTooLongException": errno.ENAMETOOLONG,
    "InvalidPathException": errno.EINVAL,
    "IllegalArgumentException": errno.EINVAL,
    "UnsupportedOperationException": errno.ENOTSUP,
}
_CREDENTIALS = {"SecurityException", "InvalidToken", "AuthenticationException", "SecretManager$InvalidToken"}
_NO_REPLACE = "the server has no replacing rename (`renameoptions`, which HttpFS lacks)"
_NO_IDS = "the server tells no file ids, so versions are made of times in milliseconds"
_KINDS = {"FILE": "file", "DIRECTORY": "folder"}


class WebHDFSFiles(FsspecFiles):
    """The files of an HDFS.

    * `create` is RENAME, which fails if the name is taken.
    * `replace` is RENAME with ``renameoptions=OVERWRITE``, HDFS's own atomic replacement: namenodes take it, HttpFS
      ignores it and leaves a name that is taken as it is; then replacing is refused.
    * A version is the file's id, which HDFS never gives twice, with its time and size.
    """

    def __init__(self, fs: WebHDFS, *, timeout_seconds: float, max_connections: int) -> None:
        super().__init__(fs)
        self.fs: Any = fs
        self._timeout = timeout_seconds
        self._guarantees = Guarantees()
        for scheme in ("http://", "https://"):
            fs.session.mount(scheme, HTTPAdapter(pool_maxsize=max_connections, max_retries=0))

    @property
    def guarantees(self) -> Guarantees:
        return self._guarantees

    async def status(self, path: str) -> Status:
        return self._told((await self._ask("GETFILESTATUS", "GET", path))["FileStatus"])

    async def entries(self, folder: str) -> Sequence[tuple[str, Status]]:
        answer = await self._ask("LISTSTATUS", "GET", folder)
        found = [(entry["pathSuffix"], self._told(entry)) for entry in answer["FileStatuses"]["FileStatus"]]
        if [name for name, _ in found] == [""]:
            raise NotADirectoryError(errno.ENOTDIR, "is a file", folder)
        return found

    async def reader(self, path: str) -> Reader:
        return PathReader(self, path, await self.status(path))

    async def read(self, path: str, start: int, end: int) -> bytes:
        def read() -> bytes:
            answer = self._send("GET", path, op="OPEN", offset=start, length=end - start)
            if answer.is_redirect:
                answer = self._follow("GET", answer, path)
            return answer.content

        return await in_disk_thread(read)

    async def send(self, spool: Spool, path: str) -> Status | None:
        def send() -> None:
            answer = self._send("PUT", path, op="CREATE", overwrite="true")
            if spool.name is None:
                self._follow("PUT", answer, path, bytes(spool.held))
            else:
                with Path(spool.name).open("rb") as file:
                    self._follow("PUT", answer, path, file)

        await in_disk_thread(send)
        return await self.status(path)

    async def create(self, source: str, target: str) -> None:
        await self._rename(source, target, "NONE")

    async def replace(self, source: str, target: str) -> None:
        await self._rename(source, target, "OVERWRITE")

    async def make_folder(self, path: str) -> None:
        if not (await self._ask("MKDIRS", "PUT", path)).get("boolean"):
            raise FileExistsError(errno.EEXIST, "cannot be made", path)

    async def remove(self, path: str) -> None:
        # Not recursive, but an empty folder would go as well as a file.
        if (await self.status(path)).kind == "folder":
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        if not (await self._ask("DELETE", "DELETE", path, recursive="false")).get("boolean"):
            raise FileNotFoundError(errno.ENOENT, "is not there", path)

    async def remove_folder(self, path: str) -> None:
        await self._ask("DELETE", "DELETE", path, recursive="false")

    async def aclose(self) -> None:
        await in_disk_thread(self.fs.session.close)

    async def _rename(self, source: str, target: str, option: str) -> None:
        try:
            answer = await self._ask("RENAME", "PUT", source, destination=target, renameoptions=option)
        except OSError as error:
            # The server's word for a folder in the way is that of any failure.
            if error.errno in {errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY} and await self._is_there(
                target
            ):
                raise FileExistsError(errno.EEXIST, "the name is taken", target) from error
            raise
        if "boolean" not in answer:
            return  # a namenode, which took the option
        self._note(replace="unknown", reason=_NO_REPLACE)
        if answer["boolean"]:
            await self._leave_folder(source, target)
        elif not await self._is_there(source):
            raise FileNotFoundError(errno.ENOENT, "is not there", source)
        elif option == "NONE" or (await self.status(target)).kind == "folder":
            raise FileExistsError(errno.EEXIST, "the name is taken", target)
        else:
            raise OSError(errno.ENOTSUP, f"{_NO_REPLACE}, so an object cannot be replaced: delete it first", target)

    async def _leave_folder(self, source: str, target: str) -> None:
        """Take the file back if the old rename has moved it into a folder called `target`."""
        if (await self.status(target)).kind == "folder":
            with suppress(FileNotFoundError):
                await self.remove(f"{target}/{source.rpartition('/')[2]}")
            raise OSError(errno.ENOTEMPTY, "is a folder", target)

    async def _is_there(self, path: str) -> bool:
        try:
            await self.status(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _told(self, status: dict[str, Any]) -> Status:
        if not status.get("fileId"):
            self._note(unique_versions=False, reason=_NO_IDS)
        version = f"{status.get('fileId') or 0:x}-{status['modificationTime']:x}-{status['length']:x}"
        modified = datetime.fromtimestamp(status["modificationTime"] / 1000, UTC)
        return Status(_KINDS.get(status["type"], "other"), status["length"], modified, version)  # type: ignore[arg-type]

    def _note(self, *, reason: str, replace: str = "", unique_versions: bool = True) -> None:
        known = self._guarantees
        if reason not in known.reason:
            self._guarantees = Guarantees(
                replace=replace or known.replace,  # type: ignore[arg-type]
                unique_versions=known.unique_versions and unique_versions,
                reason="; ".join(filter(None, [known.reason, reason])),
            )

    async def _ask(self, op: str, method: str, path: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer's JSON, nothing of an empty one."""

        def ask() -> dict[str, Any]:
            answer = self._send(method, path, op=op, **parameters)
            return answer.json() if answer.content else {}

        return await in_disk_thread(ask)

    # What follows blocks, and runs in threads.

    def _send(self, method: str, path: str, **parameters: Any) -> requests.Response:
        url = self.fs._apply_proxy(self.fs.url + quote(path, safe="/="))  # noqa: SLF001 - what a subclass would use
        return self._checked(method, url, path, params={**parameters, **self.fs.pars})

    def _follow(self, method: str, answer: requests.Response, path: str, data: Any = None) -> requests.Response:
        """Send the second step to the datanode that the first one named."""
        location = answer.headers.get("Location")
        if location is None:
            raise OSError(errno.EIO, f"the server answers {answer.status_code} and names no datanode", path)
        headers = {"Content-Type": "application/octet-stream"} if method == "PUT" else {}
        return self._checked(method, self.fs._apply_proxy(location), path, data=data, headers=headers)  # noqa: SLF001

    def _checked(self, method: str, url: str, path: str, **options: Any) -> requests.Response:
        timeout = (self._timeout, self._timeout)
        try:
            answer: requests.Response = self.fs.session.request(
                method, url, allow_redirects=False, timeout=timeout, **options
            )
        except requests.Timeout:
            # Without its cause, here and below: that prints the URL, which may hold a delegation token.
            raise TimeoutError(errno.ETIMEDOUT, f"no answer within {self._timeout} s") from None
        except requests.RequestException as error:
            raise ConnectionResetError(errno.ECONNRESET, f"no answer: {type(error).__name__}") from None
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise _failure(answer, path)
        return answer


def _failure(answer: requests.Response, path: str) -> OSError | StorageError:
    try:
        said = answer.json()["RemoteException"]
        name, message = said["exception"], said["message"].partition("\n")[0]
    except (ValueError, KeyError, TypeError):
        name, message = "", f"HTTP {answer.status_code}"
    if answer.status_code == HTTPStatus.UNAUTHORIZED or name in _CREDENTIALS:
        return AuthenticationError(
            f"{path!r}: the server refuses the credentials ({message}): check user, password, token or kerberos",
            key=path,
        )
    if name in _NUMBERS:
        return OSError(_NUMBERS[name], message, path)
    if name:
        return OSError(errno.EIO, message)
    return _unnamed(answer, path)


def _unnamed(answer: requests.Response, path: str) -> OSError | StorageError:
    """Return the error for an answer that is not Hadoop's, but that of something before it."""
    message, wait = f"HTTP {answer.status_code}", answer.headers.get("Retry-After", "")
    retry_after = float(wait) if wait.isdecimal() else None
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(f"{path!r}: the server asks for fewer requests", key=path, retry_after=retry_after)
    if answer.status_code == HTTPStatus.FORBIDDEN:
        return OSError(errno.EACCES, message, path)
    if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status_code != HTTPStatus.REQUEST_TIMEOUT:
        return UnsupportedOperationError(f"{path!r}: {message}, which is no answer of WebHDFS: check host and port")
    return LostAnswerError(message, retry_after)  # nobody knows what was done
