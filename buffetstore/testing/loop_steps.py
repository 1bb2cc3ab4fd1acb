"""How long the event loop is kept by one step of a task: what everybody else who uses the loop has to wait for."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Steps:
    """What the steps took of the loop's own thread, in seconds of CPU: other threads and the machine do not matter."""

    longest: float = 0.0
    total: float = 0.0


@contextmanager
def loop_steps() -> Iterator[Steps]:
    """Measure every step that any loop takes until the end of the block."""
    found = Steps()
    plain = asyncio.Handle._run  # noqa: SLF001 - there is no public place that sees every step

    def run(handle: asyncio.Handle) -> None:
        started = time.thread_time()
        try:
            plain(handle)
        finally:
            took = time.thread_time() - started
            found.total += took
            found.longest = max(found.longest, took)

    asyncio.Handle._run = run  # type: ignore[method-assign,assignment] # noqa: SLF001
    try:
        yield found
    finally:
        asyncio.Handle._run = plain  # type: ignore[method-assign] # noqa: SLF001
