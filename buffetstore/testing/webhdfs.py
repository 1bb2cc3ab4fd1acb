"""A WebHDFS server in memory, after Apache Hadoop's "WebHDFS REST API": enough of it to keep objects in.

One server plays the namenode and the datanode: OPEN and CREATE answer 307 to a second address, as Hadoop does. Errors
are RemoteException in JSON. RENAME answers a boolean, false where the target is taken, and moves into a target that is
a folder; with ``renameoptions`` (the namenode's own parameter, which HttpFS lacks) it is HDFS's `rename2`, which
answers nothing and overwrites in one step if asked to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

MAX_NAME = 255
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404


@dataclass(slots=True)
class Node:
    """A file, or a folder if it has no bytes."""

    id: int
    data: bytes | None = None
    modified: int = field(default_factory=lambda: time.time_ns() // 1_000_000)


class RemoteError(Exception):
    """What Hadoop answers instead."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.name = name


@dataclass(slots=True)
class WebHDFSServer:
    """The files, by absolute path, and what a test may set.

    Parameters
    ----------
    is_gateway:
        Behave as HttpFS: no ``renameoptions``, no file ids.
    token:
        The delegation token that every request must carry.
    faults:
        Called with each request before it is served; may answer in its place, wait, or raise.
    """

    is_gateway: bool = False
    token: str | None = None
    faults: list[Callable[[web.Request], Awaitable[web.StreamResponse | None]]] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=lambda: {"/": Node(16385)})
    port: int = 0
    log: list[str] = field(default_factory=list)
    _last_id: int = 16385

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        op = request.query.get("op", "").upper()
        self.log.append(f"{request.method} {op} {request.path}")
        for fault in self.faults:
            answer = await fault(request)
            if answer is not None:
                return answer
        operations: dict[tuple[str, str], Callable[[web.Request, str], Awaitable[web.StreamResponse]]] = {
            ("GET", "GETFILESTATUS"): self._status,
            ("GET", "LISTSTATUS"): self._list,
            ("GET", "OPEN"): self._open,
            ("PUT", "CREATE"): self._create,
            ("PUT", "MKDIRS"): self._mkdirs,
            ("PUT", "RENAME"): self._rename,
            ("DELETE", "DELETE"): self._delete,
        }
        try:
            self._check_token(request)
            path = self._path(request)
            operation = operations.get((request.method, op), self._refuse)
            return await operation(request, path)
        except RemoteError as error:
            said = {"exception": error.name, "javaClassName": f"org.apache.{error.name}", "message": str(error)}
            return web.json_response({"RemoteException": said}, status=error.status)

    async def _refuse(self, request: web.Request, _: str) -> web.StreamResponse:
        op = request.query.get("op")
        raise RemoteError(_BAD_REQUEST, "UnsupportedOperationException", f"{op} is not supported")

    def _check_token(self, request: web.Request) -> None:
        if self.token is not None and request.query.get("delegation") != self.token:
            raise RemoteError(_UNAUTHORIZED, "SecurityException", "Failed to obtain user group information")

    def _path(self, request: web.Request) -> str:
        path = "/" + request.match_info["path"].strip("/")
        if any(segment in {".", ".."} for segment in path.split("/")):
            raise RemoteError(_BAD_REQUEST, "InvalidPathException", f"Invalid path name {path}")
        return path

    def _node(self, path: str) -> Node:
        self._check_parents(path)
        if path not in self.nodes:
            raise RemoteError(_NOT_FOUND, "FileNotFoundException", f"File does not exist: {path}")
        return self.nodes[path]

    def _check_parents(self, path: str) -> None:
        for parent in parents(path):
            node = self.nodes.get(parent)
            if node is not None and node.data is not None:
                message = f"{parent} (is not a directory)"
                raise RemoteError(_FORBIDDEN, "ParentNotDirectoryException", message)

    def _told(self, path: str, suffix: str) -> dict[str, Any]:
        node = self.nodes[path]
        told = {
            "accessTime": 0, "blockSize": 134217728, "group": "supergroup", "length": len(node.data or b""),
            "modificationTime": node.modified, "owner": "dr.who", "pathSuffix": suffix, "permission": "644",
            "replication": 1, "type": "DIRECTORY" if node.data is None else "FILE",
        }  # fmt: skip
        return told if self.is_gateway else told | {"fileId": node.id, "childrenNum": 0, "storagePolicy": 0}

    def _children(self, path: str) -> list[str]:
        start = path.rstrip("/") + "/"
        return sorted(name for name in self.nodes if name.startswith(start) and "/" not in name[len(start) :] != "")

    async def _status(self, _: web.Request, path: str) -> web.StreamResponse:
        self._node(path)
        return web.json_response({"FileStatus": self._told(path, "")})

    async def _list(self, _: web.Request, path: str) -> web.StreamResponse:
        if self._node(path).data is not None:
            found = [self._told(path, "")]
        else:
            found = [self._told(child, child.rpartition("/")[2]) for child in self._children(path)]
        return web.json_response({"FileStatuses": {"FileStatus": found}})

    async def _open(self, request: web.Request, path: str) -> web.StreamResponse:
        data = self._node(path).data
        if data is None:
            raise RemoteError(_NOT_FOUND, "FileNotFoundException", f"Path is not a file: {path}")
        offset = int(request.query.get("offset", 0))
        if offset > len(data):
            raise RemoteError(_FORBIDDEN, "IOException", f"Offset={offset} out of the range [0, {len(data)})")
        if not self._is_second_step(request):
            return self._redirect(request)
        length = int(request.query.get("length", len(data)))
        return web.Response(body=data[offset : offset + length], content_type="application/octet-stream")

    async def _create(self, request: web.Request, path: str) -> web.StreamResponse:
        self._check_parents(path)
        self._check_name(path)
        if not self._is_second_step(request):
            self._check_free(request, path)
            return self._redirect(request)
        data = await request.read()
        self._check_free(request, path)
        self._make_parents(path)
        self.nodes[path] = Node(self._new_id(), data)
        return web.Response(status=201, headers={"Location": f"webhdfs://127.0.0.1:{self.port}{path}"})

    def _check_free(self, request: web.Request, path: str) -> None:
        node = self.nodes.get(path)
        if node is None:
            return
        if node.data is None:
            raise RemoteError(_FORBIDDEN, "FileAlreadyExistsException", f"{path} already exists as a directory")
        if request.query.get("overwrite", "false") != "true":
            raise RemoteError(_FORBIDDEN, "FileAlreadyExistsException", f"{path} for client already exists")

    async def _mkdirs(self, _: web.Request, path: str) -> web.StreamResponse:
        self._check_parents(path)
        self._check_name(path)
        if path in self.nodes and self.nodes[path].data is not None:
            raise RemoteError(_FORBIDDEN, "FileAlreadyExistsException", f"Path is not a directory: {path}")
        self._make_parents(path)
        self.nodes.setdefault(path, Node(self._new_id()))
        return web.json_response({"boolean": True})

    async def _rename(self, request: web.Request, source: str) -> web.StreamResponse:
        target = request.query["destination"]
        self._check_name(target)
        option = "" if self.is_gateway else request.query.get("renameoptions", "").upper()
        if not option:
            return web.json_response({"boolean": self._renamed(source, target)})
        node = self._node(source)
        self._check_parents(target)
        there = self.nodes.get(target)
        if there is not None and (there.data is None) != (node.data is None):
            raise RemoteError(_FORBIDDEN, "IOException", f"Source {source} is a file and destination {target} is not")
        if there is not None and option != "OVERWRITE":
            raise RemoteError(_FORBIDDEN, "FileAlreadyExistsException", f"rename destination {target} already exists")
        if parents(target)[0] not in self.nodes:
            raise RemoteError(_NOT_FOUND, "FileNotFoundException", f"rename destination parent {target} not found.")
        self.nodes[target] = self.nodes.pop(source)
        return web.Response(status=200, content_type="application/octet-stream")

    def _renamed(self, source: str, target: str) -> bool:
        """Rename in the old way, which says only whether it did."""
        there = self.nodes.get(target)
        if there is not None and there.data is None:
            target = f"{target}/{source.rpartition('/')[2]}"
        if source not in self.nodes or target in self.nodes or parents(target)[0] not in self.nodes:
            return False
        self.nodes[target] = self.nodes.pop(source)
        return True

    async def _delete(self, request: web.Request, path: str) -> web.StreamResponse:
        if path not in self.nodes:
            return web.json_response({"boolean": False})
        below = [name for name in self.nodes if name.startswith(path.rstrip("/") + "/") and name != "/"]
        if below and request.query.get("recursive", "false") != "true":
            raise RemoteError(_FORBIDDEN, "PathIsNotEmptyDirectoryException", f"`{path} is non empty'")
        for name in [*below, path]:
            del self.nodes[name]
        return web.json_response({"boolean": True})

    def _check_name(self, path: str) -> None:
        longest = max(len(segment.encode()) for segment in path.split("/"))
        if longest > MAX_NAME:
            message = f"The maximum path component name limit is exceeded: limit={MAX_NAME} length={longest}"
            raise RemoteError(_FORBIDDEN, "FSLimitException$PathComponentTooLongException", message)

    def _make_parents(self, path: str) -> None:
        for parent in parents(path):
            self.nodes.setdefault(parent, Node(self._new_id()))

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _is_second_step(self, request: web.Request) -> bool:
        return "datanode" in request.query

    def _redirect(self, request: web.Request) -> web.Response:
        location = request.url.update_query(datanode="true", namenoderpcaddress="127.0.0.1:8020")
        return web.Response(status=307, headers={"Location": str(location)})


def parents(path: str) -> list[str]:
    """Return the folders above `path`, the nearest first."""
    above = []
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        above.append(path)
    return above


@contextmanager
def serve_in_thread(*, is_gateway: bool = False, token: str | None = None) -> Iterator[WebHDFSServer]:
    """Run a server on a port of the system's choice, on a loop of its own thread."""
    server = WebHDFSServer(is_gateway=is_gateway, token=token)
    started, loop, finished = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        application = web.Application(client_max_size=1024**3)
        application.router.add_route("*", "/webhdfs/v1{path:.*}", server.handle)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        started.set()
        await finished.wait()
        await runner.cleanup()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=run, name="webhdfs-server", daemon=True)
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(finished.set)
        thread.join()
