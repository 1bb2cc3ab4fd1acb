"""What differs between two versions of a contract, in words, and which readers each difference breaks.

BACKWARD is broken where the new version cannot read all that was stored under the old one, FORWARD where the old one
cannot read all that will be stored under the new. A demand that grows breaks the first, one that shrinks the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.schemas.change import BACKWARD, BOTH, FORWARD, NEITHER, Change, Direction, Kind, counterparts
from buffetstore.schemas.fill import BUILT_IN
from buffetstore.schemas.rule_changes import rule_changes
from buffetstore.schemas.types import SPELLINGS
from buffetstore.schemas.values import UnfitValueError, converter
from buffetstore.schemas.widening import Demand, Fit, demands_of, fit_of, numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract


def diff(old: Contract, new: Contract) -> list[Change]:
    """Return every difference between two versions of a data type: fields, rules, then the facts of the whole."""
    return [*_fields(old, new), *rule_changes(old, new), *_code(old, new), *_facts(old, new)]


def is_upcast(field: str, old: Contract, new: Contract) -> bool:
    """Tell whether the new version declares how it makes this field of old rows."""
    return any(
        step.field == field and numbers_of(old.version) < numbers_of(step.before) <= numbers_of(new.version)
        for step in new.upcasts
    )


def _fields(old: Contract, new: Contract) -> Iterator[Change]:
    covered = {spec.name for spec in new.fields if is_upcast(spec.name, old, new)}
    for change in _differing(old.fields, new.fields, ""):
        if change.subject.partition(".")[0].partition("[")[0] in covered and Direction.BACKWARD in change.breaks:
            reason = f"{change.reason}; old rows are read by the up-cast that the new version declares"
            yield Change(change.kind, change.subject, reason, change.breaks - BACKWARD)
        else:
            yield change


def _differing(old: tuple[FieldSpec, ...], new: tuple[FieldSpec, ...], path: str) -> Iterator[Change]:
    pairs = counterparts(old, new)
    for spec in new:
        source = pairs.get(spec.name)
        if source is None:
            yield _added(spec, path)
            continue
        if source.name != spec.name:
            reason = f"was {source.name!r}: old data is read by the alias, old readers do not know the new name"
            yield Change(Kind.RENAMED, path + spec.name, reason, FORWARD)
        yield from _field(source, spec, path + spec.name, nested=bool(path))
    taken = {source.name for source in pairs.values()}
    for spec in old:
        if spec.name not in taken:
            yield _dropped(spec, path)


def _added(spec: FieldSpec, path: str) -> Change:
    name = path + spec.name
    if spec.nullable:
        return Change(Kind.ADDED_OPTIONAL, name, f"is new and may be null ({spec.type})")
    if spec.default is not None and not path:
        return Change(Kind.ADDED_OPTIONAL, name, f"is new; old data has {spec.default!r}")
    return Change(Kind.ADDED_REQUIRED, name, f"is new and required ({spec.type}): old data has no value", BACKWARD)


def _dropped(spec: FieldSpec, path: str) -> Change:
    if spec.nullable:
        return Change(Kind.DROPPED, path + spec.name, "is gone; old readers find null")
    if spec.default is not None and not path:
        return Change(Kind.DROPPED, path + spec.name, f"is gone; old readers find {spec.default!r}")
    return Change(Kind.DROPPED, path + spec.name, "is gone, and old readers require it", FORWARD)


def _field(old: FieldSpec, new: FieldSpec, path: str, *, nested: bool) -> Iterator[Change]:
    yield from _type(old, new, path)
    if old.unit != new.unit:
        both_said = old.unit is not None and new.unit is not None
        reason = f"counts {new.unit or 'nothing stated'}, was {old.unit or 'not stated'}"
        yield Change(Kind.UNIT_CHANGED, path, reason, BOTH if both_said else NEITHER)
    yield from _null(old, new, path, nested=nested)
    if fit_of(old, new) is not Fit.OTHER:
        yield from _bounds(old, new, path)
    yield from _choices(old, new, path)
    if _spellings(old) != _spellings(new):
        yield Change(Kind.PROMISE_CHANGED, path, "takes other spellings when it is written")
    if _default(old) != _default(new):
        yield Change(Kind.DEFAULT_CHANGED, path, f"has the default {new.default!r}, was {old.default!r}")
    if old.sensitivity != new.sensitivity:
        reason = f"is {new.sensitivity or 'of no stated sensitivity'}, was {old.sensitivity or 'not stated'}"
        yield Change(Kind.PROMISE_CHANGED, path, reason)
    if (old.description, old.aliases) != (new.description, new.aliases):
        yield Change(Kind.WORDS_CHANGED, path, "has another description or other aliases")


def _default(spec: FieldSpec) -> Any:
    """Return the default as its column holds it: a class may write 0 for the decimal, or a member of an enum."""
    try:
        return converter(spec.type)(spec.default)
    except UnfitValueError:
        return repr(spec.default)


def _spellings(spec: FieldSpec) -> list[Any]:
    """Return the spellings that a document names; others are custom code."""
    return [mark.spell for mark in spec.spellings if mark.spell in SPELLINGS.values()]


def _type(old: FieldSpec, new: FieldSpec, path: str) -> Iterator[Change]:
    fit = fit_of(old, new)
    if fit is Fit.NESTED:
        if pa.types.is_list(new.type):
            yield from _field(old.children[0], new.children[0], f"{path}[]", nested=True)
        else:
            yield from _differing(old.children, new.children, f"{path}.")
    elif fit is Fit.WIDER:
        yield Change(Kind.WIDENED, path, f"is {new.type}, was {old.type}: holds every old value", FORWARD)
    elif fit is Fit.NARROWER:
        yield Change(Kind.NARROWED, path, f"is {new.type}, was {old.type}: does not hold every old value", BACKWARD)
    elif fit is Fit.OTHER:
        yield Change(Kind.RETYPED, path, f"is {new.type}, was {old.type}: neither holds every value of the other", BOTH)


def _null(old: FieldSpec, new: FieldSpec, path: str, *, nested: bool) -> Iterator[Change]:
    if old.nullable and not new.nullable:
        filled = new.default is not None and not nested
        reason = f"is required; null is read as {new.default!r}" if filled else "is required, and could be null"
        yield Change(Kind.TIGHTENED, path, reason, NEITHER if filled else BACKWARD)
    elif new.nullable and not old.nullable:
        filled = old.default is not None and not nested
        reason = f"may be null, which old readers take for {old.default!r}" if filled else "may be null, was required"
        yield Change(Kind.LOOSENED, path, reason, NEITHER if filled else FORWARD)


def _bounds(old: FieldSpec, new: FieldSpec, path: str) -> Iterator[Change]:
    before, after = demands_of(old), demands_of(new)
    for name in sorted(before.keys() | after.keys()):
        was, is_ = before.get(name), after.get(name)
        if was is not None and is_ is not None and was.order == is_.order:
            continue
        grows = was is None or (is_ is not None and is_.is_stricter_than(was))
        reason = f"{name} {_shown(is_)}, was {_shown(was)}"
        yield Change(Kind.TIGHTENED if grows else Kind.LOOSENED, path, reason, BACKWARD if grows else FORWARD)


def _shown(demand: Demand | None) -> str:
    return "not stated" if demand is None else demand.shown


def _choices(old: FieldSpec, new: FieldSpec, path: str) -> Iterator[Change]:
    if old.choices is None and new.choices is not None:
        yield Change(Kind.TIGHTENED, path, f"takes {', '.join(new.choices)} only, was any text", BACKWARD)
    elif old.choices is not None and new.choices is None:
        yield Change(Kind.LOOSENED, path, f"takes any text, was one of {', '.join(old.choices)}", FORWARD)
    elif old.choices is not None and new.choices is not None:
        added = [word for word in new.choices if word not in old.choices]
        removed = [word for word in old.choices if word not in new.choices]
        if added:
            yield Change(Kind.VALUES_ADDED, path, f"may be {', '.join(added)}, unknown to old readers", FORWARD)
        if removed:
            yield Change(Kind.VALUES_REMOVED, path, f"may no longer be {', '.join(removed)}, as old data is", BACKWARD)


def _code(old: Contract, new: Contract) -> Iterator[Change]:
    for custom in sorted(set(new.custom) - set(old.custom)):
        if custom.kind == "validator":
            yield Change(Kind.CODE_ADDED, custom.name, f"{custom} is new; what it refuses is not known", BACKWARD)
        else:
            yield Change(Kind.CODE_ADDED, custom.name, f"{custom} is new")
    for custom in sorted(set(old.custom) - set(new.custom)):
        if custom.kind == "validator":
            yield Change(Kind.CODE_REMOVED, custom.name, f"{custom} is gone; what it refused is not known", FORWARD)
        else:
            yield Change(Kind.CODE_REMOVED, custom.name, f"{custom} is gone")


def _facts(old: Contract, new: Contract) -> Iterator[Change]:
    names = {source.name: name for name, source in counterparts(old.fields, new.fields).items()}

    def renamed(columns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(column, column) for column in columns)

    if renamed(old.key) != new.key:
        reason = f"is ({', '.join(new.key)}), was ({', '.join(old.key)}): the same row is another fact"
        yield Change(Kind.KEY_CHANGED, "key", reason, BOTH, rewrites=True)
    if renamed(old.partition_by) != new.partition_by:
        reason = f"({', '.join(new.partition_by)}), was ({', '.join(old.partition_by)}): files have to be written anew"
        yield Change(Kind.PARTITION_CHANGED, "partition_by", reason, rewrites=True)
    if renamed(old.sort_by) != new.sort_by and (old.sort_by != old.key or new.sort_by != new.key):
        reason = f"({', '.join(new.sort_by)}), was ({', '.join(old.sort_by)}): old files keep their order"
        yield Change(Kind.SORT_CHANGED, "sort_by", reason)
    if renamed((old.event_time,)) != (new.event_time,):
        reason = f"is {new.event_time}, was {old.event_time}: files are laid out by it"
        yield Change(Kind.MEANING_CHANGED, "event_time", reason, BOTH, rewrites=True)
    if old.revisions != new.revisions:
        reason = f"is {new.revisions}, was {old.revisions}: a second row of a key means something else"
        yield Change(Kind.MEANING_CHANGED, "revisions", reason, BOTH)
    if old.availability != new.availability:
        breaks = BACKWARD if new.availability == "observed" else FORWARD
        reason = f"is {new.availability}, was {old.availability}: who vouches for available_at"
        yield Change(Kind.MEANING_CHANGED, "availability", reason, breaks)
    if _fills(old) != _fills(new):
        yield Change(Kind.PROMISE_CHANGED, "fills", "rows that leave something out are completed otherwise")
    if old.service_levels != new.service_levels:
        yield Change(Kind.PROMISE_CHANGED, "service_levels", f"{new.service_levels}, was {old.service_levels}")
    if old.quality != new.quality:
        labels = ", ".join(check.label for check in new.quality) or "none"
        yield Change(Kind.PROMISE_CHANGED, "quality", f"other checks are run beyond rows: {labels}")
    for fact in ("symbol", "category", "owner", "description"):
        if getattr(old, fact) != getattr(new, fact):
            yield Change(Kind.WORDS_CHANGED, fact, f"{getattr(new, fact)!r}, was {getattr(old, fact)!r}")


def _fills(contract: Contract) -> list[tuple[str, Any]]:
    """Return the fills that a document names; others are custom code."""
    return [(fill.name, fill.same) for fill in contract.fills if fill.same or fill in BUILT_IN]
