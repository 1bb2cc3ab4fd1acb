"""`buffetstore analyze`: what hurts in the layout of a data type, and its mending."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from buffetstore.cli.common import (
    DataType,
    DryRun,
    Json,
    Store,
    Yes,
    confirm,
    counted,
    human_bytes,
    manager,
    out,
    print_json,
    run,
)
from buffetstore.cli.upkeep import bar
from buffetstore.tables import CompactResult

if TYPE_CHECKING:
    from buffetstore.query import LayoutReport
    from buffetstore.storage import LayoutChange

_COLOURS = {"high": "red", "medium": "yellow", "low": "dim"}


def analyze(
    data_type: DataType,
    apply: Annotated[bool, typer.Option("--apply", help="Do what can be done about it.")] = False,
    unneeded: Annotated[
        bool, typer.Option("--unneeded", help="Look for files that no version within retention needs, too.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say what hurts in a table's layout: small files, narrow buckets, overlapping files, missing statistics.

    With --apply it is mended by compaction, beside readers and writers; with --unneeded by vacuum too, which asks.
    """

    async def work() -> tuple[LayoutReport, LayoutChange | None]:
        async with manager(store) as storage:
            report = await storage.analyze(data_type, unneeded=unneeded)
            found = report.finding("unneeded_files")
            if not apply or not report.actions:
                return report, None
            if found is not None and not dry_run:
                confirm(f"Delete {found.numbers['files']:,} files of {data_type} for good?", yes=yes, as_json=as_json)
            with bar(f"mend {data_type}", as_json=as_json) as tell:
                return report, await storage.apply(report, dry_run=dry_run, progress=tell)

    report, change = run(work())
    if as_json:
        print_json(report.to_dict() | ({} if change is None else {"change": _plain(change)}))
        return
    _show(report)
    if change is not None:
        for action, line in zip(change.actions, _done(change), strict=True):
            out.print(f"{'would ' if dry_run else ''}{escape(str(action))}: {line}", soft_wrap=True)
        if change.after is not None:
            left = change.after
            out.print(
                f"{counted(report.files, 'file')} became {counted(left.files, 'file')}; "
                f"{counted(len(left.findings), 'finding')} left"
            )
    elif report.actions:
        out.print(f"buffetstore analyze {escape(data_type)} --apply does it: {'; '.join(map(str, report.actions))}")


def _show(report: LayoutReport) -> None:
    out.print(
        f"{escape(report.data_type)} version {report.table_version}: {counted(report.files, 'file')} with "
        f"{counted(report.rows, 'row')} ({human_bytes(report.bytes)}) in {counted(report.buckets, 'bucket')}"
    )
    for each in report.findings:
        colour = _COLOURS[each.severity]
        out.print(
            f"[{colour}]{each.severity:6}[/] {each.kind}: {escape(each.message)}", soft_wrap=True, highlight=False
        )
    if not report.findings:
        out.print("nothing hurts")


def _done(change: LayoutChange) -> list[str]:
    return [
        f"{counted(each.files_removed, 'file')} to {counted(each.files_added, 'file')}"
        if isinstance(each, CompactResult)
        else f"{counted(each.files, 'file')} ({human_bytes(each.bytes)})"
        for each in change.results
    ]


def _plain(change: LayoutChange) -> dict[str, Any]:
    results = [
        asdict(each) if isinstance(each, CompactResult) else {"files": each.files, "bytes": each.bytes}
        for each in change.results
    ]
    return {
        "actions": [str(action) for action in change.actions],
        "results": results,
        "after": None if change.after is None else change.after.to_dict(),
    }
