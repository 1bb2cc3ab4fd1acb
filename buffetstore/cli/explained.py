"""How a query is answered, on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import counted, human_bytes, out, print_json

if TYPE_CHECKING:
    from buffetstore.manager import StorageManager
    from buffetstore.query import DataQuery, Explanation
    from buffetstore.query.explain import Work


async def explain(
    storage: StorageManager,
    wanted: DataQuery,
    *,
    analyze: bool,
    region: str | None,
    storage_class: str | None,
    as_json: bool,
) -> None:
    """Print how the query is answered; with `analyze` what it took too."""
    found = await storage.explain(wanted, analyze=analyze, region=region, storage_class=storage_class)
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)


def _show(found: Explanation) -> None:
    out.print(f"[bold]{escape(found.data_type)}[/], table version {found.table_version}")
    for depth, step in enumerate(found.plan):
        out.print(f"{'  ' * (depth + 1)}{escape(step)}")
    out.print(f"tested: {escape(found.predicate)}")
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for name in ("left after", "partitions", "files", "size"):
        table.add_column(name, justify="left" if name == "left after" else "right", no_wrap=True)
    for left in found.pruning:
        table.add_row(left.after, f"{left.partitions:,}", f"{left.files:,}", human_bytes(left.bytes))
    out.print(table)
    if found.short_cut is not None:
        out.print(f"short cut: {found.short_cut}")
    out.print(f"estimated: {escape(_in_words(found.estimated))}")
    if found.counted is not None:
        out.print(f"counted: {escape(_in_words(found.counted))}")
    out.print(f"[dim]{escape(found.estimated.cost.note)}[/]")
    for note in found.notes:
        out.print(f"[dim]{escape(note)}[/]")


def _in_words(work: Work) -> str:
    parts = [counted(work.files, "file"), human_bytes(work.bytes), counted(work.requests, "request")]
    if work.row_groups is not None:
        parts.append(f"{work.row_groups} of {counted(work.row_groups_known or 0, 'known row group')}")
    if work.round_trips is not None:
        parts.append(counted(work.round_trips, "round trip"))
    if work.cost.total is not None:
        parts.append(f"${work.cost.total:.8f}")
    if work.seconds is not None:
        parts.append(f"{counted(work.rows or 0, 'row')} in {work.seconds * 1000:.0f} ms")
    return ", ".join(parts)
