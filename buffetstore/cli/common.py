"""What every command shares: the store, its options, the loop, progress, errors and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from buffetstore.config import GCSConfig, layers_from_environment, store_options_from_environment
from buffetstore.errors import ConfigurationError, InvalidInputError, SchemaValidationError, StorageError
from buffetstore.manager import GCSStorageManager, StorageManager
from buffetstore.objects import ObjectStore, open_store
from buffetstore.resilience.loops import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")

_BUCKET = "GCS_DATA_BUCKET"
FAILED, USAGE, REJECTED = 1, 2, 3

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="BUFFETSTORE_URL",
        metavar="URL",
        help="Where the data is: gs://bucket, s3://bucket/prefix, file:///folder or a path. "
        "Without it, the bucket of GCS_DATA_BUCKET.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
DataType = Annotated[str, typer.Argument(help="market_data, forecasts, options_data...", show_default=False)]

# A pipe has no width: what is not read on a screen is not cut to one.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
out = Console(width=_WIDTH)
err = Console(stderr=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work on a loop of its own."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def manager(url: str | None, **options: Any) -> StorageManager:
    """Return the manager of `url`, or of the environment's bucket; enter it."""
    if not url and os.environ.get(_BUCKET):
        return GCSStorageManager(GCSConfig.from_environment(), **options)
    return StorageManager.open(store_url(url), **options)


def object_store(url: str | None) -> ObjectStore:
    """Return the bare store of `url`, or of the environment's bucket."""
    if not url and os.environ.get(_BUCKET):
        config = GCSConfig.from_environment()
        return open_store(config.url, layers=layers_from_environment(config), **config.store_options())
    url = store_url(url)
    return open_store(url, layers=layers_from_environment(url), **store_options_from_environment(url))


def store_url(url: str | None) -> str:
    """Return `url`; a path becomes a file URL."""
    if not url:
        raise ConfigurationError(f"which store? Give --store URL, or set BUFFETSTORE_URL or {_BUCKET}")
    return url if "://" in url else Path(url).expanduser().absolute().as_uri()


def exit_code(error: StorageError) -> int:
    """Return the exit code that tells a script what kind of failure it was."""
    if isinstance(error, SchemaValidationError):
        return REJECTED
    return USAGE if isinstance(error, InvalidInputError | ConfigurationError) else FAILED


def report_error(error: StorageError, *, as_json: bool) -> int:
    """Show `error` on stderr as one line (with ``--json``, as one JSON object) and return the exit code."""
    if as_json:
        sys.stderr.write(to_json({"error": {"code": error.code, "message": str(error), "key": error.key}}) + "\n")
    else:
        err.print(f"[bold red]error[/] [dim]{escape(f'[{error.code}]')}[/] {escape(str(error))}", soft_wrap=True)
    return exit_code(error)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(to_json(value) + "\n")


def to_json(value: Any) -> str:
    """Return `value` as JSON: times in ISO 8601, decimals as numbers."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def confirm(question: str, *, yes: bool, as_json: bool = False) -> None:
    """Ask before something is done that a reader will see; returns when it may be done.

    Raises
    ------
    InvalidInputError
        There is nobody to ask.
    typer.Exit
        The answer was no.
    """
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InvalidInputError(f"{question} There is nobody to ask here: give --yes to do it, or --dry-run to look")
    if not typer.confirm(question, err=True):
        err.print("nothing was done")
        raise typer.Exit(FAILED)


@contextmanager
def progress(*, as_json: bool = False) -> Iterator[Progress]:
    """Show progress bars on stderr, where it is a terminal."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=as_json or not err.is_terminal,
    ) as bars:
        yield bars


def counted(number: int, noun: str) -> str:
    """Return `1 file`, `2 files`, `1,000 files`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def human_bytes(number: float) -> str:
    """Return a size to read: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
