from __future__ import annotations

import pytest

from buffetstore.errors import ConfigurationError
from buffetstore.resilience.hedge import HedgePolicy, HedgeTracker


def observed(tracker: HedgeTracker, seconds: list[float], verb: str = "get") -> HedgeTracker:
    for each in seconds:
        tracker.observe(verb, each)
    return tracker


def test_nothing_is_hedged_before_enough_is_known():
    tracker = observed(HedgeTracker(HedgePolicy(minimum_samples=32)), [0.1] * 31)
    assert tracker.delay("get") is None
    tracker.observe("get", 0.1)
    assert tracker.delay("get") == 0.1


def test_the_delay_is_the_percentile_of_the_latest():
    tracker = HedgeTracker(HedgePolicy(window=100, minimum_samples=100))
    observed(tracker, [number / 100 for number in range(100)])
    assert tracker.delay("get") == 0.95
    observed(tracker, [5.0] * 112)
    assert tracker.delay("get") == 5.0


def test_each_verb_has_its_own():
    tracker = HedgeTracker(HedgePolicy(minimum_samples=1))
    observed(tracker, [0.5], "get")
    observed(tracker, [0.01], "head")
    assert (tracker.delay("get"), tracker.delay("head"), tracker.delay("list_prefixes")) == (0.5, 0.01, None)


def test_a_fast_service_is_not_asked_twice_at_once():
    assert observed(HedgeTracker(HedgePolicy()), [1e-5] * 40).delay("get") == 0.005


def test_second_requests_are_a_share_of_the_first():
    tracker = HedgeTracker(HedgePolicy(budget=0.05, minimum_samples=1))
    spent = 0
    for _ in range(10_000):
        tracker.observe("get", 0.1)
        spent += tracker.spend()
    assert 490 <= spent <= 501


def test_little_is_saved_for_a_storm():
    tracker = observed(HedgeTracker(HedgePolicy(budget=0.05, window=200)), [0.1] * 100_000)
    assert sum(tracker.spend() for _ in range(1000)) == 10


def test_a_small_window_can_be_hedged_too():
    tracker = HedgeTracker(HedgePolicy(window=1, minimum_samples=1))
    assert sum(observed(tracker, [0.1] * 10).spend() for _ in range(2)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"percentile": 0},
        {"percentile": 1.5},
        {"budget": 0},
        {"minimum_samples": 0},
        {"minimum_samples": 300},
        {"minimum_seconds": -1},
    ],
)
def test_a_senseless_policy_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        HedgePolicy(**options)
