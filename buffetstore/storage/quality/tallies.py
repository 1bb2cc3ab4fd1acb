"""The tally of each kind of check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.quality import (
    CrossedQuotes,
    Duplicates,
    Freshness,
    Gaps,
    InRange,
    NullRate,
    Outliers,
    Referential,
    RowsPerDay,
    StalePrices,
    VolumeSpikes,
    faults_of,
)
from buffetstore.storage.quality.days import RowsTally
from buffetstore.storage.quality.freshness import FreshnessTally
from buffetstore.storage.quality.gaps import GapsTally
from buffetstore.storage.quality.rowwise import CrossedTally, NullTally, RangeTally
from buffetstore.storage.quality.series import OutlierTally, SpikeTally, StaleTally
from buffetstore.storage.quality.sets import DuplicatesTally, ReferentialTally
from buffetstore.storage.quality.window import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.quality_check import QualityCheck
    from buffetstore.storage.quality.tally import Tally

_PLAIN: dict[type[QualityCheck], type[Tally[Any]]] = {
    CrossedQuotes: CrossedTally,
    Duplicates: DuplicatesTally,
    Gaps: GapsTally,
    InRange: RangeTally,
    NullRate: NullTally,
    Outliers: OutlierTally,
    Referential: ReferentialTally,
    StalePrices: StaleTally,
    VolumeSpikes: SpikeTally,
}


def chosen(contract: Contract, checks: Iterable[QualityCheck | str] | None) -> tuple[QualityCheck, ...]:
    """Return the checks to run: those given, by name those of the contract, by default all of its own.

    A contract that promises freshness is held to it though it declares no such check.

    Raises
    ------
    InvalidInputError
        A check does not fit the columns of the data type, or there is none of this name.
    """
    own = contract.quality
    if contract.service_levels.freshness is not None and not any(isinstance(check, Freshness) for check in own):
        own = (Freshness(), *own)
    if checks is None:
        return own
    by_name = {check.label: check for check in own}
    found: list[Any] = []
    for check in (checks,) if isinstance(checks, str) else tuple(checks):
        if isinstance(check, str) and check not in by_name:
            known = ", ".join(by_name) or "none"
            raise InvalidInputError(f"{contract.data_type} declares no check {check!r}; it declares {known}")
        found.append(by_name[check] if isinstance(check, str) else check)
    faults = faults_of(tuple(found), contract.schema)
    if faults:
        raise InvalidInputError(f"{contract.data_type}: {'; '.join(faults)}")
    return tuple(found)


def tally_of(check: QualityCheck, contract: Contract, now: datetime) -> Tally[Any]:
    """Return a tally that has counted nothing yet.

    Raises
    ------
    MissingDependencyError, ConfigurationError
        The check names a calendar that cannot be had.
    """
    if isinstance(check, Freshness):
        return FreshnessTally(check, contract, now)
    bound = _bound(check, contract)
    if isinstance(check, RowsPerDay):
        return RowsTally(check, contract, bound, int(now.timestamp() * 1_000_000) // DAY)
    return _PLAIN[type(check)](check, contract, bound)


def _bound(check: QualityCheck, contract: Contract) -> float:
    if check.bound is not None:
        return check.bound
    promised = contract.service_levels.completeness
    return 1 - promised if isinstance(check, Gaps) and promised is not None else 0.0


def secret_columns(contract: Contract) -> frozenset[str]:
    """Return the columns whose values nobody is shown."""
    return frozenset(
        spec.name for spec in contract.fields if spec.sensitivity is not None and spec.sensitivity.is_withheld
    )


def shown_symbols(contract: Contract, symbols: Sequence[str]) -> str:
    """Return symbols for a scope: as they are where they are few and anybody may see them."""
    few = 5
    if contract.symbol in secret_columns(contract) or len(symbols) > few:
        return f"{len(symbols)} symbols"
    return ",".join(symbols)
