from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import InvalidRangeError
from buffetstore.objects import ByteRange
from buffetstore.objects.ranges import checked_range, coalesce, cut, resolve_range

spans = st.tuples(st.integers(0, 2000), st.integers(1, 300)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def test_near_ranges_are_joined():
    assert coalesce([(0, 10), (15, 20), (100, 110)], gap=5) == [(0, 20), (100, 110)]
    assert coalesce([(0, 10), (16, 20)], gap=5) == [(0, 10), (16, 20)]
    assert coalesce([(10, 20), (0, 10)], gap=0) == [(0, 20)]
    assert coalesce([]) == []


def test_a_joined_range_stays_within_the_limit():
    assert coalesce([(0, 10), (10, 20), (20, 30)], gap=0, limit=20) == [(0, 20), (20, 30)]
    assert coalesce([(0, 100)], limit=10) == [(0, 100)]


@given(st.lists(spans), st.integers(0, 200), st.integers(1, 1000))
def test_every_range_is_read_whole_and_cut_out(ranges, gap, limit):
    data = bytes(number % 251 for number in range(2300))
    joined = coalesce(ranges, gap=gap, limit=limit)
    assert joined == sorted(joined)
    assert all(any(start <= first and last <= end for start, end in joined) for first, last in ranges)
    bodies = [data[start:end] for start, end in joined]
    assert cut(ranges, joined, bodies) == [data[start:end] for start, end in ranges]


@given(st.lists(spans, min_size=1))
def test_without_a_gap_nothing_superfluous_is_read(ranges):
    asked = {position for start, end in ranges for position in range(start, end)}
    read = [position for start, end in coalesce(ranges, gap=0) for position in range(start, end)]
    assert sorted(read) == sorted(asked)


@given(st.integers(-50, 50), st.none() | st.integers(-5, 60), st.integers(0, 40))
def test_a_range_means_what_a_slice_does_or_is_refused(start, end, size):
    data = bytes(range(size))
    expected = data[start:] if end is None else data[start:end] if start >= 0 and end >= 0 else b""
    if start < 0 and end is None and -start > size:
        expected = data
    try:
        first, last = resolve_range(ByteRange(start, end), size, "k")
    except InvalidRangeError:
        assert expected == b""
    else:
        assert data[first:last] == expected != b""


def test_no_range_is_the_whole_even_of_nothing():
    assert resolve_range(None, 0, "k") == (0, 0)
    assert resolve_range(None, 5, "k") == (0, 5)


def test_the_message_tells_the_size():
    with pytest.raises(InvalidRangeError, match=r"10\.\.20 of 'k' starts past its end: it has 5 bytes"):
        checked_range(10, 20, 5, "k")
