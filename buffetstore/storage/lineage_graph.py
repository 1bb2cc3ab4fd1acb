"""Where the rows of a data type come from, and where they went: commits and their inputs, from data type to data type.

A commit names what its rows were made of (`store_data(inputs=...)`). An input ``"<data_type>@<table_version>"`` is the
state of another table, and is walked on; everything else is a source outside. The history of a state goes back to the
last commit that replaced all rows, and a restored state to the version it was restored from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from buffetstore.errors import InvalidInputError
from buffetstore.storage.lineage import Lineage, read_lineage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from buffetstore.tables.history import CommitRecord

Direction: TypeAlias = Literal["up", "down", "both"]
DIRECTIONS = ("up", "down", "both")
_CREATED = ("CREATE TABLE", "CREATE OR REPLACE TABLE", "REPLACE TABLE")


class State(NamedTuple):
    """A data type at a table version."""

    data_type: str
    table_version: int

    def __str__(self) -> str:
        return f"{self.data_type}@{self.table_version}"


@dataclass(frozen=True, slots=True)
class LineageStep:
    """One write: what it was made of, and what it became.

    Several writes that were committed together are one step each, of the same version.
    """

    output: State
    origin: Lineage
    operation: str | None = None
    committed_at: datetime | None = None

    @property
    def inputs(self) -> tuple[State | str, ...]:
        """Tables at a version, and sources by name."""
        return tuple(state_of(each) or each for each in self.origin.inputs)


@dataclass(frozen=True, slots=True)
class LineageGraph:
    """What was found by walking from `start`.

    Parameters
    ----------
    start:
        The state that was asked about.
    steps:
        The writes, each once: those of `start` first, then what was found from them.
    incomplete:
        States whose history is not all there: their table is gone, or its log begins later. The walk ends there.
    """

    start: State
    steps: tuple[LineageStep, ...]
    incomplete: tuple[State, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """What rows were made of that is no table here, sorted."""
        return tuple(sorted({each for step in self.steps for each in step.inputs if isinstance(each, str)}))

    @property
    def data_types(self) -> tuple[str, ...]:
        """Every data type on the way, sorted."""
        found = {self.start.data_type}
        for step in self.steps:
            found.add(step.output.data_type)
            found.update(each.data_type for each in step.inputs if isinstance(each, State))
        return tuple(sorted(found))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for ``--json``."""
        return {
            "start": self.start._asdict(),
            "steps": [
                {"output": step.output._asdict(), "operation": step.operation, "committed_at": step.committed_at}
                | asdict(step.origin)
                for step in self.steps
            ],
            "sources": list(self.sources),
            "incomplete": [state._asdict() for state in self.incomplete],
        }

    def to_dot(self) -> str:
        """Return the graph for Graphviz (``dot -Tsvg``): boxes are tables, ellipses sources, arrows writes by job."""
        edges: dict[tuple[str, str], list[LineageStep]] = {}
        for step in self.steps:
            for each in step.inputs:
                source = each.data_type if isinstance(each, State) else each
                edges.setdefault((source, step.output.data_type), []).append(step)
        lines = ["digraph lineage {", "  rankdir=LR;"]
        lines += [f"  {_quoted(name)} [shape=box];" for name in self.data_types]
        lines += [f"  {_quoted(name)} [shape=ellipse];" for name in self.sources]
        lines += [
            f"  {_quoted(source)} -> {_quoted(output)} [label={_quoted(_label(steps))}];"
            for (source, output), steps in sorted(edges.items(), key=lambda edge: edge[0])
        ]
        return "\n".join([*lines, "}"]) + "\n"


def state_of(given: str) -> State | None:
    """Return the state that an input names, None where it is a source outside.

    >>> state_of("market_data@12")
    State(data_type='market_data', table_version=12)
    >>> state_of("vendor@example.com")
    """
    data_type, at, version = given.rpartition("@")
    if not (at and data_type and version.isascii() and version.isdigit()):
        return None
    return State(data_type, int(version))


