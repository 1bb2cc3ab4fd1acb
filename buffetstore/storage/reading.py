"""Which version a table's rows are read as, and how those of other versions become it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.query.conversion import VERSION, Conversion, conversion_to
from buffetstore.schemas.change import Direction
from buffetstore.schemas.changes import diff
from buffetstore.schemas.widening import numbers_of
from buffetstore.storage.gate import rewrites

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from buffetstore.schemas import Contract


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of a table are read.

    Parameters
    ----------
    contract:
        Whose keys and names hold for the table.
    projection:
        The version whose columns were asked for; None is the contract's own.
    conversion:
        How rows of other versions become rows of that version; None where they are as they are.
    hidden:
        Columns of the table that the contract has no longer.
    """

    contract: Contract
    projection: Contract | None = None
    conversion: Conversion | None = None
    hidden: frozenset[str] = frozenset()


def reading_of(newest: Contract, stored: Sequence[Contract], projection: Contract | None, schema: pa.Schema) -> Reading:
    """Return how rows are read.

    Parameters
    ----------
    newest:
        The newest version of the program.
    stored:
        The versions that the table's rows may have.
    projection:
        The version that is asked for, None is the newest that all rows can be read as.
    schema:
        The table's.
    """
    contract = _readable(newest, stored)
    hidden = {name for each in stored for name in each.schema.names} - set(contract.schema.names)
    conversion = conversion_to(projection or contract, stored) if VERSION in schema.names else None
    return Reading(contract, projection, conversion, frozenset(hidden))


def _readable(newest: Contract, stored: Sequence[Contract]) -> Contract:
    if not stored:
        return newest
    latest = max(stored, key=lambda contract: numbers_of(contract.version))
    if numbers_of(newest.version) <= numbers_of(latest.version):
        return latest
    broken = any(Direction.BACKWARD in change.breaks for each in stored for change in diff(each, newest))
    return latest if broken or rewrites(newest, stored) else newest
