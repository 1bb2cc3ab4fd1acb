"""Many processes on one Delta table, and the proof that they saw one table: its history is linearizable.

Every client notes when each of its calls began and ended, and what it was told. Versions order the writes, so a model
replays them one by one; whatever a client was told has to agree with the model at a version that was the newest at some
moment between the beginning and the end of the call.

As a module, ``python -m buffetstore.testing.table_histories <url> <process> <operations> <options as JSON>`` is one of
the processes; it prints its calls, one a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import CommitConflictError, CommitUnknownError
from buffetstore.expressions import Comparison
from buffetstore.formats.parquet import ParquetFormatter
from buffetstore.objects.helpers import get_bytes
from buffetstore.objects.open import open_store
from buffetstore.tables.log import read_entry
from buffetstore.tables.snapshot import replay
from buffetstore.tables.table import DeltaTable
from buffetstore.tables.view import TableView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.snapshot import Snapshot

PATH = "table"
SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("value", pa.string())])
COUNTERS = 4
CLIENTS = 2  # in a process: their appends share commits
_KINDS = ("append",) * 4 + ("upsert",) * 3 + ("delete",) + ("read",) * 3


@dataclass(frozen=True)
class Call:
    """One call of one client, by the machine's monotonic clock.

    Parameters
    ----------
    rows:
        By id, what was to be stored; None is deleted. Of a read, what was read.
    version:
        What the caller was told; None where the call failed.
    changed:
        How many rows were inserted or deleted.
    """

    client: str
    kind: str
    rows: Mapping[str, str | None]
    begun: float
    ended: float
    version: int | None = None
    changed: int = 0
    error: str = ""


@dataclass
class Verdict:
    """How many calls there were of each kind and outcome, how many versions, and how long it took."""

    calls: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    rows: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.calls.items()))
        return f"{told}; {self.versions} versions, {self.rows} rows, {self.seconds:.1f} s"


async def run_client(table: DeltaTable, client: str, operations: int) -> list[Call]:
    """Do so many random operations, one after the other, and return what happened."""
    random = Random(client)  # noqa: S311 - no secret
    calls: list[Call] = []
    mine: list[str] = []
    for number in range(operations):
        name, counter = f"{client}.{number}", f"counter {random.randrange(COUNTERS)}"
        kind = random.choice(_KINDS)
        rows: dict[str, str | None] = {}
        if kind == "append":
            rows = {name: name}
        elif kind == "upsert":
            rows = {counter: name}
        elif kind == "delete":
            rows = {random.choice([counter, *mine]): None}
        calls.append(await _call(table, client, kind, rows))
        if kind == "append" and not calls[-1].error:
            mine.append(name)
    return calls


async def _call(table: DeltaTable, client: str, kind: str, rows: dict[str, str | None]) -> Call:
    begun = time.monotonic()
    try:
        version, changed, found = await _done(table, kind, rows)
    except (CommitConflictError, CommitUnknownError) as error:
        return Call(client, kind, rows, begun, time.monotonic(), error=type(error).__name__)
    return Call(client, kind, found, begun, time.monotonic(), version, changed)


async def _done(table: DeltaTable, kind: str, rows: dict[str, str | None]) -> tuple[int, int, Mapping[str, str | None]]:
    data = pa.table({"id": list(rows), "value": list(rows.values())}, schema=SCHEMA)
    if kind == "append":
        appended = await table.append(data)
        return appended.version, appended.rows, rows
    if kind == "upsert":
        upserted = await table.upsert(data, key=["id"])
        return upserted.version, upserted.inserted, rows
    if kind == "delete":
        deleted = await table.delete(Comparison("id", "==", next(iter(rows))))
        return deleted.version, deleted.deleted, rows
    await table.refresh()
    version, reading = table.version, table.to_arrow()  # which stays with the version it began with
    return version, 0, rows_of(await reading)


def rows_of(table: pa.Table) -> dict[str, str | None]:
    """Return the rows by id.

    Raises
    ------
    AssertionError
        An id is there twice.
    """
    found = dict(zip(table["id"].to_pylist(), table["value"].to_pylist(), strict=True))
    assert len(found) == table.num_rows, f"doubled rows among {sorted(table['id'].to_pylist())}"
    return found


async def run_processes(url: str, options: Mapping[str, Any], *, processes: int, operations: int) -> list[Call]:
    """Create the table, let the processes work on it, and return all calls."""
    async with open_store(url, **options) as store, DeltaTable.create(store, PATH, SCHEMA):
        pass
    command = [sys.executable, "-m", __name__, url]
    rest = [str(operations), json.dumps(dict(options))]
    started = [
        await asyncio.create_subprocess_exec(*command, f"process {each}", *rest, stdout=asyncio.subprocess.PIPE)
        for each in range(processes)
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in started))
    assert [process.returncode for process in started] == [0] * processes, "a process failed: see its output"
    return [Call(**json.loads(line)) for output, _ in outputs for line in output.splitlines()]


async def check(store: ObjectStore, calls: Sequence[Call]) -> Verdict:
    """Hold what the clients were told, and the table at each of its versions, to the sequential model.

    Raises
    ------
    AssertionError
        The clients did not see one table: the call or version is named.
    """
    async with DeltaTable.open(store, PATH) as table:
        newest, last = table.version, rows_of(await table.to_arrow())
    versions = _versions(store, newest)
    writes = _writes(calls)
    unsettled = [call for call in calls if call.error == CommitUnknownError.__name__]
    state: dict[str, str | None] = {}
    states = [state]
    for version in range(1, newest + 1):
        expected = _after(state, writes.get(version, ()))
        found = await anext(versions)
        if version not in writes:  # nobody was told of it: it must be of a call that did not learn its end
            maker = next((call for call in unsettled if _after(state, [call]) == found), None)
            assert maker is not None, f"nobody made version {version}"
            unsettled.remove(maker)
            expected = found
        assert found == expected, f"version {version}: {found} should be {expected}"
        states.append(state := expected)
    assert last == state
    assert max(writes, default=0) <= newest, "a version was told that is not there"
    for call in calls:
        _check_answer(call, states)
    _check_times(calls)
    span = max(call.ended for call in calls) - min(call.begun for call in calls)
    counts = Counter(f"{call.kind}{f' {call.error}' if call.error else ''}" for call in calls)
    return Verdict(counts, newest, len(state), span)


async def _versions(store: ObjectStore, newest: int) -> AsyncIterator[dict[str, str | None]]:
    """Yield the rows of each version after the first; an entry of the log, and a data file, is read once."""
    held: dict[str, bytes] = {}

    async def fetch(key: str, _size: int) -> bytes:
        if key not in held:
            held[key] = bytes(await get_bytes(store, key))
        return held[key]

    snapshot: Snapshot | None = None
    for version in range(newest + 1):
        entry = await read_entry(store, PATH, version)
        assert entry is not None, f"version {version} is missing"
        snapshot = replay(PATH, snapshot, [entry])
        if version:
            view = TableView(store, snapshot, ParquetFormatter())
            yield rows_of(await view.read_files(view.files(), fetch=fetch))


def _writes(calls: Iterable[Call]) -> dict[int, list[Call]]:
    """Return what made each version: some appends, or one other write."""
    found: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if call.version is not None and (call.kind in {"append", "upsert"} or (call.kind == "delete" and call.changed)):
            found[call.version].append(call)
    for version, made in found.items():
        assert len(made) == 1 or all(call.kind == "append" for call in made), (
            f"version {version} was told twice: {made}"
        )
    return found


def _after(state: Mapping[str, str | None], writes: Iterable[Call]) -> dict[str, str | None]:
    changes = {name: value for call in writes for name, value in call.rows.items()}
    return {name: value for name, value in {**state, **changes}.items() if value is not None}


def _check_answer(call: Call, states: Sequence[Mapping[str, str | None]]) -> None:
    if call.version is None:
        return
    if call.kind == "read":
        assert call.rows == states[call.version], f"{call} should have read {states[call.version]}"
    elif call.kind == "upsert":
        assert call.changed == sum(name not in states[call.version - 1] for name in call.rows), call
    elif call.kind == "delete" and call.changed:
        assert all(name in states[call.version - 1] for name in call.rows), call
    elif call.kind == "delete":
        assert not any(name in states[call.version] for name in call.rows), call


def _check_times(calls: Sequence[Call]) -> None:
    """Hold every call to what had been acknowledged before it began: it comes after that, or at it if it only reads."""
    told = sorted((call for call in calls if call.version is not None), key=lambda call: call.ended)
    newest, at = 0, 0
    for call in sorted(told, key=lambda call: call.begun):
        while at < len(told) and told[at].ended < call.begun:
            newest = max(newest, told[at].version or 0)
            at += 1
        writes = call.kind in {"append", "upsert"} or (call.kind == "delete" and call.changed)
        assert call.version is not None
        assert call.version >= newest + bool(writes), f"{call} began after version {newest} was acknowledged"


async def _process(url: str, name: str, operations: int, options: Mapping[str, Any]) -> None:
    async with open_store(url, **options) as store, DeltaTable.open(store, PATH) as table:
        clients = (run_client(table, f"{name}, client {each}", operations // CLIENTS) for each in range(CLIENTS))
        for calls in await asyncio.gather(*clients):
            for call in calls:
                sys.stdout.write(json.dumps(asdict(call)) + "\n")


if __name__ == "__main__":
    asyncio.run(_process(sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])))
