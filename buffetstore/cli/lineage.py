"""`buffetstore lineage`: what rows were made of, and what was made of them."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import DataType, Json, Store, counted, err, manager, out, print_json, run
from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from buffetstore.storage.lineage_graph import Direction, LineageGraph, LineageStep


def lineage(
    data_type: DataType,
    version: Annotated[int | None, typer.Option(min=0, help="The table version; else the newest.")] = None,
    up: Annotated[bool, typer.Option("--up", help="Only what it was made of.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what was made of it.")] = False,
    depth: Annotated[int | None, typer.Option(min=1, help="How many tables away; all the way by default.")] = None,
    dot: Annotated[bool, typer.Option("--dot", help="Print the graph for Graphviz: ... --dot | dot -Tsvg.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show what the rows of a data type were made of, and what was made of them, as their writers told."""
    if dot and as_json:
        raise InvalidInputError("--dot and --json are two forms of the same: give one of them")
    direction: Direction = "both" if up == down else "up" if up else "down"
    graph = run(_lineage(store, data_type, version, direction, depth))
    if as_json:
        print_json(graph.to_dict())
    elif dot:
        sys.stdout.write(graph.to_dot())
    else:
        _show(graph)


async def _lineage(
    store: str | None, data_type: str, version: int | None, direction: Direction, depth: int | None
) -> LineageGraph:
    async with manager(store) as storage:
        return await storage.lineage(data_type, version, direction=direction, depth=depth)


def _show(graph: LineageGraph) -> None:
    if graph.steps:
        table = Table("written", "from", "job", "code", "parameters", "time", box=None, padding=(0, 2))
        for step in graph.steps:
            table.add_row(*map(escape, _row(step)))
        out.print(table)
        sources = counted(len(graph.sources), "source")
        out.print(f"[dim]{graph.start}: {counted(len(graph.steps), 'write')}, {sources} outside[/]")
    else:
        out.print(f"nothing is known of {graph.start}: give inputs=... to store_data, or --inputs to ingest")
    for state in graph.incomplete:
        err.print(f"[yellow]not all is known of {state}[/]: its table is gone, or its log begins later")


def _row(step: LineageStep) -> tuple[str, ...]:
    origin = step.origin
    when = step.committed_at
    shown = "" if when is None else (when - timedelta(microseconds=when.microsecond)).isoformat()
    parameters = ", ".join(f"{name}={value}" for name, value in origin.parameters.items())
    return (
        str(step.output),
        ", ".join(map(str, origin.inputs)),
        origin.job or "",
        origin.code_version or "",
        parameters,
        shown,
    )
