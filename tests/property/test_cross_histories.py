"""Tables that we and deltalake write in turn are one table to both, and to Polars and DuckDB after them."""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from buffetstore.objects import LocalStore

pytest.importorskip("deltalake", reason="needs deltalake")

from buffetstore.testing.cross_engine import KEYS, OPERATIONS, PATH, SCHEMA, CrossHistory, Step

keys = st.sets(st.integers(0, KEYS - 1), min_size=1, max_size=4).map(lambda drawn: tuple(sorted(drawn)))
histories = st.lists(
    st.builds(Step, ours=st.booleans(), operation=st.sampled_from(OPERATIONS), keys=keys, seed=st.integers(0, 999)),
    min_size=6,
    max_size=12,
)


# Shrinking takes minutes here; the failing history is printed whole.
@settings(
    max_examples=max(6, settings.default.max_examples // 8),
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)
@given(histories, st.sampled_from([(), ("place",)]))
def test_both_see_the_same_rows_after_every_step(history, partition_by) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cross = CrossHistory(LocalStore(folder), f"{folder}/{PATH}")
        expected = asyncio.run(cross.run(history, partition_by=partition_by))
        assert read_by_polars(f"{folder}/{PATH}") == expected
        found = read_by_duckdb(f"{folder}/{PATH}")
        assert found in (expected, None)


def read_by_polars(path: str) -> list[dict]:
    polars = pytest.importorskip("polars", reason="needs Polars")
    return polars.read_delta(path).select(SCHEMA.names).sort("k").to_dicts()


def read_by_duckdb(path: str) -> list[dict] | None:
    """Return None where DuckDB or its extension is not there."""
    duckdb = pytest.importorskip("duckdb", reason="needs DuckDB")
    found = importlib.util.find_spec("duckdb_extension_delta")
    files = list(Path(found.origin).parent.rglob(f"v{duckdb.__version__}/delta.duckdb_extension")) if found else []
    if not files:
        return None
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        connection.execute(f"INSTALL '{files[0]}'; LOAD delta; SET TimeZone = 'UTC'")
        names = ", ".join(f'"{name}"' for name in SCHEMA.names)
        table = connection.execute(f"SELECT {names} FROM delta_scan('{path}') ORDER BY k").to_arrow_table()
    return table.cast(SCHEMA).to_pylist()
