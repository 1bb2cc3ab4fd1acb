"""Refused rows judged again, and stored where they pass now: once, wherever it is cut off."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import ConflictError, IdempotencyKeyReusedError, InvalidInputError
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.quarantined import OPEN, REPLAYED
from buffetstore.storage.quarantine_table import MAX_ATTEMPTS, Chosen, MovedError, selection
from buffetstore.storage.refused import mended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from buffetstore.schemas import ValidationResult
    from buffetstore.storage.base import StoreResult
    from buffetstore.storage.quarantine_table import QuarantineTable
    from buffetstore.storage.refused import Fix, Mended

BATCH = 20_000
KEPT = 1_000


@dataclass(slots=True)
class ReplayResult:
    """What a replay did.

    Parameters
    ----------
    replayed:
        Rows that are stored now, those included whose storing an earlier replay had left unacknowledged.
    refused, skipped:
        Rows that break the contract still, and rows that the fix left out: they stay open.
    inserted, updated, unchanged:
        What became of the stored ones in the data type's table.
    table_version:
        Of that table; None where nothing was stored.
    reasons:
        By id, what is wrong still; of the first 1,000 rows.
    """

    data_type: str
    replayed: int = 0
    refused: int = 0
    skipped: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    table_version: int | None = None
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def stored(self, result: StoreResult) -> None:
        """Count what was stored."""
        self.replayed += result.rows
        self.inserted += result.inserted
        self.updated += result.updated
        self.unchanged += result.unchanged
        self.table_version = result.table_version

    def still_refused(self, ids: Sequence[str], verdict: ValidationResult) -> None:
        """Count what breaks the contract still."""
        self.refused += len(verdict.rejected)
        for row in verdict.rejected[: KEPT - len(self.reasons)]:
            self.reasons[ids[row]] = tuple(f"{each.field}: {each.message}" for each in verdict.errors_of(row))


class Replay:
    """One replay.

    Parameters
    ----------
    fix, version, extra:
        See `QuarantineTables.replay`.
    """

    def __init__(
        self,
        table: QuarantineTable,
        fix: Fix | None,
        version: str | None,
        extra: str | None,
        now: Callable[[], datetime],
    ) -> None:
        if fix is not None and not callable(fix) and not isinstance(fix, Mapping):
            raise InvalidInputError(f"fix={fix!r} is neither values by field nor a function from a row to a row")
        self._table = table
        self._fix = fix
        self._version = version
        self._extra = extra
        self._now = now
        self.result = ReplayResult(table.base)

    async def run(self, ids: Sequence[str] | None, filters: Mapping[str, Any] | None) -> ReplayResult:
        """Replay the open rows that ids or filters speak of."""
        chosen = selection(ids, filters)
        await self._finish(chosen)
        columns = ("quarantine_id", "schema_version", "reading", "quarantined_at", "record_index")
        found = await self._table.rows(chosen, columns=columns)
        for batch in await in_thread(_alike, found.rows):
            await self._replay(batch)
        return self.result

    async def _finish(self, chosen: Mapping[str, Any]) -> None:
        """Settle what earlier replays left: rows whose write landed are marked, the others are free again."""
        found = await self._table.rows({"replay": {"ne": None}, **chosen}, columns=("replay",))
        for name in pc.unique(found.rows["replay"]).to_pylist():
            if await self._landed(name):
                done = await self._mark(name)
                self.result.replayed += done
            else:
                await self._table.change_where({"replay": name, "status": OPEN}, replay=None)

    async def _landed(self, name: str) -> bool:
        """Tell whether the write of this name landed; if it did not, it cannot any more."""
        lake, base = self._table.lake, self._table.base
        table = await lake.table_for(await lake.contract(base))
        try:
            await table.append(table.schema.empty_table(), idempotency_key=name)
        except IdempotencyKeyReusedError:
            return True
        return False

    async def _replay(self, ids: Sequence[str]) -> None:
        for attempt in range(MAX_ATTEMPTS):
            chosen = await self._table.rows({"quarantine_id": list(ids), "status": OPEN, "replay": None})
            if not chosen.rows.num_rows:
                return
            again, verdict = await self._judged(chosen.rows)
            if verdict is None:
                self.result.skipped += again.skipped
                return
            good = await in_thread(_good, chosen, again.ids, verdict)
            name = f"replay/{uuid.uuid4()}"
            try:
                if good.rows.num_rows:
                    await self._table.change(good, replay=name)
            except MovedError:
                if attempt == MAX_ATTEMPTS - 1:
                    raise
                continue
            self.result.skipped += again.skipped
            self.result.still_refused(again.ids, verdict)
            if good.rows.num_rows:
                await self._store(name, verdict, chosen.version)
            return

    async def _judged(self, rows: pa.Table) -> tuple[Mended, ValidationResult | None]:
        lake, base = self._table.lake, self._table.base
        version = self._version if self._version is not None else rows["schema_version"][0].as_py()
        contract = await lake.contract(base, version)
        again = await in_thread(partial(mended, rows, contract, self._fix, version=self._version, extra=self._extra))
        if not again.records:
            return again, None
        reading = again.reading
        return again, await lake.validate(
            again.records,
            base,
            version,
            level=reading.level,
            mapping=reading.mapping,
            extra=reading.extra,
            available_at=reading.available_at,
        )

    async def _store(self, name: str, verdict: ValidationResult, version: int) -> None:
        table = self._table
        try:
            stored = await table.lake.store_data(
                table.base, verdict, on_invalid="drop", idempotency_key=name, inputs=(f"{table.name}@{version}",)
            )
        except IdempotencyKeyReusedError as error:
            raise ConflictError(
                f"another replay of {table.base} took up the same rows, so this one stored nothing of them: look at "
                "what is open, and replay that",
                key=table.name,
            ) from error
        self.result.stored(stored)
        await self._mark(name, f"{table.base}@{stored.table_version}")

    async def _mark(self, name: str, note: str | None = None) -> int:
        rows = await self._table.change_where(
            {"replay": name, "status": OPEN}, status=REPLAYED, decided_at=self._now(), note=note
        )
        return int(rows.num_rows)


def _alike(found: pa.Table) -> list[list[str]]:
    """Return the ids of rows that were read in one way, in batches, in the rows' order."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in found.select(["quarantine_id", "schema_version", "reading"]).to_pylist():
        groups.setdefault((row["schema_version"], row["reading"]), []).append(row["quarantine_id"])
    return [ids[start : start + BATCH] for ids in groups.values() for start in range(0, len(ids), BATCH)]


def _good(chosen: Chosen, ids: Sequence[str], verdict: ValidationResult) -> Chosen:
    """Return those of the rows that passed; `ids` are of the rows that were judged."""
    refused = {ids[row] for row in verdict.rejected}
    passed = pa.array([name for name in ids if name not in refused], pa.string())
    return Chosen(chosen.rows.filter(pc.is_in(chosen.rows["quarantine_id"], value_set=passed)), chosen.version)
