"""One event loop in a thread of its own, for callers that cannot await."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, cast

from buffetstore.errors import UnsupportedOperationError
from buffetstore.resilience.loops import new_event_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

T = TypeVar("T")


class LoopThread:
    """Runs coroutines on its loop and gives their answers to the thread that asks.

    The thread starts when the first lease is taken and ends when the last one is given back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases = 0
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def lease(self) -> None:
        """Keep the loop running until `release`."""
        with self._lock:
            if self._pid != os.getpid():  # a fork copies this object, but not its thread
                self._thread, self._loop, self._leases, self._pid = None, None, 0, os.getpid()
            self._leases += 1
            if self._thread is None:
                self._loop = new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="buffetstore-sync", daemon=True)
                self._thread.start()

    def release(self) -> None:
        """Give a lease back; the last one stops the loop."""
        with self._lock:
            if self._pid != os.getpid():
                return
            self._leases -= 1
            if self._leases:
                return
            thread, loop = self._thread, self._loop
            self._thread = self._loop = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            if thread is not threading.current_thread():
                thread.join()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` to its end and return what it returns.

        Ctrl-C cancels the coroutine, waits until it has cleared up, and raises KeyboardInterrupt; a second one does
        not wait.

        Raises
        ------
        UnsupportedOperationError
            Called from the loop's own thread, or in a process forked after the lease was taken.
        """
        loop = self._loop
        if loop is None or self._pid != os.getpid() or threading.current_thread() is self._thread:
            coroutine.close()
            raise UnsupportedOperationError(
                "a blocking call from inside the loop that would have to answer it: await the async manager instead"
                if threading.current_thread() is self._thread
                else "this manager was opened in another process: open one here, after the fork"
            )
        call = _Call(loop, coroutine)
        try:
            loop.call_soon_threadsafe(call.start)
            return cast("T", call.outcome.result())
        except BaseException:
            if not call.outcome.done():  # not the coroutine's error, but this thread's interruption
                loop.call_soon_threadsafe(call.cancel)
                call.outcome.exception()
            raise

    def leave(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start `coroutine`, do not wait, and give a lease back when it ends: for finalizers, which may not block."""
        loop = self._loop
        if loop is None or self._pid != os.getpid():
            coroutine.close()
            return
        call = _Call(loop, coroutine)
        call.outcome.add_done_callback(lambda _done: self.release())
        loop.call_soon_threadsafe(call.start)


class _Call:
    """One coroutine's way over to the loop and back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.outcome: Future[Any] = Future()
        self._loop = loop
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._coroutine, context=self._context)
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # the interruption came before the start was handed over
            self._coroutine.close()
            self.outcome.set_exception(asyncio.CancelledError())

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.outcome.set_exception(asyncio.CancelledError())
            return
        error = task.exception()
        if error is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        # Whoever closed the last manager while another thread waits for it: that thread gets an answer too.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


LOOP = LoopThread()
"""The process's own; nothing runs until somebody opens a manager."""


def blocking(items: AsyncIterator[T]) -> Iterator[T]:
    """Take from an async iterator, one item at a time; closing this one closes that."""

    async def step() -> tuple[T] | None:
        async for item in items:
            return (item,)
        return None

    async def end() -> None:
        aclose = getattr(items, "aclose", None)
        if aclose is not None:
            await aclose()

    try:
        while (found := LOOP.run(step())) is not None:
            yield found[0]
    finally:
        LOOP.run(end())
