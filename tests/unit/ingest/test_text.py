from __future__ import annotations

import pyarrow as pa

from buffetstore.ingest.text import typed_parts

KINDS = {"price": pa.decimal128(18, 8), "volume": pa.int64(), "symbol": pa.string()}


def texts(**columns: list[str | None]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def test_numbers_become_numbers_and_text_stays_text() -> None:
    ((rows, positions),) = typed_parts(
        texts(symbol=["0700", "NA"], price=[" 1.5", "-2e3"], volume=["7", "-8"], other=["1", "2"]), KINDS
    )
    assert positions.tolist() == [0, 1]
    assert rows.to_pydict() == {
        "symbol": ["0700", "NA"],
        "price": [1.5, -2000.0],
        "volume": [7, -8],
        "other": ["1", "2"],
    }
    assert rows["volume"].type == pa.int64()


def test_words_for_no_number_are_null_in_numbers_only() -> None:
    words = ["nan", "NaN", "null", "N/A", "NA", "None", "-", "", None]
    ((rows, _),) = typed_parts(texts(symbol=words, price=words), KINDS)
    assert rows["price"].to_pylist() == [None] * len(words)
    assert rows["symbol"].to_pylist() == words


def test_whole_numbers_written_with_a_point_are_floats() -> None:
    ((rows, _),) = typed_parts(texts(volume=["100.0", "3"]), KINDS)
    assert rows["volume"].to_pylist() == [100.0, 3.0]


def test_a_whole_number_that_is_too_large_is_left_to_the_contract() -> None:
    ((rows, _),) = typed_parts(texts(volume=["99999999999999999999"]), KINDS)
    assert rows["volume"].to_pylist() == [1e20]


def test_rows_with_odd_text_come_apart_and_keep_it() -> None:
    (good, where_good), (odd, where_odd) = typed_parts(
        texts(symbol=["A", "B", "C", "D"], price=["1", "1,234", "3", "4"], volume=["1", "2", "many", "4"]), KINDS
    )
    assert (where_good.tolist(), where_odd.tolist()) == ([0, 3], [1, 2])
    assert good["price"].to_pylist() == [1.0, 4.0]
    assert odd.to_pydict() == {"symbol": ["B", "C"], "price": ["1,234", "3"], "volume": ["2", "many"]}


def test_nothing_but_odd_rows() -> None:
    ((odd, positions),) = typed_parts(texts(price=["x", "y"]), KINDS)
    assert positions.tolist() == [0, 1]
    assert odd["price"].to_pylist() == ["x", "y"]
