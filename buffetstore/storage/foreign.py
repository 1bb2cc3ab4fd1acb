"""How other tools read a table: the line to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_with(url: str, contract_revisions: str, key: Sequence[str]) -> dict[str, str]:
    """Return a line for each tool that reads the table at `url`; nothing for a table in memory."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return {}
    place = unquote(parts.path) if parts.scheme == "file" else url
    latest = contract_revisions == "keep"
    found = {
        "polars": f'pl.scan_delta("{place}")' + (_latest_in_polars(key) if latest else ""),
        "duckdb": _sql(f"delta_scan('{place}')", key, latest=latest),
        "deltalake": f'DeltaTable("{place}").to_pyarrow_table()',
        "spark": _sql(f"delta.`{place}`", key, latest=latest),
    }
    if latest:
        # The table is one registered in Trino's catalog: it does not read by place.
        found["trino"] = _sql(f'"{place.rstrip("/").rsplit("/", 1)[-1]}"', key, latest=True)
    return found


def _sql(source: str, key: Sequence[str], *, latest: bool) -> str:
    if not latest:
        return f"SELECT * FROM {source}"  # noqa: S608 shown to people, never run
    newest = f"row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY created_at DESC) AS revision"
    return f"SELECT * FROM (SELECT *, {newest} FROM {source}) AS revisions WHERE revision = 1"  # noqa: S608


def _latest_in_polars(key: Sequence[str]) -> str:
    return f'.sort("created_at", maintain_order=True).unique({list(key)}, keep="last")'
