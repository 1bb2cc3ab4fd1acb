"""May this version follow that one? Compatibility modes, and what the version's number has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.change import Change, Direction, Kind
from buffetstore.schemas.changes import diff
from buffetstore.schemas.widening import numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.schemas.contract import Contract

Bump: TypeAlias = Literal["major", "minor", "patch"]
_BUMPS: tuple[Bump, ...] = ("patch", "minor", "major")


class Mode(StrEnum):
    """What every new version of a data type has to keep.

    `BACKWARD`: it reads what its predecessor stored. `FORWARD`: its predecessor reads what it stores. `FULL`: both.
    The transitive modes ask it of every earlier version, `NONE` of none.
    """

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def directions(self) -> frozenset[Direction]:
        """The readers that must not break."""
        word = self.value.removesuffix("_TRANSITIVE")
        return frozenset(Direction) if word == "FULL" else frozenset(d for d in Direction if d.value == word)

    @property
    def is_transitive(self) -> bool:
        """Whether all earlier versions count, not the last alone."""
        return self.value.endswith("_TRANSITIVE")


@dataclass(frozen=True, slots=True)
class Break:
    """A change that the mode forbids, and the version whose readers or data it breaks."""

    version: str
    change: Change

    def __str__(self) -> str:
        return f"against {self.version}: {self.change}"


@dataclass(frozen=True, slots=True)
class CompatibilityReport:
    """Whether a version may follow its history.

    Parameters
    ----------
    mode:
        What was asked for.
    changes:
        Every difference from the newest version.
    breaks:
        Those that the mode forbids, against each version that counts.
    bump:
        Which of the version's numbers has to rise at least.
    suggested_version:
        The least version that says so.
    version_problem:
        What is wrong with the version that the contract states; None where nothing is.
    """

    mode: Mode
    changes: tuple[Change, ...]
    breaks: tuple[Break, ...]
    bump: Bump
    suggested_version: str
    version_problem: str | None

    @property
    def ok(self) -> bool:
        """True where nothing stands against it."""
        return not self.breaks and self.version_problem is None

    @property
    def reasons(self) -> list[str]:
        """What stands against it, in words."""
        return [*map(str, self.breaks), *([self.version_problem] if self.version_problem else [])]


def mode_of(mode: Mode | str) -> Mode:
    """Return the mode of a word, in any case.

    Raises
    ------
    InvalidInputError
        There is no such mode.
    """
    try:
        return Mode(str(mode).upper())
    except ValueError:
        raise InvalidInputError(f"mode {mode!r} is none of {', '.join(Mode)}") from None


def check(history: Sequence[Contract], new: Contract, mode: Mode | str = Mode.BACKWARD) -> CompatibilityReport:
    """Return whether the new contract may follow the versions before it.

    A version that breaks a reader needs a major number: where old data cannot be read, in every mode; where old
    readers cannot read new data, unless the mode is one that promises them nothing (BACKWARD).

    Parameters
    ----------
    history:
        The versions that there are, in any order; empty for a first version.

    Raises
    ------
    InvalidInputError
        There is no such mode, or the contracts are of different data types.
    """
    wanted = mode_of(mode)
    strangers = {contract.data_type for contract in history} - {new.data_type}
    if strangers:
        raise InvalidInputError(f"{new.data_type} cannot follow {', '.join(sorted(strangers))}: another data type")
    if not history:
        return CompatibilityReport(wanted, (), (), "patch", new.version, None)
    ordered = sorted(history, key=lambda contract: numbers_of(contract.version))
    latest = ordered[-1]
    changes = tuple(diff(latest, new))
    against = ordered[::-1] if wanted.is_transitive else [latest]
    breaks = tuple(
        Break(old.version, change)
        for old in against
        for change in (changes if old is latest else diff(old, new))
        if change.breaks & wanted.directions
    )
    bump = bump_for(changes, wanted)
    problem = _version_problem(latest.version, new.version, bump, changes, wanted)
    return CompatibilityReport(wanted, changes, breaks, bump, next_version(latest.version, bump), problem)


def bump_for(changes: Sequence[Change], mode: Mode | str = Mode.BACKWARD) -> Bump:
    """Return which number of the version has to rise for these changes."""
    told = mode_of(mode)
    counted = {Direction.BACKWARD} | (told.directions or frozenset(Direction))
    if any(change.rewrites or change.breaks & counted for change in changes):
        return "major"
    return "patch" if all(change.kind is Kind.WORDS_CHANGED for change in changes) else "minor"


def next_version(version: str, bump: Bump) -> str:
    """Return the version with one number raised: '1.3.0' for '1.2.7' and minor."""
    major, minor, patch = numbers_of(version)
    match bump:
        case "major":
            return f"{major + 1}.0.0"
        case "minor":
            return f"{major}.{minor + 1}.0"
        case _:
            return f"{major}.{minor}.{patch + 1}"


def _version_problem(old: str, new: str, bump: Bump, changes: Sequence[Change], mode: Mode) -> str | None:
    before, after = numbers_of(old), numbers_of(new)
    if after <= before:
        return f"version {new} does not follow {old}: state {next_version(old, bump)}"
    places = len(_BUMPS) - _BUMPS.index(bump)
    if after[:places] > before[:places]:
        return None
    causes = [change for change in changes if bump_for([change], mode) == bump]
    return f"version {new} is no {bump} step from {old}, but {causes[0]}: state {next_version(old, bump)}"
