"""`buffetstore files`: objects as they are, up, down, from store to store, shared and restored."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from buffetstore.cli.common import (
    FAILED,
    Json,
    Store,
    counted,
    err,
    human_bytes,
    object_store,
    out,
    print_json,
    run,
    store_url,
)
from buffetstore.config import store_options_from_environment
from buffetstore.errors import InvalidInputError
from buffetstore.objects import CREATE, OVERWRITE, ObjectStore, download_file, open_store, upload_file
from buffetstore.objects.copy_store import CONCURRENCY, CopyReport
from buffetstore.tables.commit_times import copy_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buffetstore.objects import ObjectMeta, ObjectVersion

app = typer.Typer(help="Objects as they are: up, down, from store to store, shared and restored.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(help="The object's key below the store's URL.", show_default=False)]


class Method(StrEnum):
    """What a signed URL is for."""

    GET = "GET"
    PUT = "PUT"


class Verify(StrEnum):
    """How a copy is compared with what was read."""

    CHECKSUM = "checksum"
    READ = "read"
    SIZE = "size"


@app.callback()
def files() -> None:
    """Objects as they are: up, down, from store to store, shared and restored."""


@app.command()
def upload(
    path: Annotated[Path, typer.Argument(help="The file to send.", show_default=False)],
    key: Annotated[
        str, typer.Argument(help="Where to; a name that ends with / takes the file's.", show_default="the file's name")
    ] = "",
    new: Annotated[bool, typer.Option("--new", help="Fail where the key is taken.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write a file to the store, of any size; nothing is seen there until all of it is."""
    key = f"{key}{path.name}" if not key or key.endswith("/") else key

    async def work(there: ObjectStore, tell: Callable[[int, int], None]) -> ObjectMeta:
        return await upload_file(there, path, key, mode=CREATE if new else OVERWRITE, progress=tell)

    meta, url = run(_with_bar(store, f"up {path.name}", work, as_json=as_json))
    _show_meta(meta, f"{url}/{meta.key}", as_json=as_json)


