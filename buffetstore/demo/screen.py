"""How the demo looks."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from buffetstore.demo.foreign import ForeignRead
    from buffetstore.errors import SchemaValidationError
    from buffetstore.query import QueryAnswer
    from buffetstore.storage import StoreResult


class Screen:
    """Prints the demo's steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = 0

    def title(self, url: str) -> None:
        """Say what this is."""
        self._console.print(
            Panel(
                f"Validated financial data in open tables. What follows happens now, at\n[cyan]{escape(url)}[/]",
                title="[bold]buffetstore[/]",
                border_style="cyan",
                padding=(1, 2),
                expand=False,
            )
        )

    def step(self, name: str, text: str) -> None:
        """Begin a step, and say in a line what it shows."""
        self._step += 1
        self._console.print(f"\n[bold cyan]{self._step}  {escape(name)}[/]", highlight=False)
        self._line(f"[dim]{escape(text)}[/]")

    def code(self, line: str) -> None:
        """Show the line of code that does it."""
        self._line(f"[magenta]{escape(line)}[/]")

    def note(self, text: str) -> None:
        """Add a line."""
        self._line(f"[cyan]·[/] {escape(text)}")

    def done(self, text: str) -> None:
        """Say that something went well; `text` is markup."""
        self._line(f"[bold green]✓[/] {text}")

    def _line(self, markup: str) -> None:
        self._console.print(Padding(Text.from_markup(markup), (0, 0, 0, 3), expand=False))

    def stored(self, result: StoreResult) -> None:
        """Show what a store call did."""
        if result.rows == result.unchanged:
            self.done(f"{result.rows:,} rows, every one stored already: [bold]unchanged[/], nothing written")
            return
        self.done(
            f"[bold]{result.rows:,}[/] rows validated and stored in {result.seconds:.2f} s: {result.inserted:,} new, "
            f"{result.updated:,} updated, {result.unchanged:,} unchanged"
        )
        files = len(result.file_paths)
        self.note(
            f"{files} Parquet file{'s' if files != 1 else ''}, {size(result.bytes_written)}, table version "
            f"{result.table_version}; {result.rounded:,} values rounded to their column's scale"
        )
        if result.file_path:
            path = Text("· ", style="dim").append(result.file_path)
            path.no_wrap, path.overflow = True, "ellipsis"
            self._console.print(Padding(path, (0, 0, 0, 3), expand=False))

    def refused(self, row: Mapping[str, Any], error: SchemaValidationError) -> None:
        """Show a row, and the error as a caller sees it."""
        self._line("[dim]" + escape(", ".join(f"{name}={value}" for name, value in row.items())) + "[/]")
        self._line(f"[bold red]✗ {type(error).__name__}[/] {escape(str(error))}")

    def answers(self, answers: Mapping[str, QueryAnswer]) -> None:
        """Show what each query read, and what it did not have to."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        table.add_column("question", min_width=26)
        for name in ("rows", "time\nbuckets", "files\nread", "files\npruned", "bytes", "ms"):
            table.add_column(name, justify="right")
        for question, answer in answers.items():
            table.add_row(
                escape(question),
                f"{answer.rows:,}",
                f"{answer.partitions_scanned} of {answer.partitions_total}",
                f"{answer.files_scanned:,}",
                f"[bold green]{answer.files_pruned:,}[/]",
                "from memory" if answer.cache_hit else size(answer.bytes_read),
                f"{answer.seconds * 1000:.1f}",
            )
        self._console.print(Padding(table, (0, 0, 0, 2), expand=False))

    def foreign(self, reads: Sequence[ForeignRead], rows: int, volume: int) -> None:
        """Show that others find the same."""
        for read in reads:
            same = (read.rows, read.volume) == (rows, volume)
            mark = "[bold green]✓ the same[/]" if same else "[bold red]✗ not the same[/]"
            self._line(
                f"{mark} {read.library:<9} {read.rows:,} rows, {read.volume:,} shares traded, "
                f"{read.seconds * 1000:.0f} ms"
            )

    def metrics(self, summary: Mapping[str, Any], cache: Mapping[str, Any]) -> None:
        """Show what has been counted meanwhile."""
        self.step("Look at the metrics", "Counted all along: the same numbers go to Prometheus and to your logs.")
        uploads, queries = summary["uploads"], summary["queries"]
        rows = [
            (
                "uploads",
                uploads["count"],
                f"{uploads['failed']} refused",
                uploads["rows_written"],
                uploads["bytes_out"],
            ),
            ("queries", queries["count"], f"{queries['failed']} failed", queries["rows_read"], queries["bytes_in"]),
        ]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for name in ("", "calls", "", "rows", "bytes", "median ms", "slowest ms"):
            table.add_column(name, justify="left" if not name else "right")
        for (name, calls, failed, number, moved), kind in zip(rows, (uploads, queries), strict=True):
            seconds = kind["seconds"]
            table.add_row(
                name,
                f"{calls}",
                failed,
                f"{number:,}",
                size(moved),
                f"{seconds['p50'] * 1000:.1f}",
                f"{seconds['max'] * 1000:.1f}",
            )
        self._console.print(Padding(table, (0, 0, 0, 2), expand=False))
        self.note(
            f"{queries['files_pruned_share']:.0%} of the files that queries might have read were pruned; "
            f"{cache['hit_rate']:.0%} of queries answered from memory; {summary['retries']} retries"
        )

    def drawn(self, chart: Path) -> None:
        """Say where the picture is."""
        self.done(f"[bold]{escape(str(chart))}[/]")

    def end(self, where: str, seconds: float) -> None:
        """Say what to do next."""
        program = _program()
        commands = (
            f"export BUFFETSTORE_URL={where}",
            f"{program} ls",
            f"{program} query market_data --symbol AAPL --from 2008-10-06 --to 2008-10-10",
            f"{program} describe market_data",
        )
        lines = "\n".join(f"[magenta]{escape(command)}[/]" for command in commands)
        text = f"Done in {seconds:.1f} s; run it again, and everything is unchanged. Go on with\n\n{lines}"
        self._console.print()
        self._console.print(Panel(text, border_style="cyan", padding=(1, 2), expand=False), highlight=False)


def _program() -> str:
    """Return how a shell calls the command: by its name where that is on the path, else by its place."""
    if shutil.which("buffetstore"):
        return "buffetstore"
    return os.path.relpath(Path(sys.executable).with_name("buffetstore"))


def size(number: float) -> str:
    """Return a number of bytes to read: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
