"""What a query will read, and why no more: the plan, what leaves files out, and what is left to read and to pay.

Pure: a bound plan and the state of its table to an `Explanation`; nothing is asked of the store.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from buffetstore.expressions import And, columns_of, render
from buffetstore.query.cost import Cost, cost_of
from buffetstore.query.selection import columns_read, partitions_of, rounds_of, select
from buffetstore.tables.read_estimate import estimate_reads

if TYPE_CHECKING:
    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.query.answer import QueryAnswer
    from buffetstore.query.binding import BoundPlan
    from buffetstore.query.prices import Prices
    from buffetstore.tables import Snapshot


@dataclass(frozen=True, slots=True)
class Left:
    """The files that are left after something has left others out."""

    after: str
    partitions: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """What an answer takes.

    `round_trips` are those that follow each other; row groups are None where they are not known. `cost` is for what
    the store sends.
    """

    partitions: int
    files: int
    bytes: int
    requests: int
    round_trips: int | None
    cost: Cost
    row_groups: int | None = None
    row_groups_known: int | None = None
    rows: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table is, and what is asked for there: see `cost_of`."""

    url: str
    storage_class: str | None = None
    region: str | None = None
    prices: Prices | None = None

    def cost(self, requests: int, bytes: int) -> Cost:  # noqa: A002 - as `cost_of`
        """Return what reading costs."""
        return cost_of(self.url, requests, bytes, self.storage_class, self.region, prices=self.prices)


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query is answered.

    Parameters
    ----------
    plan:
        Its steps in words, the last one first.
    rules:
        What made its filters simpler.
    predicate:
        The filters as they are tested, with the time range.
    pruning:
        The files that are left, step by step; the first are all there are.
    short_cut:
        What makes reading some of them needless: ``"metadata"``, ``"top-k"``, or None.
    estimated:
        What reading takes with nothing in memory; at most, where a limit may end it before.
    counted:
        What it took, where the query was carried out.
    notes:
        What the numbers do not say.
    """

    data_type: str
    table_version: int
    plan: tuple[str, ...]
    rules: tuple[str, ...]
    predicate: str
    pruning: tuple[Left, ...]
    short_cut: str | None
    estimated: Work
    counted: Work | None = None
    notes: tuple[str, ...] = ()

    def with_answer(self, answer: QueryAnswer, place: Place) -> Explanation:
        """Return the explanation with what the answer took."""
        counted = Work(
            answer.partitions_scanned,
            answer.files_scanned,
            answer.bytes_read,
            answer.requests,
            None,
            place.cost(answer.requests, answer.bytes_read),
            rows=answer.rows,
            seconds=answer.seconds,
        )
        notes = (*self.notes, *answer.notes)
        if answer.cache_hit:
            notes = (*notes, "every byte came from memory: no request was sent")
        return replace(self, counted=counted, short_cut=answer.short_cut, notes=notes)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        found = asdict(self)
        for name in ("estimated", "counted"):
            work: Work | None = getattr(self, name)
            if work is not None:
                found[name]["cost"] = work.cost.to_dict()
        return found

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def explained(bound: BoundPlan, snapshot: Snapshot, place: Place) -> Explanation:
    """Return how the plan is answered in this state of its table; call it in a thread."""
    selection = select(bound, snapshot)
    reads = estimate_reads(snapshot, selection.files, columns_read(bound), bound.tested)
    rounds = 1 if selection.files.num_rows else 0
    if selection.top is None:
        rounds = sum(1 for files in rounds_of(selection.files, bound) if files.num_rows)
    estimated = Work(
        partitions_of(selection.files),
        reads.files,
        reads.bytes,
        reads.requests,
        rounds + (1 if reads.footers else 0),
        place.cost(reads.requests, reads.bytes),
        reads.row_groups if reads.row_groups_known else None,
        reads.row_groups_known or None,
    )
    return Explanation(
        bound.plan.data_type,
        snapshot.version,
        tuple(bound.plan.explain().splitlines()),
        bound.plan.rules,
        "nothing: no row can satisfy it" if bound.is_empty else render(bound.predicate),
        tuple(_pruning(bound, snapshot, selection.files)),
        selection.short_cut,
        estimated,
        notes=tuple(_notes(bound, reads.footers, rounds, is_top=selection.top is not None)),
    )


def _pruning(bound: BoundPlan, snapshot: Snapshot, chosen: pa.Table) -> list[Left]:
    steps = [_left("all there are", snapshot.files)]
    if bound.is_empty:
        return [*steps, _left("contradictory filters", chosen)]
    event_time = frozenset({bound.contract.event_time})
    in_time = _only(bound.tested, event_time)
    if in_time is not None:
        steps.append(_left("time range", snapshot.prune(in_time)))
    if _is_more(bound.tested, event_time):
        steps.append(_left("file statistics", snapshot.prune(bound.tested)))
    if chosen.num_rows != steps[-1].files:
        steps.append(_left("answered from statistics", chosen))
    return steps


def _left(after: str, files: pa.Table) -> Left:
    return Left(after, partitions_of(files), files.num_rows, pc.sum(files["size"]).as_py() or 0)


def _only(predicate: Expression, columns: frozenset[str]) -> Expression | None:
    kept = tuple(part for part in _parts(predicate) if columns_of(part) <= columns)
    return And(kept) if kept else None


def _is_more(predicate: Expression, columns: frozenset[str]) -> bool:
    return any(not columns_of(part) <= columns for part in _parts(predicate))


def _parts(predicate: Expression) -> tuple[Expression, ...]:
    return predicate.parts if isinstance(predicate, And) else (predicate,)


def _notes(bound: BoundPlan, footers: int, rounds: int, *, is_top: bool) -> list[str]:
    notes = []
    if is_top:
        notes.append(
            "files are read best first until no other can hold one of the first rows: the estimate is the most"
        )
    if bound.merge:
        notes.append("revisions are merged: only filters on the key leave files out")
    if footers:
        notes.append(f"of {footers} files the footers are read first; how much of them is needed is a guess")
    if rounds > 1:
        notes.append("files are read one, two, four... at a time until there are enough rows: the estimate is the most")
    return notes


def _lines(explanation: Explanation) -> list[str]:
    found = explanation
    lines = [f"{found.data_type}, table version {found.table_version}", *(f"  {step}" for step in found.plan)]
    lines.append(f"tested: {found.predicate}")
    lines += [f"{step.after}: {step.files} files in {step.partitions}, {step.bytes} bytes" for step in found.pruning]
    if found.short_cut is not None:
        lines.append(f"short cut: {found.short_cut}")
    lines.append(f"estimated: {_in_words(found.estimated)}")
    if found.counted is not None:
        lines.append(f"counted: {_in_words(found.counted)}")
    return [*lines, *found.notes]


def _in_words(work: Work) -> str:
    parts = [f"{work.files} files, {work.bytes} bytes, {work.requests} requests"]
    if work.round_trips is not None:
        parts.append(f"{work.round_trips} round trips")
    if work.row_groups is not None:
        parts.append(f"{work.row_groups} of {work.row_groups_known} row groups")
    total = work.cost.total
    parts.append(f"${total:.8f} ({work.cost.note})" if total is not None else work.cost.note)
    if work.seconds is not None:
        parts.append(f"{work.rows} rows in {work.seconds:.4f} s")
    return ", ".join(parts)
