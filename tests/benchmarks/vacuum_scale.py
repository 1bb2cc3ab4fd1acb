"""One measurement of vacuum over many files, run alone in a process so that its peak memory is its own.

usage: vacuum_scale.py listing FILES ORPHANS             ours, on a listing that is made up as it is asked for
       vacuum_scale.py ours|deltalake FOLDER             on files that are there, made by:
       vacuum_scale.py generate FOLDER FILES ORPHANS
One line of JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from delta_log import TABLE
from delta_log import generate as generate_log
from vertical_slice import Lag, memory

from buffetstore.objects import LocalStore, ObjectMeta
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import DeltaTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

OLD = datetime.now(UTC) - timedelta(days=30)


class MadeUp(StoreWrapper):
    """A store whose log is there and whose data files are in its listing alone."""

    def __init__(self, inner: LocalStore, names: pa.Array) -> None:
        super().__init__(inner)
        self._names = names
        self.deleted = 0

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        async for meta in self.inner.list_objects(prefix, after=after):
            yield meta
        if prefix == f"{TABLE}/":  # in order: they begin with a letter after `_`
            for at in range(0, len(self._names), 1000):
                for name in self._names.slice(at, 1000).to_pylist():
                    yield ObjectMeta(key=f"{TABLE}/{name}", size=20_000, last_modified=OLD, version="1")

    async def delete(self, keys: Sequence[str]) -> None:
        self.deleted += len(keys)


def orphans_of(names: pa.Array, count: int) -> pa.Array:
    """Return names beside some of these, spread over all."""
    some = names.take(pa.array(range(0, len(names), max(1, len(names) // count)))).slice(0, count)
    return pc.replace_substring(some, ".parquet", "-orphan.parquet")


def age(folder: Path) -> None:
    """Let the log be a month old, so that vacuum does not look for what was removed lately."""
    for entry in (folder / TABLE / "_delta_log").iterdir():
        os.utime(entry, (OLD.timestamp(), OLD.timestamp()))


def reset_peak() -> float:
    """Give back what is not used, so that what is taken anew counts; return the MiB that are held."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return memory("VmRSS")


async def measured(table: DeltaTable, *, dry_run: bool) -> dict[str, Any]:
    lag = Lag()
    watcher = asyncio.create_task(lag.watch())
    before = reset_peak()
    lag.worst = 0.0
    await asyncio.sleep(1)
    idle, lag.worst = lag.worst, 0.0
    started, used = time.perf_counter(), time.process_time()
    result = await table.vacuum(dry_run=dry_run)
    found = {
        "ms": (time.perf_counter() - started) * 1e3,
        "cpu_ms": (time.process_time() - used) * 1e3,
        "stall_ms": lag.worst * 1e3,
        "idle_stall_ms": idle * 1e3,  # others on the machine
        "peak_mib": memory("VmHWM") - before,
        "files": result.files,
        "answer_mib": result.listing.nbytes / 2**20,
    }
    watcher.cancel()
    return found


async def listing(files: int, orphans: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        generate_log(Path(folder), min(100, files), files)
        age(Path(folder))
        local = LocalStore(folder)
        await asyncio.gather(*(local.put(f"warm/{n}", b"x") for n in range(16)))  # threads are not what is measured
        names = (await DeltaTable.open(local, TABLE)).files()["path"].combine_chunks()
        every = pa.concat_arrays([names, orphans_of(names, orphans)])
        every = every.take(pc.sort_indices(every))
        store = MadeUp(local, every)
        table = await DeltaTable.open(store, TABLE)
        started, used = time.perf_counter(), time.process_time()
        listed = [None async for _ in store.list_objects(f"{TABLE}/")]
        found = {"listed": len(listed), "listing_ms": (time.perf_counter() - started) * 1e3}
        found["listing_cpu_ms"] = (time.process_time() - used) * 1e3
        del listed, names, every
        planned = await measured(table, dry_run=True)
        done = await measured(table, dry_run=False)
        assert planned["files"] == done["files"] == store.deleted == orphans
        return found | {f"dry_{name}": value for name, value in planned.items()} | done


def generate(folder: Path, files: int, orphans: int) -> None:
    """Write the log of a table, empty files in the places of its data files, and files that nobody refers to."""
    generate_log(folder, min(100, files), files)
    age(folder)

    async def names() -> pa.Array:
        return (await DeltaTable.open(LocalStore(folder), TABLE)).files()["path"].combine_chunks()

    living = asyncio.run(names())
    for name in pa.concat_arrays([living, orphans_of(living, orphans)]).to_pylist():
        path = folder / TABLE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (OLD.timestamp(), OLD.timestamp()))


async def ours(folder: Path) -> dict[str, Any]:
    return await measured(await DeltaTable.open(LocalStore(folder), TABLE), dry_run=True)


async def deltalake(folder: Path) -> dict[str, Any]:
    from deltalake import DeltaTable as Theirs

    table = Theirs(str(folder / TABLE))
    before = reset_peak()
    started, used = time.perf_counter(), time.process_time()
    files = table.vacuum(dry_run=True, full=True)
    return {
        "ms": (time.perf_counter() - started) * 1e3,
        "cpu_ms": (time.process_time() - used) * 1e3,
        "peak_mib": memory("VmHWM") - before,
        "files": len(files),
    }


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "generate":
        generate(Path(arguments[0]), int(arguments[1]), int(arguments[2]))
    elif what == "listing":
        print(json.dumps(asyncio.run(listing(int(arguments[0]), int(arguments[1])))))
    else:
        print(json.dumps(asyncio.run({"ours": ours, "deltalake": deltalake}[what](Path(arguments[0])))))


if __name__ == "__main__":
    main()
