from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading

import pytest

from buffetstore.errors import NotFoundError, UnsupportedOperationError
from buffetstore.sync.loop import LoopThread


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "buffetstore-sync"]


@pytest.fixture
def loop_thread():
    leased = LoopThread()
    leased.lease()
    yield leased
    leased.release()
    assert threads() == []


async def name_of_thread() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_answers_come_from_another_thread_and_errors_as_they_are(loop_thread: LoopThread) -> None:
    async def fail() -> None:
        raise NotFoundError("not there")

    assert loop_thread.run(name_of_thread()) == "buffetstore-sync"
    with pytest.raises(NotFoundError, match="not there"):
        loop_thread.run(fail())


def test_the_thread_lives_as_long_as_the_last_lease() -> None:
    leased = LoopThread()
    assert threads() == []
    leased.lease()
    leased.lease()
    leased.release()
    assert leased.run(name_of_thread()) == "buffetstore-sync"
    leased.release()
    assert threads() == []
    leased.lease()
    assert leased.run(name_of_thread()) == "buffetstore-sync"
    leased.release()


def test_many_threads_ask_at_once(loop_thread: LoopThread) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0.001)
        return 2 * number

    found: dict[int, int] = {}
    askers = [
        threading.Thread(target=lambda n=number: found.update({n: loop_thread.run(double(n))})) for number in range(20)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert found == {number: 2 * number for number in range(20)}


def test_the_callers_context_comes_along(loop_thread: LoopThread) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")

    async def seen() -> str:
        return request.get()

    request.set("42")
    assert loop_thread.run(seen()) == "42"


def test_a_call_from_the_loops_own_thread_is_refused_instead_of_hanging(loop_thread: LoopThread) -> None:
    async def nested() -> None:
        loop_thread.run(name_of_thread())

    with pytest.raises(UnsupportedOperationError, match="await the async manager"):
        loop_thread.run(nested())


def test_without_a_lease_nothing_runs() -> None:
    with pytest.raises(UnsupportedOperationError):
        LoopThread().run(name_of_thread())


def test_closing_elsewhere_does_not_leave_a_caller_waiting() -> None:
    leased = LoopThread()
    leased.lease()
    waiting = threading.Event()
    outcome: list[BaseException] = []

    async def forever() -> None:
        waiting.set()
        await asyncio.Event().wait()

    def ask() -> None:
        try:
            leased.run(forever())
        except asyncio.CancelledError as error:
            outcome.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    waiting.wait()
    leased.release()
    asker.join()
    assert [type(error) for error in outcome] == [asyncio.CancelledError]


INTERRUPTED = """
import asyncio, os, signal, sys, threading
from buffetstore.sync.loop import LoopThread

async def work():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleared up", flush=True)

loop = LoopThread()
loop.lease()
try:
    loop.run(work())
except KeyboardInterrupt:
    print("interrupted", flush=True)
loop.release()
"""


def test_ctrl_c_cancels_the_call_and_waits_until_it_has_cleared_up() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split("\n")[:2] == ["cleared up", "interrupted"]


IN_A_RUNNING_LOOP = """
import asyncio
from buffetstore.sync.loop import LoopThread

async def answer():
    await asyncio.sleep(0)
    return 42

async def cell():
    loop = LoopThread()
    loop.lease()
    print(loop.run(answer()))
    loop.release()

asyncio.run(cell())
"""


def test_inside_a_running_loop_as_in_jupyter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_RUNNING_LOOP], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "42"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_is_told_to_open_its_own() -> None:
    code = """
import asyncio, os
from buffetstore.errors import UnsupportedOperationError
from buffetstore.sync.loop import LoopThread
async def answer():
    return 42
loop = LoopThread()
loop.lease()
child = os.fork()
if child == 0:
    try:
        loop.run(answer())
    except UnsupportedOperationError as error:
        assert "fork" in str(error)
        loop.lease()
        os._exit(loop.run(answer()))
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
loop.release()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "42"


def test_an_exception_that_interrupts_the_waiting_thread_is_the_one_that_is_raised(
    loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = threading.Event()

    def alarm(_number: int, _frame: object) -> None:
        raise TimeoutError("the caller's own alarm")

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(TimeoutError, match="own alarm"):
            loop_thread.run(forever())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert cancelled.is_set()


def test_an_interruption_before_the_start_closes_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may strike while the call is being handed over: it must neither hang nor leave the call running."""
    loop = LoopThread()
    loop.lease()
    hand_over, ran = loop._loop.call_soon_threadsafe, []

    def interrupted(callback, *args, **kwargs):
        monkeypatch.setattr(loop._loop, "call_soon_threadsafe", hand_over)
        raise KeyboardInterrupt

    async def work() -> None:
        ran.append(True)

    monkeypatch.setattr(loop._loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run(work())
    loop.release()
    assert ran == []
