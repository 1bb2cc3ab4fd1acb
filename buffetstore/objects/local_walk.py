"""Listing a folder tree in the order of its keys: blocking generators, run in threads."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from buffetstore.objects.keys import is_folder, is_key
from buffetstore.objects.local_files import RESERVED, missing_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Found = tuple[str, os.stat_result]


def walk(root: Path, prefix: str, after: str, *, create: bool) -> Iterator[Found]:
    """Yield key and status of each file whose key starts with `prefix` and sorts after `after`, in order of key."""
    folder = prefix[: prefix.rfind("/") + 1]
    if is_folder(folder):
        yield from _below(root, folder, prefix, after)
    if not create and not root.is_dir():
        raise missing_root(root)


def _below(root: Path, folder: str, prefix: str, after: str) -> Iterator[Found]:
    for key, entry in _entries(root, folder):
        if not key.startswith(prefix):
            continue
        if key.endswith("/"):
            # All keys of a folder that sorts before `after`, and is no prefix of it, sort before it too.
            if key > after or after.startswith(key):
                yield from _below(root, key, prefix, after)
        elif key > after and (status := _status(entry)) is not None:
            yield key, status


def level(root: Path, prefix: str, *, create: bool) -> tuple[list[Found], list[str]]:
    """Return the files directly under `prefix`, and the deeper prefixes that hold any."""
    objects: list[Found] = []
    prefixes: list[str] = []
    if is_folder(prefix):
        for key, entry in _entries(root, prefix):
            if key.endswith("/"):
                if next(_below(root, key, key, ""), None) is not None:
                    prefixes.append(key)
            elif (status := _status(entry)) is not None:
                objects.append((key, status))
    if not create and not root.is_dir():
        raise missing_root(root)
    return objects, prefixes


def _entries(root: Path, folder: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Return keys (a folder's with a `/`, which puts it where its keys belong) in code point order, as UTF-8 sorts."""
    try:
        with os.scandir(root / folder) as entries:
            found = [(folder + entry.name, entry) for entry in entries if _is_name(entry.name)]
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ}:
            return []
        raise
    return sorted(
        ((key + "/" if entry.is_dir(follow_symlinks=False) else key, entry) for key, entry in found),
        key=lambda item: item[0],
    )


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat() if entry.is_file() else None
    except FileNotFoundError:  # deleted while we looked
        return None


def _is_name(name: str) -> bool:
    """Return whether a file of this name can be an object: others put by hand are not listed."""
    return name != RESERVED and is_key(name)
