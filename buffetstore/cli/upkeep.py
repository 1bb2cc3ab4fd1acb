"""`buffetstore compact`: what keeps a data type's table fast, small and whole."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from buffetstore.cli.common import DataType, Json, Store, counted, human_bytes, manager, out, print_json, progress, run
from buffetstore.cli.query import parse_filters
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MIB = 1024 * 1024


def compact(
    data_type: DataType,
    start: Annotated[str | None, typer.Option("--from", help="Only files with rows of this day or later.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Only files with rows of this day or earlier.")] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="Only files that may hold such rows: 'symbol=AAPL'; repeat it.")
    ] = None,
    target_mib: Annotated[int, typer.Option(min=1, help="Size of the files to come, in MiB.")] = TARGET_BYTES // _MIB,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Put many small files into few, sorted by key. No row changes, writers go on, and it may be broken off.

    Earlier versions stay readable; `buffetstore vacuum` removes what only they need.
    """
    dates = {name: value for name, value in (("start", start), ("end", end)) if value} or None

    async def work() -> CompactResult:
        async with manager(store) as storage:
            with bar(f"compact {data_type}", as_json=as_json, size=human_bytes) as tell:
                return await storage.compact(
                    data_type,
                    filters=parse_filters(filters) if filters else None,
                    date_range=dates,
                    target_bytes=target_mib * _MIB,
                    progress=tell,
                )

    done = run(work())
    if as_json:
        print_json(asdict(done) | {"data_type": data_type})
    elif not done.commits:
        out.print(f"{escape(data_type)} has nothing to gain from it: nothing was done")
    else:
        out.print(
            f"{counted(done.files_removed, 'file')} ({human_bytes(done.bytes_removed)}) became "
            f"{counted(done.files_added, 'file')} ({human_bytes(done.bytes_added)}) with {counted(done.rows, 'row')}; "
            f"table version {done.version}"
        )


@contextmanager
def bar(
    what: str, *, as_json: bool, size: Callable[[float], str] = "{:,}".format
) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; what it gives is told how much is done, and of how much."""
    with progress(as_json=as_json) as bars:
        task = bars.add_task(escape(what), total=None, note="")

        def tell(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, note=f"{size(done)} of {size(total)}")

        yield tell
