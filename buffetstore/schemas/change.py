"""One difference between two versions of a contract, and the fields that stand for each other in both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buffetstore.schemas.arrow import FieldSpec


class Direction(StrEnum):
    """Who reads what."""

    BACKWARD = "BACKWARD"
    """The new version reads old data."""
    FORWARD = "FORWARD"
    """The old version reads new data."""


class Kind(StrEnum):
    """What was done."""

    ADDED_OPTIONAL = "added_optional"
    ADDED_REQUIRED = "added_required"
    DROPPED = "dropped"
    RENAMED = "renamed"
    WIDENED = "widened"
    NARROWED = "narrowed"
    RETYPED = "retyped"
    TIGHTENED = "tightened"
    LOOSENED = "loosened"
    UNIT_CHANGED = "unit_changed"
    VALUES_ADDED = "values_added"
    VALUES_REMOVED = "values_removed"
    DEFAULT_CHANGED = "default_changed"
    RULE_ADDED = "rule_added"
    RULE_REMOVED = "rule_removed"
    RULE_CHANGED = "rule_changed"
    CODE_ADDED = "code_added"
    CODE_REMOVED = "code_removed"
    KEY_CHANGED = "key_changed"
    PARTITION_CHANGED = "partition_changed"
    SORT_CHANGED = "sort_changed"
    MEANING_CHANGED = "meaning_changed"
    PROMISE_CHANGED = "promise_changed"
    WORDS_CHANGED = "words_changed"


BACKWARD, FORWARD = frozenset({Direction.BACKWARD}), frozenset({Direction.FORWARD})
BOTH = BACKWARD | FORWARD
NEITHER: frozenset[Direction] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Parameters
    ----------
    kind:
        What was done.
    subject:
        The field (``legs[].ratio`` inside a list), rule or fact that differs; by its new name.
    reason:
        What differs and what follows, in words.
    breaks:
        Which readers it breaks; empty means none.
    rewrites:
        Files of both versions cannot lie in one table: it has to be written anew.
    """

    kind: Kind
    subject: str
    reason: str
    breaks: frozenset[Direction] = NEITHER
    rewrites: bool = False

    def __str__(self) -> str:
        broken = f" [breaks {' and '.join(sorted(self.breaks))}]" if self.breaks else ""
        return f"{self.kind.value} {self.subject}: {self.reason}{broken}"


def counterparts(old: tuple[FieldSpec, ...], new: tuple[FieldSpec, ...]) -> dict[str, FieldSpec]:
    """Return the old field of each new one that has one: by its name, else by one of its aliases."""
    by_name = {spec.name: spec for spec in old}
    kept = {spec.name for spec in new}
    found: dict[str, FieldSpec] = {}
    for spec in new:
        names = [spec.name] if spec.name in by_name else [name for name in spec.aliases if name not in kept]
        source = next((by_name[name] for name in names if name in by_name), None)
        if source is not None:
            found[spec.name] = source
    return found
