"""The commands put together, and what an error looks like.

Exit codes: 0 done; 1 failed; 2 wrong usage (an unknown option, data type or column, a setting that is missing);
3 rows were rejected; 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer

from buffetstore.cli import (
    catalog,
    changes,
    delete,
    demo,
    doctor,
    emulate,
    ingest,
    layout,
    lineage,
    quality,
    quarantine,
    query,
    schema,
    transfers,
    upkeep,
    versions,
)
from buffetstore.cli.common import report_error
from buffetstore.errors import StorageError

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 rows were rejected, 130 interrupted."
VERSIONS = "Versions and upkeep of a data type"

app = typer.Typer(
    name="buffetstore",
    help="Validated financial data as Delta tables in GCS, S3 or a local folder.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("ingest")(ingest.ingest)
app.command("query")(query.query)
app.command("ls")(catalog.ls)
app.command("describe")(catalog.describe)
app.command("delete")(delete.delete)
app.command("doctor")(doctor.doctor)
app.command("history", rich_help_panel=VERSIONS)(versions.history)
app.command("restore", rich_help_panel=VERSIONS)(versions.restore)
app.command("lineage", rich_help_panel=VERSIONS)(lineage.lineage)
app.command("changes", rich_help_panel=VERSIONS)(changes.changes)
app.command("analyze", rich_help_panel=VERSIONS)(layout.analyze)
app.command("compact", rich_help_panel=VERSIONS)(upkeep.compact)
app.command("vacuum", rich_help_panel=VERSIONS)(upkeep.vacuum)
app.command("verify", rich_help_panel=VERSIONS)(upkeep.verify)
app.command("repair", rich_help_panel=VERSIONS)(upkeep.repair)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(transfers.app, name="files")
app.add_typer(quality.app, name="quality")
app.add_typer(schema.app, name="schema")
app.add_typer(emulate.app, name="emulate")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"buffetstore {version('buffetstore')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take what comes before the command."""


def run(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors of ours are one clear line, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments)
    except StorageError as error:
        sys.exit(report_error(error, as_json="--json" in arguments))
    except OSError as error:  # of the user's own files: a full disk, no right to write
        failure = StorageError(f"{error.filename or 'the output'}: {error.strerror or error}")
        sys.exit(report_error(failure, as_json="--json" in arguments))
