"""A web service that awaits the store: one manager for the process, opened and closed with it.

``uvicorn web_service:app`` serves it; ``python web_service.py --check`` starts it, queries it, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from buffetstore import DataQuery, InvalidInputError, NotFoundError, SchemaValidationError, StorageError, StorageManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with await StorageManager.open(os.environ.get("BUFFETSTORE_URL", "memory://")) as storage:
        app.state.storage = storage
        yield


async def put_bars(request: Request) -> JSONResponse:
    result = await request.app.state.storage.store_data("market_data", await request.json(), data_source="service")
    return JSONResponse({"inserted": result.inserted, "unchanged": result.unchanged, "version": result.table_version})


async def get_bars(request: Request) -> JSONResponse:
    given = request.query_params
    query = DataQuery(
        "market_data",
        filters={"symbol": request.path_params["symbol"]},
        date_range={name: given[name] for name in ("start", "end") if name in given} or None,
        columns=["timestamp", "price", "volume"],
        limit=int(given.get("limit", 1000)),
    )
    answer = await request.app.state.storage.retrieve_data(query)
    rows = [
        {"timestamp": row["timestamp"].isoformat(), "price": str(row["price"]), "volume": row["volume"]}
        for row in answer.to_pylist()
    ]
    return JSONResponse({"rows": rows, "files_pruned": answer.files_pruned})


async def explain(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StorageError)
    status = 404 if isinstance(error, NotFoundError) else 422 if isinstance(error, InvalidInputError) else 503
    body: dict[str, object] = {"code": error.code, "message": str(error)}
    if isinstance(error, SchemaValidationError):
        body["findings"] = [f"row {each.record_index}, {each.field}: {each.message}" for each in error.result.errors]
    return JSONResponse(body, status)


app = Starlette(
    routes=[
        Route("/bars", put_bars, methods=["POST"]),
        Route("/bars/{symbol}", get_bars),
    ],
    lifespan=lifespan,
    exception_handlers={StorageError: explain},
)


async def check() -> None:
    """What a client does, without a port: many requests at once, a bad row, a bad question."""
    transport = httpx.ASGITransport(app=app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        bars = [
            {"symbol": "AAPL", "timestamp": f"2024-01-{day:02}T21:00:00Z", "price": 180.0 + day, "volume": 1000 * day}
            for day in range(2, 32)
        ]
        stored = await client.post("/bars", json=bars)
        print(stored.json())
        assert stored.json()["inserted"] == 30

        asked = await asyncio.gather(
            *(client.get("/bars/AAPL", params={"start": f"2024-01-{day:02}"}) for day in range(2, 22))
        )
        counts = [len(response.json()["rows"]) for response in asked]
        print(f"twenty requests at once: {counts}")
        assert counts == list(range(30, 10, -1))

        bad = await client.post("/bars", json=[{**bars[0], "price": -5}])
        print(bad.status_code, bad.json()["findings"])
        assert bad.status_code == 422

        confused = await client.get("/bars/AAPL", params={"start": "2024-02-01", "end": "2024-01-01"})
        print(confused.status_code, confused.json()["message"])
        assert confused.status_code == 422


if __name__ == "__main__":
    if "--check" not in sys.argv:
        sys.exit("serve it with: uvicorn web_service:app   (or try it with: python web_service.py --check)")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("BUFFETSTORE_URL", folder)
        asyncio.run(check())