@app.command()
def download(
    key: Key,
    path: Annotated[
        Path | None, typer.Argument(help="The file, or the folder, to write.", show_default="the key's last part")
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write an object to a file, which is replaced only when every byte has come and is verified."""
    name = key.rpartition("/")[2]
    target = path / name if path is not None and path.is_dir() else path or Path(name)

    async def work(there: ObjectStore, tell: Callable[[int, int], None]) -> ObjectMeta:
        return await download_file(there, key, target, progress=tell)

    meta, _ = run(_with_bar(store, f"down {name}", work, as_json=as_json))
    _show_meta(meta, str(target), as_json=as_json)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A store's URL, or a folder.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TO", help="Another one; a folder is made.", show_default=False)],
    prefix: Annotated[str, typer.Option(help="Only keys that start so.")] = "",
    delete_extra: Annotated[
        bool, typer.Option("--delete-extra", help="Delete there what is not here, if all else went well.")
    ] = False,
    verify: Annotated[
        Verify, typer.Option(help="Compare checksums (read back where there are none), always read back, or sizes.")
    ] = Verify.CHECKSUM,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Objects on their way at once.")] = CONCURRENCY,
    as_json: Json = False,
) -> None:
    """Copy all objects from one store to another, tables with their logs last. Run it again to go on.

    What is there already is skipped; a commit that is there is never replaced. Tables answer by timestamp as they do
    here. Exit code 1 says that something failed.
    """
    here, there = store_url(source), store_url(target)
    if here.rstrip("/") == there.rstrip("/"):
        raise InvalidInputError(f"FROM and TO are the same store: {here}")
    how: dict[Verify, Any] = {Verify.CHECKSUM: True, Verify.READ: "read", Verify.SIZE: False}

    async def work() -> CopyReport:
        async with _opened(here) as left, _opened(there, create=True) as right:
            with byte_bar("copy", as_json=as_json) as tell:
                return await copy_tables(
                    left,
                    right,
                    prefix,
                    concurrency=concurrency,
                    verify=how[verify],
                    delete_extra=delete_extra,
                    progress=tell,
                )

    _show_report(run(work()), there, as_json=as_json)


@app.command()
def sign(
    key: Key,
    method: Annotated[Method, typer.Option(help="Read it, or write it.", case_sensitive=False)] = Method.GET,
    expires: Annotated[int, typer.Option(min=1, help="Seconds until it is worth nothing.")] = 3600,
    content_type: Annotated[
        str | None, typer.Option(help="What a PUT must send as its Content-Type.", show_default=False)
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Print a URL by which anybody may read or write this one object for a time."""

    async def work() -> str:
        async with object_store(store) as there:
            return await there.signed_url(key, method=method.value, expires_seconds=expires, content_type=content_type)

    url = run(work())
    if as_json:
        print_json({"key": key, "method": method.value, "expires_seconds": expires, "url": url})
    else:
        typer.echo(url)


@app.command()
def versions(
    prefix: Annotated[str, typer.Argument(help="Keys that start so.", show_default=False)] = "",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """List the versions of objects, the newest of a key first, in a bucket that keeps them."""

    async def work() -> list[ObjectVersion]:
        async with object_store(store) as there:
            return [version async for version in there.list_versions(prefix)]

    found = run(work())
    if as_json:
        print_json([_plain_version(version) for version in found])
        return
    if not found:
        out.print("there are none")
        return
    table = Table("key", "version", "size", "written", "", box=None, padding=(0, 2))
    for version in found:
        state = "deleted" if version.is_deletion else "current" if version.is_current else ""
        size = "" if version.is_deletion else human_bytes(version.meta.size)
        table.add_row(
            escape(version.meta.key), escape(version.id), size, f"{version.meta.last_modified:%Y-%m-%d %H:%M:%S}", state
        )
    out.print(table)


@app.command()
def restore(
    key: Key,
    version: Annotated[str, typer.Argument(help="As `buffetstore files versions` lists it.", show_default=False)],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Make a version current again; those between stay in the history."""

    async def work() -> ObjectMeta:
        async with object_store(store) as there:
            return await there.restore_version(key, version)

    meta = run(work())
    _show_meta(meta, f"{meta.key} as of version {version}", as_json=as_json)


@contextmanager
def byte_bar(what: str, *, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of bytes on stderr, where it is a terminal; give what is told ``(done, total)``."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=as_json or not err.is_terminal,
    ) as bars:
        bar = bars.add_task(escape(what), total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


async def _with_bar(url: str | None, what: str, work: Callable[..., Any], *, as_json: bool) -> tuple[ObjectMeta, str]:
    async with object_store(url) as there:
        with byte_bar(what, as_json=as_json) as tell:
            return await work(there, tell), there.url


def _opened(url: str, *, create: bool = False) -> ObjectStore:
    options = store_options_from_environment(url)
    return open_store(url, **options | ({"create": True} if create and url.startswith("file:") else {}))


def _show_meta(meta: ObjectMeta, where: str, *, as_json: bool) -> None:
    if as_json:
        checksum = asdict(meta.checksum) if meta.checksum is not None else None
        print_json({"key": meta.key, "bytes": meta.size, "version": meta.version, "checksum": checksum, "at": where})
    else:
        out.print(f"[green]✓[/] {escape(where)}  {human_bytes(meta.size)}", highlight=False, soft_wrap=True)


def _show_report(report: CopyReport, where: str, *, as_json: bool) -> None:
    if as_json:
        failed = [
            {"key": failure.key, "code": failure.error.code, "message": str(failure.error)} for failure in report.failed
        ]
        counts = {"copied": report.copied, "skipped": report.skipped, "deleted": report.deleted, "bytes": report.bytes}
        print_json(counts | {"failed": failed})
    else:
        deleted = f", {report.deleted:,} deleted there" if report.deleted else ""
        out.print(
            f"{counted(report.copied, 'object')} copied to {escape(where)} ({human_bytes(report.bytes)}), "
            f"{report.skipped:,} there already{deleted}",
            highlight=False,
            soft_wrap=True,
        )
        for failure in report.failed:
            err.print(f"[bold red]failed[/] {escape(failure.key)}: {escape(str(failure.error))}", soft_wrap=True)
    if report.failed:
        raise typer.Exit(FAILED)


def _plain_version(version: ObjectVersion) -> dict[str, Any]:
    meta = version.meta
    return {
        "key": meta.key,
        "version": version.id,
        "bytes": meta.size,
        "last_modified": meta.last_modified,
        "current": version.is_current,
        "deleted": version.is_deletion,
    }
