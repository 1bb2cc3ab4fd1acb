"""Histories of one Delta table that we and deltalake write in turn; both have to see the same rows after every step.

It needs deltalake.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import deltalake
import pyarrow as pa

from buffetstore.expressions import Comparison
from buffetstore.tables.table import DeltaTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from buffetstore.objects.base import ObjectStore

PATH = "shared"
SCHEMA = pa.schema(
    [
        ("k", pa.int64()),
        ("place", pa.string()),
        ("price", pa.decimal128(18, 8)),
        ("at", pa.timestamp("us", tz="UTC")),
        ("note", pa.string()),
        ("weight", pa.float64()),
        ("tags", pa.list_(pa.string())),
    ]
)
KEYS = 24
OPERATIONS = ("append", "append", "upsert", "upsert", "delete", "overwrite", "compact", "checkpoint", "restore")
_PLACES = ("XNAS", "a/b c", "日経 225", "100%", "x=y&z#?", "..")
_NOTES = ("", "plain", 'it\'s "quoted"\n', "Ωmega 🎈", "x" * 40, None)
_START = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@dataclass(frozen=True)
class Step:
    """What one of the two does: `seed` draws the values."""

    ours: bool
    operation: str
    keys: tuple[int, ...]
    seed: int


def steps(random: Random, count: int) -> list[Step]:
    """Draw a history."""
    return [
        Step(
            random.random() < 0.5,
            random.choice(OPERATIONS),
            tuple(sorted(random.sample(range(KEYS), random.randint(1, 4)))),
            random.randrange(1000),
        )
        for _ in range(count)
    ]


def row(key: int, seed: int) -> dict[str, Any]:
    """Return a row of values on which engines disagree when one of them is careless."""
    mixed = key * 7 + seed * 13
    return {
        "k": key,
        "place": _PLACES[mixed % len(_PLACES)],
        "price": None if mixed % 5 == 0 else Decimal(mixed % 97 - 40) / 7 // Decimal("0.00000001") / 10**8,
        "at": None if mixed % 7 == 0 else _START + timedelta(microseconds=mixed % 3, hours=mixed * 1001),
        "note": _NOTES[mixed % len(_NOTES)],
        "weight": None if mixed % 3 == 0 else (mixed % 11) / 3 - 1,
        "tags": None if mixed % 4 == 0 else [_NOTES[mixed % 5], None, "x"][: mixed % 4],
    }


class CrossHistory:
    """One table, written by both, and the rows that it ought to hold.

    Parameters
    ----------
    url, storage_options:
        Where deltalake finds the table.
    """

    def __init__(self, store: ObjectStore, url: str, storage_options: Mapping[str, str] | None = None) -> None:
        self._store = store
        self._url = url
        self._options = dict(storage_options or {})
        self._rows: dict[int, dict[str, Any]] = {}
        self._versions: list[dict[int, dict[str, Any]]] = []
        self.calls = {"ours": 0, "deltalake": 0}

    async def run(self, history: Sequence[Step], *, partition_by: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Do the steps, compare after each, and return the rows at the end."""
        creating = DeltaTable.create(self._store, PATH, SCHEMA, partition_by=partition_by)
        async with creating as ours:
            theirs = await asyncio.to_thread(deltalake.DeltaTable, self._url, storage_options=self._options)
            self._versions.append({})
            for number, step in enumerate(history):
                self.calls["ours" if step.ours else "deltalake"] += 1
                if step.ours:
                    await self._ours(ours, step)
                else:
                    await asyncio.to_thread(self._theirs, theirs, step)
                await ours.refresh()
                await asyncio.to_thread(theirs.update_incremental)
                self._remember(ours.version)
                await self._compare(ours, theirs, f"after step {number}, {step}")
        theirs = await asyncio.to_thread(deltalake.DeltaTable, self._url, storage_options=self._options)
        async with DeltaTable.open(self._store, PATH) as again:
            await self._compare(again, theirs, "opened anew")
        for version in range(0, len(self._versions), 3):
            async with DeltaTable.open(self._store, PATH, version=version) as earlier:
                assert await asyncio.to_thread(_sorted, await earlier.to_arrow()) == list(
                    self._versions[version].values()
                ), version
        return list(self._rows.values())

    def _remember(self, version: int) -> None:
        # An operation of deltalake may make several versions, or none; what lies between has no other rows.
        while len(self._versions) <= version:
            self._versions.append(dict(sorted(self._rows.items())))
        self._rows = dict(sorted(self._rows.items()))

    def _expect(self, step: Step) -> pa.Table:
        """Note what the table should hold after the step; return the rows to write."""
        new = {key: row(key, step.seed) for key in step.keys}
        match step.operation:
            case "append":
                new = {key: each for key, each in new.items() if key not in self._rows}
                self._rows |= new
            case "upsert":
                self._rows |= new
            case "overwrite":
                self._rows = dict(new)
            case "delete":
                self._rows = {key: each for key, each in self._rows.items() if key >= step.keys[0]}
            case "restore":
                self._rows = dict(self._versions[step.seed % len(self._versions)])
        return pa.Table.from_pylist(list(new.values()), SCHEMA)

    async def _ours(self, table: DeltaTable, step: Step) -> None:
        data = self._expect(step)
        match step.operation:
            case "append":
                await table.append(data)
            case "upsert":
                await table.upsert(data, key=["k"])
            case "overwrite":
                await table.overwrite(data)
            case "delete":
                await table.delete(Comparison("k", "<", step.keys[0]))
            case "restore":
                await table.restore(version=step.seed % len(self._versions))
            case "compact":
                await table.compact()
            case "checkpoint":
                await table.checkpoint()

    def _theirs(self, table: deltalake.DeltaTable, step: Step) -> None:
        data = self._expect(step)
        match step.operation:
            case "append" | "overwrite":
                if data.num_rows or step.operation == "overwrite":
                    mode = step.operation
                    deltalake.write_deltalake(table, data, mode=mode)
            case "upsert":
                merge = table.merge(data, "t.k = s.k", source_alias="s", target_alias="t")
                merge.when_matched_update_all().when_not_matched_insert_all().execute()
            case "delete":
                table.delete(f"k < {step.keys[0]}")
            case "restore":
                table.restore(step.seed % len(self._versions))
            case "compact":
                table.optimize.compact()
            case "checkpoint":
                table.create_checkpoint()

    async def _compare(self, ours: DeltaTable, theirs: deltalake.DeltaTable, when: str) -> None:
        expected = [self._rows[key] for key in sorted(self._rows)]
        found = await asyncio.to_thread(_sorted, await ours.to_arrow())
        assert found == expected, f"we read {found} {when}, not {expected}"
        foreign = await asyncio.to_thread(lambda: _sorted(theirs.to_pyarrow_table()))
        assert foreign == expected, f"deltalake reads {foreign} {when}, not {expected}"
        assert theirs.version() == ours.version, when


def _sorted(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.select(SCHEMA.names).to_pylist(), key=lambda each: each["k"])
