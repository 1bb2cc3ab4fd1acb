"""CPU and disk work off the event loop, in two bounded pools of threads."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from buffetstore.resilience.concurrency import unhurried

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _cpu_pool() -> ThreadPoolExecutor:
    # No more threads than cores: further ones would only queue for the interpreter lock before the event loop.
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="buffetstore-cpu")


@cache
def _disk_pool() -> ThreadPoolExecutor:
    # These wait for the disk, mostly for fsync.
    return ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 8, thread_name_prefix="buffetstore-disk")


if hasattr(os, "register_at_fork"):  # a forked child has the pools but not their threads
    os.register_at_fork(after_in_child=_cpu_pool.cache_clear)
    os.register_at_fork(after_in_child=_disk_pool.cache_clear)


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function`, which computes, in a thread and return its answer.

    A thread cannot be stopped half way: when the caller is cancelled, the work is awaited to its end first and
    only then is `CancelledError` raised, so that nothing lands after the caller has gone on.
    """
    return await unhurried(asyncio.get_running_loop().run_in_executor(_cpu_pool(), partial(function, *args, **kwargs)))


async def in_disk_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function`, which waits for the disk, in a thread; as `in_thread` does."""
    return await unhurried(asyncio.get_running_loop().run_in_executor(_disk_pool(), partial(function, *args, **kwargs)))


def give_way() -> None:
    """Let another thread run, the event loop's above all; on the loop itself, which may not sleep, do nothing."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001 the public one raises instead of answering
        time.sleep(0)
