"""`buffetstore emulate`: servers to try things on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

import typer

from buffetstore.cli.common import Json, err, print_json, run
from buffetstore.errors import UnavailableError
from buffetstore.testing.gcs import GCSServer

app = typer.Typer(help="Servers in memory, to try things on without a cloud.", no_args_is_help=True)


@app.callback()
def servers() -> None:
    """Servers in memory, to try things on without a cloud."""


@app.command()
def gcs(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 4443,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    bucket: Annotated[list[str] | None, typer.Option(help="A bucket that is there from the start; repeat it.")] = None,
    as_json: Json = False,
) -> None:
    """Run a Google Cloud Storage server in memory until Ctrl-C; what it holds is then gone."""
    with suppress(KeyboardInterrupt):
        run(_serve(host, port, bucket or [], as_json=as_json))


async def _serve(host: str, port: int, buckets: list[str], *, as_json: bool) -> None:
    server = GCSServer(host=host, port=port, buckets=buckets)
    try:
        await server.start()
    except OSError as error:
        raise UnavailableError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    try:
        if as_json:
            print_json({"url": server.url, "buckets": buckets})
        err.print(
            f"[bold green]serving[/] Google Cloud Storage at {server.url}, buckets: {', '.join(buckets) or 'none'}\n"
            f"In another terminal:\n\n"
            f"  export STORAGE_EMULATOR_HOST={server.url} GOOGLE_CLOUD_PROJECT=try\n"
            f"  buffetstore doctor --store gs://{buckets[0] if buckets else 'BUCKET'}\n\n[dim]Ctrl-C ends it.[/]"
        )
        await asyncio.Event().wait()
    finally:
        await server.aclose()
