from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import ConfigurationError
from buffetstore.resilience.rate import RateLimit, TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_free_and_the_rest_comes_at_the_rate():
    bucket = TokenBucket(10, 5, Clock())
    assert [bucket.take(1) for _ in range(8)] == [
        0,
        0,
        0,
        0,
        0,
        pytest.approx(0.1),
        pytest.approx(0.2),
        pytest.approx(0.3),
    ]


def test_what_is_not_used_is_saved_up_to_the_burst():
    clock = Clock()
    bucket = TokenBucket(10, 5, clock)
    assert bucket.take(5) == 0
    clock.now = 0.2
    assert bucket.take(2) == 0
    clock.now = 1000
    assert bucket.take(5) == 0
    assert bucket.take(1) == pytest.approx(0.1)


def test_more_than_the_burst_is_let_through_and_holds_up_what_comes_later():
    bucket = TokenBucket(100, 50, Clock())
    assert bucket.take(1050) == pytest.approx(10)
    assert bucket.take(1) == pytest.approx(10.01)


def test_what_is_given_back_may_be_taken():
    bucket = TokenBucket(1, 1, Clock())
    assert bucket.take(1) == 0
    assert bucket.take(5) == 5
    bucket.give_back(5)
    assert bucket.take(1) == 1


def test_no_bound_never_waits():
    bucket = TokenBucket(None, 0, Clock())
    assert [bucket.take(1e12) for _ in range(3)] == [0, 0, 0]


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 30)), min_size=1, max_size=50))
def test_the_rate_is_kept_and_so_is_the_order(steps):
    clock = Clock()
    bucket = TokenBucket(10, 20, clock)
    ends = []
    taken = 0.0
    for pause, amount in steps:
        clock.now += pause
        ends.append(clock.now + bucket.take(amount))
        taken += amount
        assert taken <= 20 + 10 * ends[-1] + 1e-6, "never more than the burst and what has come"
    waited = [end for end, before in zip(ends[1:], ends, strict=False) if end < before - 1e-9]
    assert waited == [], "nobody overtakes"


@pytest.mark.parametrize("options", [{"requests_per_second": 0}, {"bytes_per_second": -1}, {"burst_seconds": -0.1}])
def test_a_senseless_limit_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RateLimit(**options)
