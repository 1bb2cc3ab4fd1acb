"""What differs in the rules of two versions, and which rows can break what the other version had asked of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from buffetstore.expressions import columns_of, render
from buffetstore.schemas.change import Change, Direction, Kind, counterparts
from buffetstore.schemas.implication import never_false, renamed_columns
from buffetstore.schemas.json_values import NotJSONError, encode_expression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.expressions import Expression
    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract, Rule


def rule_changes(old: Contract, new: Contract) -> Iterator[Change]:
    """Yield what differs in the rules, by name."""
    pairs = counterparts(old.fields, new.fields)
    names = {source.name: name for name, source in pairs.items()}
    before = {rule.name: (rule, renamed_columns(rule.holds, names)) for rule in old.rules}
    after = {rule.name: (rule, rule.holds) for rule in new.rules}
    old_rows = _Rows(old.fields, new.fields, {name: source.name for name, source in pairs.items()})
    new_rows = _Rows(new.fields, old.fields, {source.name: name for name, source in pairs.items()}, names)
    kept_before = {_key(holds) for rule, holds in before.values() if rule.severity == "error"}
    kept_after = {_key(rule.holds) for rule in new.rules if rule.severity == "error"}
    for name in sorted(before.keys() | after.keys()):
        was, is_ = before.get(name), after.get(name)
        breaks = set()
        if is_ and is_[0].severity == "error" and not old_rows.keep(is_[1], kept_before):
            breaks.add(Direction.BACKWARD)
        if was and was[0].severity == "error" and not new_rows.keep(was[1], kept_after):
            breaks.add(Direction.FORWARD)
        change = _rule_change(name, was, is_, frozenset(breaks))
        if change is not None:
            yield change


_Held: TypeAlias = "tuple[Rule, Expression]"


def _rule_change(name: str, was: _Held | None, is_: _Held | None, breaks: frozenset[Direction]) -> Change | None:
    if was is None and is_ is not None:
        return Change(Kind.RULE_ADDED, name, f"{is_[0].severity} unless {render(is_[1])}", breaks)
    if is_ is None and was is not None:
        return Change(Kind.RULE_REMOVED, name, f"no longer {was[0].severity} unless {render(was[1])}", breaks)
    assert was is not None, "the name is of one of the two"
    assert is_ is not None, "the name is of one of the two"
    if (was[0].severity, _key(was[1])) != (is_[0].severity, _key(is_[1])):
        reason = f"{is_[0].severity} unless {render(is_[1])}, was {was[0].severity} unless {render(was[1])}"
        return Change(Kind.RULE_CHANGED, name, reason, breaks)
    if breaks:
        return Change(Kind.RULE_CHANGED, name, "reads a column whose nulls are read as its new default", breaks)
    if (was[0].message, was[0].field) != (is_[0].message, is_[0].field):
        return Change(Kind.WORDS_CHANGED, name, "has another message")
    return None


def _key(holds: Expression) -> str:
    """Return what tells two predicates apart, as their documents do: 1 and True are equal to Python."""
    try:
        return repr(encode_expression(holds))
    except NotJSONError:
        return repr(holds)


class _Rows:
    """What is known of a writer's rows when a reader has made them its own.

    Parameters
    ----------
    writer, reader:
        Their fields.
    sources:
        For a field of the reader, the writer's name of it.
    shown:
        The names by which the rules call the reader's fields, where they differ.
    """

    def __init__(
        self,
        writer: tuple[FieldSpec, ...],
        reader: tuple[FieldSpec, ...],
        sources: dict[str, str],
        shown: dict[str, str] | None = None,
    ) -> None:
        called = shown or {}
        by_name = {spec.name: spec for spec in writer}
        self._constants = {called.get(s.name, s.name): s.default for s in reader if s.name not in sources}
        self._refilled = {
            called.get(spec.name, spec.name)
            for spec in reader
            if spec.name in sources
            and spec.default is not None
            and by_name[sources[spec.name]].nullable
            and by_name[sources[spec.name]].default != spec.default
        }

    def keep(self, holds: Expression, kept: set[str]) -> bool:
        """Tell whether no row can break the rule, given the rules that the writer kept."""
        if _key(holds) in kept and not columns_of(holds) & (self._refilled | self._constants.keys()):
            return True
        return never_false(holds, self._constants)
