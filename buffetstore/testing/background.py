"""Servers on a loop of their own thread: for clients that block, and for tests each of which has its own loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

T = TypeVar("T")


@contextmanager
def in_background(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter `server` on the loop of a new thread, give what it gives, and leave it there at the end."""
    started = threading.Event()
    entered: list[T] = []
    failures: list[BaseException] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        finished = asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(finished.set))
        async with server as running:
            entered.append(running)
            started.set()
            await finished.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the starter, who raises it
            failures.append(error)
            started.set()

    thread = threading.Thread(target=run, name=type(server).__name__, daemon=True)
    thread.start()
    started.wait()
    if failures:
        raise failures[0]
    try:
        yield entered[0]
    finally:
        stop[0]()
        thread.join()
    if failures:
        raise failures[0]
