"""What is wrong with the layout of a table, in numbers, and what would mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from buffetstore.tables.operations.bins import Coarsening
from buffetstore.tables.operations.compact import TARGET_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Severity: TypeAlias = Literal["high", "medium", "low"]
FindingKind: TypeAlias = Literal[
    "small_files",
    "fine_buckets",
    "coarse_buckets",
    "skew",
    "unclustered",
    "sort_order",
    "columns_without_statistics",
    "files_without_statistics",
    "deletion_vectors",
    "row_groups",
    "unneeded_files",
]
_ORDER: Final = ("high", "medium", "low")


@dataclass(frozen=True, slots=True)
class Compact:
    """Put files together, sorted by key.

    Parameters
    ----------
    target_bytes:
        The size of the files to come.
    coarsening:
        When time buckets grow; None leaves every file in its bucket.
    start, end:
        Only files with rows from the one moment to before the other; None is from the first, and to the last.
    """

    target_bytes: int = TARGET_BYTES
    coarsening: Coarsening | None = field(default_factory=Coarsening)
    start: datetime | None = None
    end: datetime | None = None

    def __str__(self) -> str:
        span = "" if self.start is None else f" from {self.start:%Y-%m-%d %H:%M} until {self.end:%Y-%m-%d %H:%M}"
        grown = "" if self.coarsening is None else ", into months and years that are over"
        return f"compact to files of {self.target_bytes / 2**20:,.0f} MiB{span}{grown}"


@dataclass(frozen=True, slots=True)
class Vacuum:
    """Delete the files that no version within the table's retention needs."""

    def __str__(self) -> str:
        return "vacuum"


LayoutAction: TypeAlias = Compact | Vacuum


@dataclass(frozen=True, slots=True)
class LayoutFinding:
    """One thing that hurts.

    Parameters
    ----------
    kind, severity:
        What it is, and how much it hurts.
    message:
        What was found, with its numbers, and what to do.
    numbers:
        The same numbers by name.
    files_fewer, bytes_fewer:
        How many files fewer the recorded queries would have opened, and how many bytes fewer read, all of them
        together, if it were mended: an estimate; 0 where none was recorded.
    action:
        What a storage can do about it (`apply`); None where only people can.
    """

    kind: FindingKind
    severity: Severity
    message: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    files_fewer: int = 0
    bytes_fewer: int = 0
    action: LayoutAction | None = None


@dataclass(frozen=True, slots=True)
class LayoutReport:
    """The layout of a data type at one version.

    Parameters
    ----------
    files, rows, bytes, buckets:
        How much there is: data files, the rows that they are known to have, their size, and spans of time (or
        partitions) that they are of.
    queries:
        How many recorded queries it was judged by.
    findings:
        The worst first; empty where nothing hurts.
    """

    data_type: str
    table_version: int
    files: int
    rows: int
    bytes: int
    buckets: int
    queries: int = 0
    findings: tuple[LayoutFinding, ...] = ()

    @property
    def actions(self) -> tuple[LayoutAction, ...]:
        """What can be done, each once, in the order in which it should be."""
        found = dict.fromkeys(each.action for each in self.findings if each.action is not None)
        wanted = [each for each in found if not any(_covers(other, each) for other in found if other != each)]
        # What is for all files comes first, then what takes larger ones together; what they leave behind goes last.
        return tuple(sorted(wanted, key=_turn))

    def finding(self, kind: FindingKind) -> LayoutFinding | None:
        """Return the finding of a kind, where there is one."""
        return next((each for each in self.findings if each.kind == kind), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON: actions as the words that describe them."""
        told = asdict(self)
        for shown, each in zip(told["findings"], self.findings, strict=True):
            shown["action"] = None if each.action is None else str(each.action)
        return told | {"actions": [str(action) for action in self.actions]}


def worst_first(findings: list[LayoutFinding]) -> tuple[LayoutFinding, ...]:
    """Return the findings in the order in which they hurt."""
    return tuple(sorted(findings, key=lambda each: (_ORDER.index(each.severity), -each.bytes_fewer, -each.files_fewer)))


def _turn(action: LayoutAction) -> tuple[int, bool, int]:
    if isinstance(action, Vacuum):
        return 1, False, 0
    return 0, action.start is not None, action.target_bytes


def _covers(one: LayoutAction, other: LayoutAction) -> bool:
    """Return whether the one does what the other would."""
    return (
        isinstance(one, Compact)
        and isinstance(other, Compact)
        and one.start is None
        and one.target_bytes >= other.target_bytes
        and (one.coarsening is not None or other.coarsening is None)
    )
