"""Every operation of a table, broken at every step: nothing acknowledged is lost, nothing is there twice.

The outcomes are counted in a table at the end of pytest's output. Run as a script this file is the victim: it does one
operation again and again, each time in a process that kills itself one step later.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from buffetstore.errors import CommitUnknownError, StorageError, UnavailableError
from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.objects.helpers import list_all
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience import threads
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.tables import DeltaTable
from buffetstore.testing import Fault, FaultyStore
from buffetstore.testing.fault_report import PROPERTY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from buffetstore.objects.base import ObjectStore

FULL = bool(os.environ.get("BUFFETSTORE_FULL"))
FEED = {"delta.enableChangeDataFeed": "true"}
# What a feed tells in its own way.
FED = ("append, keyed", "overwrite where", "delete", "upsert", "upsert in pieces", "compact", "restore")
FED_LONG = FED if FULL else ("overwrite where", "upsert in pieces")  # where each case takes many runs
ANSWERS_LOST = ("append, keyed", "appends, grouped", "overwrite where")  # what commits in different ways
FILE_SYSTEM = ("append, keyed", "upsert", "checkpoint")
SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])
BASE = {1: "a", 2: "a", 3: "a", 4: "a", 5: "a"}
HISTORY = [{}, {1: "a", 2: "a", 3: "a"}, BASE]  # what each version of the table holds before an operation


def rows(*keys: int, v: str = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


async def base_table(store: ObjectStore, *, fed: bool = False) -> None:
    """Make versions 0, 1 and 2, of a table with a change feed if `fed`."""
    async with DeltaTable.create(store, "t", SCHEMA, configuration=FEED if fed else None) as table:
        await table.append(rows(1, 2, 3))
        await table.append(rows(4, 5))


@dataclass(frozen=True)
class Case:
    """An operation on the base table, and what the table holds after it.

    Parameters
    ----------
    keyed:
        It carries an idempotency key, so that it may be sent again.
    parts:
        Keys that are written by calls of their own, of which each lands or not.
    commits:
        Whether it makes a version.
    """

    run: Callable[[DeltaTable], Awaitable[Any]]
    after: dict[int, str]
    keyed: bool = False
    parts: tuple[int, ...] = ()
    commits: bool = True


async def appended_together(table: DeltaTable) -> None:
    await asyncio.gather(*(table.append(rows(key), idempotency_key=f"key {key}") for key in (6, 7, 8)))


CASES = {
    "append": Case(lambda t: t.append(rows(6, 7)), BASE | {6: "a", 7: "a"}),
    "append, keyed": Case(lambda t: t.append(rows(6, 7), idempotency_key="once"), BASE | {6: "a", 7: "a"}, keyed=True),
    "appends, grouped": Case(appended_together, BASE | {6: "a", 7: "a", 8: "a"}, keyed=True, parts=(6, 7, 8)),
    "overwrite": Case(lambda t: t.overwrite(rows(9), idempotency_key="once"), {9: "a"}, keyed=True),
    "overwrite where": Case(
        lambda t: t.overwrite(rows(1, v="b"), predicate=Comparison("k", "<", 5), idempotency_key="once"),
        {1: "b", 5: "a"},
        keyed=True,
    ),
    "delete": Case(
        lambda t: t.delete(Comparison("k", "==", 2), idempotency_key="once"),
        {1: "a", 3: "a", 4: "a", 5: "a"},
        keyed=True,
    ),
    "upsert": Case(
        lambda t: t.upsert(rows(3, 6, v="b"), key=["k"], idempotency_key="once"), BASE | {3: "b", 6: "b"}, keyed=True
    ),
    "upsert in pieces": Case(
        lambda t: t.upsert(rows(3, 5, 6, v="b"), key=["k"], idempotency_key="once", bytes_in_flight=1),
        BASE | {3: "b", 5: "b", 6: "b"},
        keyed=True,
    ),
    "compact": Case(lambda t: t.compact(), BASE),
    "restore": Case(lambda t: t.restore(version=1), HISTORY[1]),
    "checkpoint": Case(lambda t: t.checkpoint(), BASE, commits=False),
}


def copied(store: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    copy._objects, copy._keys = dict(store._objects), list(store._keys)
    return copy


class OnTheLoop:
    """An executor that computes at once, so that the steps of a task are the same each time."""

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed on
            done.set_exception(error)
        return done


@pytest.fixture
async def base(fed: bool) -> MemoryStore:
    store = MemoryStore()
    await base_table(store, fed=fed)
    return store


@pytest.fixture
def on_the_loop(base, monkeypatch) -> None:
    """Compute on the loop; what is loaded at first use has been loaded by `base`."""
    monkeypatch.setattr(threads, "_cpu_pool", OnTheLoop)


async def instantly(_seconds: float) -> None:
    await asyncio.sleep(0)


async def opened(store: ObjectStore) -> DeltaTable:
    """Open the table with waits that are instant, and a second to settle that lasts a few tries."""
    table = await DeltaTable.open(store, "t")
    ticks = iter(range(10**6))
    table._head.committer = replace(
        table._head.committer, sleep=instantly, settle_seconds=8.0, clock=lambda: float(next(ticks))
    )
    table._group._head = table._head
    return table


async def held(store: ObjectStore, version: int | None = None) -> tuple[int, dict[int, str]]:
    table = await DeltaTable.open(store, "t", version=version)
    found = [(row["k"], row["v"]) for row in (await table.to_arrow()).to_pylist()]
    assert len(found) == len(dict(found)), f"doubled rows in version {table.version}: {sorted(found)}"
    return table.version, dict(found)


async def check_told(store: ObjectStore, found: dict[int, str]) -> None:
    """Check that the change feed, where there is one, tells what became of the base table once."""
    async with DeltaTable.open(store, "t") as table:
        if not table.metadata.configuration:
            return
        changes = [change async for change in table.changes(2)]
    told = [(row["_change_type"], (row["k"], row["v"])) for change in changes for row in change.rows.to_pylist()]
    came = Counter(row for kind, row in told if kind in {"insert", "update_postimage"})
    went = Counter(row for kind, row in told if kind in {"delete", "update_preimage"})
    assert came == Counter(found.items() - BASE.items()), "told other rows than were written"
    assert went == Counter(BASE.items() - found.items()), "told other rows than went"
    assert [kind for kind, _ in told].count("update_preimage") == [kind for kind, _ in told].count("update_postimage")


async def orphans(store: ObjectStore) -> set[str]:
    """Return the data files that no entry of the log refers to."""
    referred = set()
    for meta in await list_all(store, "t/_delta_log/"):
        if meta.key.endswith(".json"):
            async with await store.get(meta.key) as result:
                for line in bytes(await result.read()).splitlines():
                    action = json.loads(line)
                    referred |= {"t/" + action[kind]["path"] for kind in ("add", "cdc") if kind in action}
    return (
        {meta.key for meta in await list_all(store, "t/") if meta.key.endswith(".parquet")}
        - referred
        - {meta.key for meta in await list_all(store, "t/_delta_log/")}
    )


async def verdict(store: ObjectStore, case: Case, told: str, *, files_may_stay: bool = False) -> str:
    """Check the table against what the caller was told; return what became of the operation."""
    version, found = await held(store)
    await check_told(store, found)
    landed = {key for key in case.parts if key in found}
    if found == case.after and (version > 2 or not case.commits):
        outcome = "landed" if case.commits else "whole"
    elif case.parts and found == BASE | dict.fromkeys(landed, "a"):
        outcome = "landed in part" if landed else "nothing"
    else:
        assert found == BASE, f"rows were lost or made up: {found}"
        outcome = "nothing"
    assert told != "done" or outcome in {"landed", "whole"}, "acknowledged, and not there"
    assert told != "failed" or case.parts or outcome == "nothing" or not case.commits, "refused, and there"
    if case.parts:
        assert bool(landed) <= version - 2 <= len(landed)
    else:
        assert version == 2 + (case.commits and outcome == "landed")
    assert files_may_stay or await orphans(store) == set()
    return outcome


async def earlier_versions_open(store: ObjectStore) -> None:
    for number, expected in enumerate(HISTORY):
        assert await held(store, number) == (number, expected)


async def sent_again(store: ObjectStore, case: Case, outcome: str) -> None:
    """The same write under the same key lands once, whatever became of the first."""
    async with DeltaTable.open(store, "t") as table:
        before = table.version
        await case.run(table)
        assert table.version - before == (outcome == "nothing") or (case.parts and table.version <= 2 + len(case.parts))
        found = [(row["k"], row["v"]) for row in (await table.to_arrow()).to_pylist()]
        assert sorted(found) == sorted(case.after.items())
    await check_told(store, case.after)


@dataclass
class Strike:
    """A fault for the n-th call of a store, or from it on."""

    at: int
    fault: Fault
    lasting: bool = False
    calls: int = 0

    def __call__(self, _verb: str) -> Fault | None:
        self.calls += 1
        due = self.calls > self.at if self.lasting else self.calls == self.at + 1
        return self.fault if due else None


FAULTS = {
    "503 before": Strike(0, Fault("before", ambiguous=False)),
    "reset before": Strike(0, Fault("before")),
    "503 or reset after apply": Strike(0, Fault("after")),
    "broken body": Strike(0, Fault("body", after_bytes=40)),
    "delay": Strike(0, Fault("late", seconds=0.001)),
    "outage": Strike(0, Fault("before"), lasting=True),
    "answers lost": Strike(0, Fault("after"), lasting=True),
}


async def told_of(case: Case, table: DeltaTable) -> str:
    try:
        await case.run(table)
    except CommitUnknownError:
        return "unknown"
    except StorageError:
        return "failed"
    return "done"


def named(operation: str, *, fed: bool) -> str:
    return f"{operation}, fed" if fed else operation


def shown(outcomes: Iterable[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes).items()))


@pytest.mark.usefixtures("on_the_loop")
@pytest.mark.parametrize(
    ("layered", "fault", "fed", "operation"),
    [
        pytest.param(
            layered, fault, fed, operation, id=f"{'layers' if layered else 'bare'}-{fault}-{named(operation, fed=fed)}"
        )
        for fed in (False, True)
        for layered in (True, False)
        for fault in FAULTS
        for operation in CASES
        if FULL or fault not in ({"reset before"} if layered else {"503 before", "delay"})
        if FULL or not fed or (operation in FED and layered == (fault == "answers lost"))
    ],
)
async def test_every_call_fails_once(base, operation, fault, layered, fed, record_property) -> None:
    """`layers`: under the default ones, which retry. `bare`: the table alone has to tell what happened."""
    case, outcomes, step = CASES[operation], [], 0
    while True:
        inner = copied(base)
        strike = replace(FAULTS[fault], at=10**9)
        store: Any = FaultyStore(inner, source=lambda verb, strike=strike: strike(verb))
        if layered:
            store = RetryStore(store, RetryPolicy(attempts=4, sleep=instantly))
        table = await opened(store)
        strike.calls, strike.at = 0, step
        told = await told_of(case, table)
        await table.aclose()
        calls, strike.at = strike.calls, 10**9
        lasting = strike.lasting
        outcome = await verdict(inner, case, told, files_may_stay=lasting or told == "unknown")
        if layered and not lasting:
            assert told == "done"
        if told != "done":
            if case.keyed:
                await sent_again(copied(inner), case, outcome)
            await table.append(rows(100))  # the table goes on
            assert 100 in (await held(inner))[1]
        if calls <= step:
            await earlier_versions_open(inner)
            break
        outcomes.append(f"{told}: {outcome}" if told != "done" else "done")
        step += 1
    assert outcomes
    suite = "Tables under the default layers" if layered else "Tables over a bare store"
    record_property(PROPERTY, (suite, named(operation, fed=fed), fault, shown(outcomes)))


class StrollingStore(FaultyStore):
    """Lets the loop turn before and after each call, so that there is more to be cancelled in."""

    async def put(self, key: str, data: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        answer = await super().put(key, data, **options)
        await asyncio.sleep(0)
        return answer

    async def get(self, key: str, **options: Any) -> Any:
        await asyncio.sleep(0)
        return await super().get(key, **options)

    async def delete(self, keys: Any) -> None:
        await asyncio.sleep(0)
        await super().delete(keys)
        await asyncio.sleep(0)


@pytest.mark.usefixtures("on_the_loop")
@pytest.mark.parametrize(
    ("operation", "how", "fed"),
    [
        *((operation, "cancel again and again", False) for operation in CASES),
        *((operation, "cancel, answer lost", False) for operation in (CASES if FULL else ANSWERS_LOST)),
        *((operation, "cancel again and again", True) for operation in FED_LONG),
        *((operation, "cancel, answer lost", True) for operation in (CASES if FULL else ("overwrite where",))),
    ],
)
async def test_cancelled_at_every_await(base, operation, how, fed, record_property) -> None:
    """The caller is cancelled after one step of the loop, after two, after three, ..."""
    case, outcomes, steps = CASES[operation], [], 0
    while True:
        inner = copied(base)
        store = StrollingStore(inner)
        table = await opened(store)
        if how == "cancel, answer lost":
            table._head.committer = replace(table._head.committer, store=LosingStore(store))
        before = asyncio.all_tasks()
        task = asyncio.ensure_future(case.run(table))
        for _ in range(steps):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        while how == "cancel again and again" and not task.done():
            await asyncio.sleep(0)
            task.cancel()
        try:
            await task
            told = "done"
        except asyncio.CancelledError:
            told = "cancelled"
        await table.aclose()
        assert asyncio.all_tasks() == before
        outcome = await verdict(inner, case, told)
        if case.keyed:
            await sent_again(copied(inner), case, outcome)
        await table.append(rows(100))  # the table goes on
        assert {row["k"] for row in (await table.to_arrow()).to_pylist()} == {*(await held(inner))[1]}
        outcomes.append(f"{told}: {outcome}")
        if finished:
            await earlier_versions_open(inner)
            break
        steps += 1
    assert steps > 5
    record_property(PROPERTY, ("Tables, cancelled at every await", named(operation, fed=fed), how, shown(outcomes)))


class LosingStore(FaultyStore):
    """Applies each entry of the log and then loses the answer, once."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.lost: set[str] = set()

    async def put(self, key: str, data: Any, **options: Any) -> Any:
        answer = await self.inner.put(key, data, **options)
        if "_delta_log" in key and key not in self.lost:
            self.lost.add(key)
            raise UnavailableError("answer lost", key=key, ambiguous=True)
        return answer


