"""How file systems give a finished file its name: the one thing that fsspec has no word for."""

from __future__ import annotations

import errno
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buffetstore.objects.fsspec.files import Guarantees

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

    Step = Callable[[Any, str, str], Any]

_UNKNOWN = "fsspec has no step that gives a file its name only if that is free, and none is known of this file system"

_NOTHING = Guarantees(create=False, replace="unknown", unique_versions=False, reason=_UNKNOWN)


@dataclass(frozen=True, slots=True)
class Primitives:
    """Steps of one kind of file system: called with it, the finished file and the name to be.

    They block, and run in threads; those of a file system made with ``asynchronous=True`` are coroutine functions.

    Parameters
    ----------
    create:
        Fails with `FileExistsError` if the name is taken, in one step; the old name is gone afterwards.
    replace:
        Takes the name from a file that has it. None: fsspec's `mv`, or copy and remove.
    seal:
        Called before either with the finished file twice: makes its version like no other's.
    keeps_status:
        A file's `info` stays the same under another name.
    guarantees:
        What all this comes to.
    """

    create: Step | None = None
    replace: Step | None = None
    seal: Step | None = None
    keeps_status: bool = False
    guarantees: Guarantees = _NOTHING


def _local_create(_fs: AbstractFileSystem, source: str, target: str) -> None:
    os.link(source, target)
    os.unlink(source)  # noqa: PTH108 - names of fsspec are strings


def _local_replace(_fs: AbstractFileSystem, source: str, target: str) -> None:
    os.replace(source, target)  # noqa: PTH105


def _local_seal(_fs: AbstractFileSystem, source: str, _: str) -> None:
    # As `LocalStore` does: two writes within one tick of the clock would else have one version.
    tick = time.time_ns() // 1_000_000 * 1_000_000 + secrets.randbelow(1_000_000)
    os.utime(source, ns=(tick, tick))


def _memory_create(fs: Any, source: str, target: str) -> None:
    if target in fs.pseudo_dirs or fs.store.setdefault(target, fs.store[source]) is not fs.store[source]:
        raise FileExistsError(errno.EEXIST, "the name is taken", target)
    del fs.store[source]


def _memory_replace(fs: Any, source: str, target: str) -> None:
    fs.store[target] = fs.store.pop(source)


PRIMITIVES = {
    "file": Primitives(
        _local_create, _local_replace, _local_seal, keeps_status=True,
        guarantees=Guarantees(unique_versions=False, reason="versions are made of times, as exact as floats are"),
    ),
    "memory": Primitives(
        _memory_create, _memory_replace, keeps_status=True,
        guarantees=Guarantees(unique_versions=False, reason="versions are made of times"),
    ),
}  # fmt: skip


def primitives_of(fs: AbstractFileSystem) -> Primitives:
    """Return those of the table for the file system's protocol; none where it is not in it."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if getattr(fs, "asynchronous", False):
        return Primitives()
    return next((PRIMITIVES[name] for name in protocols if name in PRIMITIVES), Primitives())
