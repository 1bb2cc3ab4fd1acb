"""Listings come out in the order of bytes, whichever order the service has."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.objects.azure.order import ByteOrder, start_from
from buffetstore.objects.base import ObjectMeta

NAMES = st.lists(
    st.lists(st.text("a-./0\ue000\uffff\U00010000📈é", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join),
    unique=True,
    max_size=30,
)


def utf16(key):
    return key.encode("utf-16-be", "surrogatepass")


def by_folder(key):
    return utf16(key.replace("/", "\0"))


def meta(key):
    return ObjectMeta(key, 0, "v", datetime(2026, 1, 1, tzinfo=UTC))


def listed(keys, *, is_hierarchical):
    order = ByteOrder("p/", is_hierarchical=is_hierarchical)
    found = [got.key for key in keys for got in order.add(meta(key))]
    return found, [got.key for got in order.rest()]


@pytest.mark.parametrize("is_hierarchical", [False, True])
@given(names=NAMES)
def test_the_order_is_that_of_bytes(is_hierarchical, names):
    keys = sorted({f"p/{name}" for name in names}, key=by_folder if is_hierarchical else utf16)
    found, rest = listed(keys, is_hierarchical=is_hierarchical)
    assert found + rest == sorted(keys, key=str.encode)


def test_what_need_not_wait_does_not():
    keys = [f"p/year=2024/{number:03}.parquet" for number in range(50)]
    assert listed(keys, is_hierarchical=False) == (keys, [])
    found, rest = listed([*keys, "p/year=2025/x"], is_hierarchical=True)
    assert (found, rest) == (keys, ["p/year=2025/x"])


@pytest.mark.parametrize("order", [utf16, by_folder])
@given(names=NAMES, after=st.text("a-./0\ue000\U00010000", max_size=6))
def test_a_listing_may_begin_where_nothing_is_missed(order, names, after):
    start = start_from("p/", f"p/{after}")
    for key in (f"p/{name}" for name in names):
        if key.encode() > f"p/{after}".encode():
            assert order(key) >= order(start)


def test_where_a_log_is_read_from():
    assert start_from("log/", "log/00000123.json") == "log/00000123"
    assert start_from("log/", "log/") == ""
    assert start_from("log/", "a") == ""
