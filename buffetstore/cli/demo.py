"""`buffetstore demo`: the newcomer's first sight."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from buffetstore.cli.common import manager, out, run
from buffetstore.demo import run_demo
from buffetstore.resilience.threads import in_thread

_FOLDER = Path("demo-data")


def demo(
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Instead of the folder ./demo-data.", show_default=False),
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Where the picture goes; else beside the data.")] = None,
    no_chart: Annotated[bool, typer.Option("--no-chart", help="Draw no picture.")] = False,
) -> None:
    """Watch real bars being validated, stored, pruned and read back; run it twice."""
    run(_demo(store, None if no_chart else chart or (Path("demo.png") if store else _FOLDER / "demo.png")))


async def _demo(store: str | None, chart: Path | None) -> None:
    if store is None:
        await in_thread(_FOLDER.mkdir, exist_ok=True)
    where = store or str(_FOLDER)
    async with manager(where) as storage:
        await run_demo(storage, out, where=where, chart=chart)
