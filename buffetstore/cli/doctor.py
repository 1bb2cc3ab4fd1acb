"""`buffetstore doctor`: is this store fit for tables, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.markup import escape

from buffetstore.cli.common import FAILED, Json, Store, object_store, out, print_json, run
from buffetstore.operations import Check, check_store

_MARKS = {"ok": "[green]✓[/]", "failed": "[bold red]✗[/]", "skipped": "[yellow]-[/]"}


def doctor(store: Store = None, as_json: Json = False) -> None:
    """Try list, put, get, conditional put, delete and the clock, and say how to mend what fails.

    Writes one small object under metadata/doctor/ and deletes it. Exit code 1 says that something failed.
    """
    checks = run(_checked(store, as_json))
    if as_json:
        print_json(
            {"ok": all(check.outcome == "ok" for check in checks), "checks": [asdict(check) for check in checks]}
        )
    elif all(check.outcome == "ok" for check in checks):
        out.print("[bold green]all is well[/]")
    if any(check.outcome == "failed" for check in checks):
        raise typer.Exit(FAILED)


async def _checked(url: str | None, as_json: bool) -> list[Check]:
    checks = []
    async with object_store(url) as store:
        if not as_json:
            out.print(f"[bold]{escape(store.url)}[/]")
        async for check in check_store(store):
            checks.append(check)
            if not as_json:
                _show(check)
    return checks


def _show(check: Check) -> None:
    took = f" [dim]{check.milliseconds:.0f} ms[/]" if check.milliseconds else ""
    out.print(
        f"  {_MARKS[check.outcome]} {check.name:<16} {escape(check.detail)}{took}", highlight=False, soft_wrap=True
    )
    if check.mend:
        out.print(f"    [yellow]→ {escape(check.mend)}[/]", highlight=False, soft_wrap=True)
