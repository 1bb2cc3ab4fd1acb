"""Listing a remote folder tree in the order of its keys."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.objects.keys import is_folder, is_key
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from buffetstore.objects.fsspec.files import Files, Status

RESERVED = ".buffetstore"  # how the names of our temporary files begin
STALE_SECONDS = 7 * 24 * 3600.0  # every part moves an upload's time, so an older file has no writer
_AT_ONCE = 8

Found = tuple[str, "Status"]


class Walk:
    """The objects below `root`, a path without a `/` at its end.

    Temporary files are not objects; those whose writers died long ago are removed when they are met.
    """

    def __init__(self, files: Files, root: str, *, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._root = root
        self._clock = clock

    async def objects(self, prefix: str, after: str) -> AsyncIterator[Found]:
        """Yield each object whose key starts with `prefix` and sorts after `after`, in order of key."""
        folder = prefix[: prefix.rfind("/") + 1]
        if is_folder(folder):
            async for found in self._below(folder, prefix, after):
                yield found

    async def level(self, prefix: str) -> tuple[list[Found], list[str]]:
        """Return the objects directly under `prefix`, and the deeper prefixes that hold any."""
        if not is_folder(prefix):
            return [], []
        found = await self._entries(prefix)
        folders = [key for key, _ in found if key.endswith("/")]
        held = await gather([partial(self._holds_any, key) for key in folders], limit=_AT_ONCE)
        objects = [(key, status) for key, status in found if status.kind == "file"]
        return objects, [key for key, is_held in zip(folders, held, strict=True) if is_held]

    async def _below(self, folder: str, prefix: str, after: str) -> AsyncIterator[Found]:
        for key, status in await self._entries(folder):
            if not key.startswith(prefix):
                continue
            if key.endswith("/"):
                # All keys of a folder that sorts before `after`, and is no prefix of it, sort before it too.
                if key > after or after.startswith(key):
                    async for found in self._below(key, prefix, after):
                        yield found
            elif key > after and status.kind == "file":
                yield key, status

    async def _holds_any(self, folder: str) -> bool:
        async for _ in self._below(folder, folder, ""):
            return True
        return False

    async def _entries(self, folder: str) -> list[Found]:
        """Return keys (a folder's with a `/`, which puts it where its keys belong) in code point order, as UTF-8."""
        path = f"{self._root}/{folder}".rstrip("/") or "/"
        try:
            entries = await self._files.entries(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        for name, status in entries:
            await self._sweep(f"{path.rstrip('/')}/{name}", name, status)
        found = [(folder + name, status) for name, status in entries if _is_name(name)]
        return sorted(
            ((key + "/" if status.kind == "folder" else key, status) for key, status in found),
            key=lambda item: item[0],
        )

    async def _sweep(self, path: str, name: str, status: Status) -> None:
        if name.startswith(f"{RESERVED}-") and self._clock() - status.modified.timestamp() > STALE_SECONDS:
            with suppress(OSError):  # it may be another's to remove, or be gone
                await self._files.remove(path)


def _is_name(name: str) -> bool:
    """Return whether a file of this name can be an object: others put by hand are not listed."""
    return not name.startswith(RESERVED) and "/" not in name and is_key(name)
