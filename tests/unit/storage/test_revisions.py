from __future__ import annotations

import pyarrow as pa

from buffetstore.expressions import evaluate
from buffetstore.storage.foreign import read_with
from buffetstore.storage.revisions import keys_predicate, new_revisions


def rows(*values: tuple[str, int, int | None, str]) -> pa.Table:
    names = ("symbol", "timestamp", "price", "created_at")
    return pa.table({name: [value[at] for value in values] for at, name in enumerate(names)})


def test_what_says_nothing_new_is_left_out() -> None:
    stored = rows(("A", 1, 10, "then"), ("A", 2, None, "then"), ("B", 1, 30, "then"))
    given = rows(("A", 1, 10, "now"), ("A", 2, 20, "now"), ("B", 1, None, "now"), ("C", 1, None, "now"))
    found = new_revisions(given, stored, ["symbol", "timestamp"])
    assert found.rows.to_pylist() == given.slice(1).to_pylist()
    assert (found.inserted, found.updated, found.unchanged) == (1, 2, 1)


def test_the_first_write_is_all_new() -> None:
    given = rows(("A", 1, 10, "now"))
    found = new_revisions(given, given.slice(0, 0), ["symbol", "timestamp"])
    assert found.rows is given
    assert found.inserted == 1


def test_an_expression_finds_exactly_the_keys() -> None:
    keys = pa.table({"symbol": ["A", "A", "B"], "timestamp": [1, 2, 3], "source": ["x", "x", "y"]})
    predicate = keys_predicate(keys)
    found = [
        {"symbol": symbol, "timestamp": time, "source": source}
        for symbol in "AB"
        for time in (1, 2, 3)
        for source in "xy"
        if evaluate(predicate, {"symbol": symbol, "timestamp": time, "source": source})
    ]
    assert found == keys.to_pylist()


def test_one_key_column_is_a_list() -> None:
    assert evaluate(keys_predicate(pa.table({"symbol": ["A", "B"]})), {"symbol": "B"})


def test_others_are_shown_how_to_read_the_latest_rows() -> None:
    keep = read_with("gs://bucket/raw/kept", "keep", ["symbol", "timestamp"])
    assert "PARTITION BY symbol, timestamp ORDER BY created_at DESC" in keep["duckdb"]
    assert keep["polars"].startswith('pl.scan_delta("gs://bucket/raw/kept")')
    assert set(keep) == {"polars", "duckdb", "deltalake", "spark", "trino"}
    plain = read_with("file:///data/my%20rows/raw/market_data", "replace", ["symbol"])
    assert plain["duckdb"] == "SELECT * FROM delta_scan('/data/my rows/raw/market_data')"
    assert read_with("memory://raw/market_data", "replace", ["symbol"]) == {}