@dataclass(frozen=True)
class Death(Fault):
    """Ends the process as `kill -9` does: nothing is written any more, nothing tidied up."""

    def failure(self, verb: str, key: str) -> StorageError:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError(f"survived at {verb} {key}")


DEATHS = {
    "before each call": Strike(0, Death("before")),
    "after each call": Strike(0, Death("after")),
    "before each change of a file": None,
}


def die_at_change(folder: Path, number: int) -> None:
    """Kill the process before the n-th time that it opens a file to write, or links, renames or removes one."""
    changes = iter(range(number, -1, -1))

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        changing = event in {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"} or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if changing and str(folder) in str(arguments[0]) and next(changes) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


async def live(folder: Path, operation: str, how: str, step: int) -> int:
    """Return 1 where there was such a step, and nothing to die of: an answer that there is no such object."""
    strike = DEATHS[how]
    source = (lambda _verb: None) if strike is None else replace(strike, at=10**9)
    async with DeltaTable.open(FaultyStore(LocalStore(folder), source=source), "t") as table:
        if strike is None:
            die_at_change(folder, step)
        else:
            source.at, source.calls = step, 0
        await CASES[operation].run(table)
    return int(strike is not None and source.calls > step)


def in_own_process(work: Callable[[], int]) -> int:
    """Run `work` in a fork of this process, which has started no thread; return how it ended."""
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def victims(folder: Path) -> None:
    """Print a line for each death: the operation, where it died, the folder that is left, and whether it lived."""
    threads._cpu_pool = threads._disk_pool = OnTheLoop  # a process with threads cannot be forked
    bases, number = {fed: folder / f"base {fed}" for fed in (False, True)}, count()
    for fed, base in bases.items():
        base.mkdir()
        asyncio.run(base_table(LocalStore(base), fed=fed))
        asyncio.run(live(Path(shutil.copytree(base, folder / f"loaded {fed}")), "upsert", "before each call", 10**9))
    for operation, fed in [*((each, False) for each in CASES), *((each, True) for each in FED_LONG)]:
        base = bases[fed]
        for how, strike in DEATHS.items():
            if strike is None and not (FULL or (operation in FILE_SYSTEM and not fed)):
                continue
            for step in range(1000):
                left = Path(shutil.copytree(base, folder / str(next(number))))
                status = in_own_process(lambda: asyncio.run(live(left, operation, how, step)))  # noqa: B023
                assert status in {0, 1, -signal.SIGKILL}, status
                print(json.dumps([operation, fed, how, str(left), status >= 0]), flush=True)
                if status == 0:
                    break


async def test_killed_at_every_step(tmp_path, record_property) -> None:
    """Processes die at each step; what they leave is a table, on which the same write lands once."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "BUFFETSTORE_FULL": "1" if FULL else ""}
    command = [sys.executable, __file__, str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment)
    outcomes: dict[tuple[str, str], list[str]] = {}
    async for line in process.stdout:
        operation, fed, how, left, lived = json.loads(line)
        case, store = CASES[operation], LocalStore(left)
        told = "done" if lived else "killed"
        outcome = await verdict(store, case, told, files_may_stay=not lived)
        strays = [meta.key for meta in await list_all(store) if not KNOWN.fullmatch(meta.key)]
        assert strays == []
        if case.keyed:
            await sent_again(store, case, outcome)
        outcomes.setdefault((named(operation, fed=fed), how), []).append(f"{told}: {outcome}")
    assert await process.wait() == 0
    for (operation, how), found in outcomes.items():
        assert len(found) > 2
        record_property(PROPERTY, ("Tables, killed", operation, how, shown(found)))


KNOWN = re.compile(
    r"t/((part|_change_data/cdc)-[0-9a-f-]{36}\.parquet|_delta_log/(\d{20}\.(json|checkpoint\.parquet)|_last_checkpoint))"
)

if __name__ == "__main__":
    victims(Path(sys.argv[1]))