class Walker:
    """Walks from state to state; each table's history is read once.

    Parameters
    ----------
    history:
        The commits of a data type, newest first; raises where there is no such table.
    data_types:
        All that are stored: a walk down looks at the inputs of every one.
    """

    def __init__(
        self,
        history: Callable[[str], Awaitable[Sequence[CommitRecord] | None]],
        data_types: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        self._read = history
        self._data_types = data_types
        self._histories: dict[str, Sequence[CommitRecord] | None] = {}
        self._commits_of: dict[State, tuple[list[int], bool]] = {}

    async def walk(self, start: State, direction: Direction, depth: int | None) -> LineageGraph:
        """Return the graph from `start`, at most `depth` tables away."""
        steps: dict[LineageStepKey, LineageStep] = {}
        incomplete: dict[State, None] = {}
        for way in ("up", "down"):
            if direction not in (way, "both"):
                continue
            level, seen = [start], {start}
            for _ in count() if depth is None else range(depth):
                found = await (self._up(level, incomplete) if way == "up" else self._down(level))
                steps.update((_key(step), step) for step in found)
                onward = _inputs(found) if way == "up" else (step.output for step in found)
                level = [state for state in dict.fromkeys(onward) if state not in seen]
                seen.update(level)
                if not level:
                    break
        return LineageGraph(start, tuple(steps.values()), tuple(incomplete))

    async def _up(self, level: Iterable[State], incomplete: dict[State, None]) -> list[LineageStep]:
        found: list[LineageStep] = []
        for state in level:
            versions, whole = await self._commits(state)
            made = set(versions)
            for record in await self._history(state.data_type) or ():
                if record.version in made:
                    found += steps_of(state.data_type, record)
            if not whole:
                incomplete[state] = None
        return found

    async def _down(self, level: Sequence[State]) -> list[LineageStep]:
        """Return the writes that read one of these states, or another that holds rows of it."""
        wanted: dict[str, set[int]] = {}
        for state in level:
            wanted.setdefault(state.data_type, set()).update((await self._commits(state))[0] or [state.table_version])
        found = []
        for data_type in await self._data_types():
            for record in await self._history(data_type) or ():
                for step in steps_of(data_type, record):
                    for read in step.inputs:
                        if isinstance(read, State) and read.data_type in wanted:
                            commits = (await self._commits(read))[0] or [read.table_version]
                            if not wanted[read.data_type].isdisjoint(commits):
                                found.append(step)
                                break
        return found

    async def _commits(self, state: State) -> tuple[list[int], bool]:
        if state not in self._commits_of:
            records = await self._history(state.data_type)
            self._commits_of[state] = commits_of(state.table_version, records or ())
        return self._commits_of[state]

    async def _history(self, data_type: str) -> Sequence[CommitRecord] | None:
        if data_type not in self._histories:
            self._histories[data_type] = await self._read(data_type)
        return self._histories[data_type]


def commits_of(version: int, records: Sequence[CommitRecord]) -> tuple[list[int], bool]:
    """Return the commits whose rows a version may hold, newest first, and whether the log has all of them.

    Parameters
    ----------
    records:
        The table's commits, newest first.
    """
    by_version = {record.version: record for record in records}
    found: list[int] = []
    while version >= 0:
        record = by_version.get(version)
        if record is None:
            return found, False
        restored = _restored(record, records)
        if restored is not None:
            version = restored
            continue
        found.append(version)
        if record.operation in _CREATED or _replaces_all(record):
            break
        version -= 1
    return found, True


def _restored(record: CommitRecord, records: Sequence[CommitRecord]) -> int | None:
    """Return the version that a commit went back to, None for every other commit."""
    if record.operation != "RESTORE":
        return None
    asked = record.parameters.get("version")
    if asked is not None and str(asked).isdigit() and int(asked) < record.version:
        return int(asked)
    try:
        moment = datetime.fromisoformat(str(record.parameters.get("timestamp")))
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    earlier = (each for each in records if each.version < record.version)
    return next((each.version for each in earlier if each.committed_at and each.committed_at <= moment), None)


def _replaces_all(record: CommitRecord) -> bool:
    return record.parameters.get("mode") == "Overwrite" and not record.parameters.get("predicate")


def steps_of(data_type: str, record: CommitRecord) -> list[LineageStep]:
    """Return the writes that a commit tells of."""
    state = State(data_type, record.version)
    told = read_lineage(record.user_metadata)
    return [LineageStep(state, each, record.operation, record.committed_at or record.timestamp) for each in told]


def check_walk(direction: str, depth: int | None) -> None:
    """Raise `InvalidInputError` for a direction that there is not, or a depth that is none."""
    if direction not in DIRECTIONS:
        raise InvalidInputError(f"direction={direction!r} is none of {', '.join(map(repr, DIRECTIONS))}")
    if depth is not None and depth < 1:
        raise InvalidInputError(f"depth={depth} is no number of steps: give 1 or more, or None for all")


LineageStepKey: TypeAlias = tuple[State, str]


def _key(step: LineageStep) -> LineageStepKey:
    return step.output, step.origin.to_json()


def _inputs(steps: Iterable[LineageStep]) -> Iterable[State]:
    return (each for step in steps for each in step.inputs if isinstance(each, State))


def _label(steps: Sequence[LineageStep]) -> str:
    jobs = sorted({" ".join(filter(None, (step.origin.job, step.origin.code_version))) for step in steps} - {""})
    versions = sorted({step.output.table_version for step in steps})
    span = f"version {versions[0]}" if len(versions) == 1 else f"versions {versions[0]} to {versions[-1]}"
    return "\n".join([*jobs, span])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
