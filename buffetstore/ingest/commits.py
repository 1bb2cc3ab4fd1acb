"""Good rows on their way to the storage: put together, so that a hundred small members are not a hundred commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from buffetstore.errors import InvalidInputError
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import ValidationResult
from buffetstore.schemas.columns import Columns
from buffetstore.schemas.uniqueness import repeated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from buffetstore.ingest.result import ImportResult
    from buffetstore.schemas import Contract
    from buffetstore.storage.base import DataStorage

MAX_OVERWRITE_BYTES = 2 * 1024**3


class Commits:
    """Stores the rows of verdicts in commits of about `rows` rows; an overwrite is one commit, whatever it takes.

    Each commit has an idempotency key of its own, made of the caller's and a number, so that a run that was cut off
    between two of them can be repeated: equal files are cut at equal places.

    Parameters
    ----------
    result:
        What was stored is counted there.
    options:
        Of `DataStorage.store_data`.
    """

    def __init__(
        self, storage: DataStorage, result: ImportResult, rows: int, key: Any, options: dict[str, Any]
    ) -> None:
        if key is not None and not (key and isinstance(key, str)):
            raise InvalidInputError(f"idempotency_key={key!r}: of a file it is a text, such as its name and day")
        self._storage = storage
        self._result = result
        self._rows = rows
        self._key = key
        self._options = options
        self._is_overwrite = options.get("mode") == "overwrite"
        self._held: list[pa.Table] = []
        self._contract: Contract | None = None
        self._sent = 0

    async def add(self, check: ValidationResult) -> None:
        """Take the accepted rows of a verdict; what was refused is dealt with, and may go."""
        if len(check.rejected) == check.rows:
            return
        self._contract = check.contract
        self._held.append(await in_thread(getattr, check, "accepted"))
        if not self._is_overwrite:
            if sum(map(len, self._held)) >= self._rows:
                await self.flush()
        elif sum(rows.nbytes for rows in self._held) > MAX_OVERWRITE_BYTES:
            raise InvalidInputError(
                f"mode='overwrite' puts a file into one commit, and {self._result.file} has more than "
                f"{MAX_OVERWRITE_BYTES / 1e9:.1f} GB of rows: delete what is stored, then ingest with mode='append'"
            )

    async def flush(self) -> None:
        """Store what is held."""
        held, self._held = self._held, []
        if self._contract is None or not held:
            return
        for rows in await in_thread(_distinct, held, self._contract, self._options.get("mode")):
            await self._store(ValidationResult(self._contract, rows, len(rows)))

    async def quarantine(self, check: ValidationResult) -> None:
        """Store the rows of a verdict, the refused ones in the quarantine."""
        await self.flush()
        await self._store(check, on_invalid="quarantine")

    async def _store(self, check: ValidationResult, **options: Any) -> None:
        key = None if self._key is None else f"{self._key}/{self._sent}"
        self._sent += 1
        done = await self._storage.store_data(check.data_type, check, idempotency_key=key, **self._options, **options)
        self._result.stored(done)


def _distinct(tables: list[pa.Table], contract: Contract, mode: str | None) -> list[pa.Table]:
    """Return the rows as they can be written: in tables that hold no key twice, where the write is by key.

    Later rows of a key are to be stored after earlier ones, as if each file had been brought in by itself.
    """
    rest = pa.concat_tables(tables)
    if len(tables) == 1 or mode == "append" or contract.revisions == "append":
        return [rest]  # the verdict on the one table says that it has every key once
    if mode == "overwrite":  # one commit, in which the last row of a key stands
        backwards = pa.array(np.arange(len(rest))[::-1])
        keep = np.sort(len(rest) - 1 - np.flatnonzero(~_later(rest.take(backwards), contract)))
        return [rest if contract.revisions == "keep" else rest.take(pa.array(keep))]
    found: list[pa.Table] = []
    while (later := _later(rest, contract)).any():
        found.append(rest.filter(pa.array(~later)))
        rest = rest.filter(pa.array(later))
    return [*found, rest]


def _later(rows: pa.Table, contract: Contract) -> NDArray[np.bool_]:
    """Mark the rows whose key an earlier row has."""
    later = np.zeros(len(rows), bool)
    later[repeated(Columns(rows), contract.key, contract.event_time)[0]] = True
    return later
