"""Refused rows as a data type of their own: kept with their reasons, looked at, mended and replayed, or discarded.

Rules that hold:

* A row is in the quarantine before the good rows that it came with are acknowledged.
* The same row, refused by the same contract and read in the same way, is there once, however often it is sent; one that
  was replayed or discarded stays so.
* A replayed row is stored once, wherever a replay is cut off, and by however many it is repeated: rows are taken up
  under a name by which their write is known, and whoever finds rows taken up settles first whether that write landed. A
  table remembers such names for seven days: finish within them what was cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError, TableNotFoundError
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.quarantined import DISCARDED, OPEN, REPLAYED, SUFFIX, Status
from buffetstore.storage.quarantine_table import Lake, QuarantineTable, is_quarantine, selection
from buffetstore.storage.refused import Fix, quarantined_rows
from buffetstore.storage.replay import Replay, ReplayResult

if TYPE_CHECKING:
    from buffetstore.schemas import ValidationResult
    from buffetstore.storage.lineage import Lineage

Reach: TypeAlias = Callable[[], Awaitable[Lake]]

_DAYS = timedelta(days=90)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class QuarantineSummary:
    """What the quarantine of a data type holds.

    Parameters
    ----------
    open, replayed, discarded:
        Rows of each status.
    rules:
        For open rows, how many break each rule: ``{"price: greater_than": 3}``; one that breaks two counts twice.
    oldest, newest:
        When the first and the last of the open rows were refused.
    """

    data_type: str
    open: int
    replayed: int
    discarded: int
    rules: Mapping[str, int]
    oldest: datetime | None
    newest: datetime | None


class QuarantineTables:
    """The refused rows of all data types: for each a data type ``<data_type>_quarantine``, which can be asked like any.

    ``DataQuery("market_data_quarantine", {"symbol": "AAPL", "rule": "greater_than"})`` finds rows by their key columns
    (as text) and by the first reason; `record` has each row exactly as it was given, as JSON, confidential values
    included: the quarantine deserves the protection of the data type itself. Messages leave such values out.

    Parameters
    ----------
    reach:
        Gives the storage.
    clock:
        Tells the time.
    """

    def __init__(self, reach: Reach, *, clock: Callable[[], datetime] = _now) -> None:
        self._reach = reach
        self._clock = clock

    async def add(self, verdict: ValidationResult, lineage: Lineage) -> int:
        """Put the rows that a verdict refused into the quarantine, those that are not there yet; return how many it is.

        ``store_data(on_invalid="quarantine")`` does this.

        Raises
        ------
        InvalidInputError
            The verdict does not hold the rows, or is of refused rows itself.
        """
        if not len(verdict.rejected):
            return 0
        if is_quarantine(verdict.contract):
            raise InvalidInputError(f"{verdict.data_type} has no quarantine of its own: use on_invalid='raise'")
        if verdict.detail is None or verdict.detail.given is None:
            raise InvalidInputError(
                "the verdict does not hold the rows that it refused: give the data, or what `validate` returned"
            )
        table = await QuarantineTable.of(await self._reach(), verdict.data_type)
        rows = await in_thread(quarantined_rows, verdict, verdict.detail, table.contract, lineage, self._clock())
        await table.add(rows, lineage.to_json())
        return len(verdict.rejected)

    async def list(self) -> Sequence[QuarantineSummary]:
        """Return what each quarantine holds, in order of name."""
        lake = await self._reach()
        named = [name for name in await lake.list_data_types() if name.endswith(SUFFIX)]
        contracts = await gather([partial(lake.contract, name) for name in named])
        tables = [QuarantineTable(lake, contract) for contract in contracts if is_quarantine(contract)]
        return await gather([partial(self._summary, table) for table in tables])

    async def _summary(self, table: QuarantineTable) -> QuarantineSummary:
        found = await table.rows({}, columns=("status", "reasons", "quarantined_at"))
        return await in_thread(_summed_up, table.base, found.rows)

    async def show(
        self,
        data_type: str,
        filters: Mapping[str, Any] | None = None,
        *,
        status: Status | Literal["all"] = "open",
        limit: int | None = 100,
    ) -> pa.Table:
        """Return refused rows with their reasons, in the order in which they were given.

        Parameters
        ----------
        filters:
            As in `DataQuery`, on the quarantine's columns: ``{"symbol": "AAPL", "rule": "greater_than"}``.
        status:
            ``"open"``, ``"replayed"``, ``"discarded"`` or ``"all"``.
        limit:
            At most so many; None is all.

        Raises
        ------
        InvalidQueryError, UnknownDataTypeError
            The filters cannot be right; there is no such data type.
        """
        table = await QuarantineTable.of(await self._reach(), data_type)
        chosen = {} if status == "all" else {"status": _status(status)}
        return (await table.rows({**chosen, **(filters or {})}, limit=limit)).rows

    async def replay(
        self,
        data_type: str,
        *,
        ids: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        fix: Fix | None = None,
        version: str | None = None,
        extra: Literal["error", "ignore"] | None = None,
    ) -> ReplayResult:
        """Judge open rows again, store those that pass now, and mark them replayed; the others stay open.

        A row is read as it was when it was refused: mapping, zone, constants and level are kept with it. It is stored
        once, however often this is cut off and called again.

        Parameters
        ----------
        ids, filters:
            Which rows; ``filters={}`` is all that are open.
        fix:
            What to mend. A mapping sets fields, in the contract's own terms: ``{"price": Decimal("185.64")}``. A
            function gets each row as a dict, as it was given (by the source's own names, in its units), and returns it
            mended; None leaves the row open.
        version:
            The schema version to hold the rows against; None is the one that refused them.
        extra:
            What to do about columns that are no fields; None is what was said when the rows were given.

        Raises
        ------
        InvalidInputError, MappingError
            It is not said which rows, or the fix fails; of the batch in hand nothing was stored.
        ConflictError
            Another replay took up the same rows.
        StorageError
            The store failed: call it again.
        """
        table = await QuarantineTable.of(await self._reach(), data_type)
        return await Replay(table, fix, version, extra, self._clock).run(ids, filters)

    async def discard(
        self,
        data_type: str,
        *,
        ids: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        reason: str,
    ) -> int:
        """Mark open rows as dealt with, though they are not stored; return how many. They stay until `purge`.

        Parameters
        ----------
        reason:
            Why, for those who look later.

        Raises
        ------
        InvalidInputError
            It is not said which rows, or why.
        """
        if not str(reason).strip():
            raise InvalidInputError(f"reason={reason!r}: say why the rows are discarded")
        table = await QuarantineTable.of(await self._reach(), data_type)
        chosen = selection(ids, filters)
        gone = await table.change_where(chosen, status=DISCARDED, decided_at=self._clock(), note=reason)
        return int(gone.num_rows)

    async def purge(self, data_type: str, *, older_than: timedelta = _DAYS, include_open: bool = False) -> int:
        """Delete rows that were refused longer ago than that, and have been dealt with; return how many.

        Earlier table versions hold them until they are vacuumed. One that is sent again is a new row then.

        Parameters
        ----------
        include_open:
            Delete rows that nothing was done about too.

        Raises
        ------
        InvalidInputError
            `older_than` is negative.
        """
        if older_than < timedelta(0):
            raise InvalidInputError(f"older_than={older_than} is negative: give an age, timedelta(days=90)")
        lake = await self._reach()
        name = (await QuarantineTable.of(lake, data_type)).name
        chosen: dict[str, Any] = {"quarantined_at": {"lte": self._clock() - older_than}}
        if not include_open:
            chosen["status"] = [REPLAYED, DISCARDED]
        try:
            return (await lake.delete_data(name, filters=chosen)).rows
        except TableNotFoundError:
            return 0


def _status(status: Any) -> str:
    if status not in {OPEN, REPLAYED, DISCARDED}:
        raise InvalidInputError(f"status={status!r} is none of 'open', 'replayed', 'discarded', 'all'")
    return str(status)


def _summed_up(data_type: str, rows: pa.Table) -> QuarantineSummary:
    counts = Counter(rows["status"].to_pylist())
    waiting = rows.filter(pc.equal(rows["status"], OPEN))
    reasons = pc.list_flatten(waiting["reasons"])
    words = pc.binary_join_element_wise(pc.struct_field(reasons, "field"), pc.struct_field(reasons, "rule"), ": ")
    found = [(each["values"], each["counts"]) for each in pc.value_counts(words).to_pylist()]
    times = pc.min_max(waiting["quarantined_at"])
    return QuarantineSummary(
        data_type,
        counts[OPEN],
        counts[REPLAYED],
        counts[DISCARDED],
        dict(sorted(found, key=lambda each: (-each[1], each[0]))),
        times["min"].as_py(),
        times["max"].as_py(),
    )
