"""`buffetstore quality run` and `results`: checks beyond a row, and what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import FAILED, Json, Store, counted, human_bytes, manager, out, print_json, progress, run
from buffetstore.errors import InvalidInputError
from buffetstore.schemas.stored import parse_json
from buffetstore.schemas.stored_quality import check_of
from buffetstore.storage.quality.checks import RESULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.schemas import QualityCheck
    from buffetstore.storage.quality import CheckResult, QualityReport

app = typer.Typer(help="Checks beyond a row: gaps, duplicates, outliers, crossed quotes.", no_args_is_help=True)

_COLORS = {"passed": "green", "failed": "red", "unknown": "yellow"}
_SHOWN = 5


@app.command("run")
def run_checks(
    data_type: Annotated[
        str | None, typer.Argument(help="market_data, forecasts, options_data...", show_default="all")
    ] = None,
    checks: Annotated[
        list[str] | None,
        typer.Option(
            "--check",
            help='Only this check of those declared, or one as JSON: \'{"check": "null_rate", "column": "volume"}\'; '
            "repeat it.",
        ),
    ] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; repeat it for more.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="First day, or moment with a zone, in it.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last day (in it), or the moment before which.")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Store the results as quality_results.")] = True,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Run the quality checks that a data type declares, and keep what they found.

    Exit code 1 says that a check of severity error failed.
    """
    dates = {name: value for name, value in (("start", start), ("end", end)) if value} or None
    options = {
        "checks": [_check(text) for text in checks] if checks else None,
        "symbols": symbol or None,
        "date_range": dates,
        "store": keep,
    }
    reports = run(_run(store, data_type, options, as_json))
    if as_json:
        print_json([report.summary() for report in reports])
    elif not reports:
        out.print("nothing is stored here yet; see: buffetstore ingest --help")
    for report in () if as_json else reports:
        _show_report(report)
    if not all(report.ok for report in reports):
        raise typer.Exit(FAILED)


@app.command("results")
def show_results(
    data_type: Annotated[str | None, typer.Argument(help="Only of this one.", show_default="all")] = None,
    since: Annotated[str | None, typer.Option(help="Of runs since this day, or this moment with a zone.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every run, not only the last one of each check.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show what quality checks found before, newest first."""

    async def work() -> list[CheckResult]:
        async with manager(store) as storage:
            return await storage.quality.results(data_type, since)

    found = run(work())
    if not every:
        last: dict[tuple[str, str, str], CheckResult] = {}
        for result in found:
            last.setdefault((result.data_type, result.check, result.scope), result)
        found = list(last.values())
    if as_json:
        print_json([result.summary() for result in found])
    elif not found:
        out.print("no check has been run here; see: buffetstore quality run --help")
    else:
        out.print(_table(found, dated=True))


async def _run(store: str | None, data_type: str | None, options: dict[str, Any], as_json: bool) -> list[QualityReport]:
    async with manager(store) as storage:
        names = [data_type] if data_type else [name for name in await storage.list_data_types() if name != RESULTS]
        reports = []
        for name in names:
            with progress(as_json=as_json) as bars:
                bars.add_task(f"quality of {escape(name)}", total=None, note="")
                reports.append(await storage.quality.run(name, **options))
        return reports if data_type else [report for report in reports if report.results]


def _check(text: str) -> QualityCheck | str:
    if not text.lstrip().startswith("{"):
        return text
    try:
        return check_of(parse_json(text))
    except ValueError as error:
        raise InvalidInputError(f"--check {text!r}: {error}") from error


def _show_report(report: QualityReport) -> None:
    name = escape(report.data_type)
    if not report.results:
        out.print(f"{name} declares no quality checks: class ...(Record, ..., quality=(Duplicates(),))")
        return
    out.print(_table(report.results, dated=False))
    for result in report.failed:
        for example in result.examples[:_SHOWN]:
            words = ", ".join(f"{column} {value}" for column, value in example.items())
            out.print(f"  [dim]{escape(result.check)}:[/] {escape(words)}", highlight=False, soft_wrap=True)
        if len(result.examples) > _SHOWN:
            out.print(f"  [dim]{escape(result.check)}: --json gives {len(result.examples)}[/]")
    verdict = "[bold green]ok[/]" if report.ok else "[bold red]not ok[/]"
    out.print(
        f"{name} is {verdict}: {counted(len(report.results), 'check')}, {counted(len(report.failed), 'failure')}; "
        f"{human_bytes(report.bytes_read)} read in {report.seconds:.1f} s, table version {report.table_version}"
    )


def _table(results: Sequence[CheckResult], *, dated: bool) -> Table:
    columns = (("run at", "scope") if dated else ()) + ("data type", "check", "", "what was found")
    table = Table(*columns, box=None, padding=(0, 2), header_style="bold")
    for result in results:
        mild = result.status == "failed" and result.severity == "warning"
        color = "yellow" if mild else _COLORS[result.status]
        when = (f"{result.ran_at:%Y-%m-%d %H:%M}", escape(result.scope)) if dated else ()
        told = f"[{color}]{'warning' if mild else result.status}[/]"
        table.add_row(*when, escape(result.data_type), escape(result.check), told, escape(result.message))
    return table
