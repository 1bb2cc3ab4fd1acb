"""CPU and disk work off the event loop, in one bounded pool of threads."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _pool() -> ThreadPoolExecutor:
    # Encode, hash and disk calls release the GIL, so a few more threads than cores keep cores and disk busy.
    return ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 4, thread_name_prefix="buffetstore")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in the pool and return its answer.

    A thread cannot be stopped half way: when the caller is cancelled, the work is awaited to its end first and
    only then is `CancelledError` raised, so that nothing lands after the caller has gone on.
    """
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(_pool(), partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            future.exception()
        raise
