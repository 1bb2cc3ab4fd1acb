from __future__ import annotations

import pytest

from buffetstore.errors import CircuitOpenError, ConfigurationError
from buffetstore.resilience.circuit import CircuitBreaker, CircuitPolicy


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list:
    return []


@pytest.fixture
def breaker(clock, told) -> CircuitBreaker:
    policy = CircuitPolicy(
        minimum_calls=4, window_seconds=10, open_seconds=10, probes=2, random=lambda: 0.25, clock=clock
    )
    return CircuitBreaker(policy, lambda *change: told.append(change))


def calls(breaker: CircuitBreaker, outcomes: str) -> None:
    """`+` is an answer, `-` a failure."""
    for outcome in outcomes:
        ticket = breaker.enter()
        (breaker.succeeded if outcome == "+" else breaker.failed)(ticket)


@pytest.mark.parametrize("outcomes", ["---", "++++-+-", "+" * 50 + "-" * 49])
def test_it_stays_closed(breaker, outcomes):
    calls(breaker, outcomes)
    assert breaker.state == "closed"


@pytest.mark.parametrize("outcomes", ["----", "++--", "+---", "+" * 50 + "-" * 50])
def test_it_opens_at_the_ratio(breaker, outcomes):
    calls(breaker, outcomes)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError, match=r"come again in 7\.5 s") as refused:
        breaker.enter()
    assert refused.value.retry_after == 7.5
    assert not refused.value.transient


def test_what_is_long_ago_does_not_count(breaker, clock):
    calls(breaker, "---")
    clock.now += 11
    calls(breaker, "-++-")
    clock.now += 5
    assert breaker.state == "open"


def test_the_window_slides(breaker, clock):
    for _ in range(100):
        calls(breaker, "++-")
        clock.now += 1
    assert breaker.state == "closed"
    clock.now += 5
    calls(breaker, "---")  # with four batches of the last ten seconds: seven of fifteen
    assert breaker.state == "closed"
    calls(breaker, "-")
    assert breaker.state == "open"


def test_probes_close_it(breaker, clock, told):
    calls(breaker, "----")
    clock.now += 7.5
    assert breaker.state == "half_open"
    first, second = breaker.enter(), breaker.enter()
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    breaker.succeeded(first)
    calls(breaker, "+")  # the one that was done left room for one more, with which there were enough
    calls(breaker, "----")
    breaker.succeeded(second)  # from an earlier state
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    assert [(was, now, seconds) for was, now, seconds in told] == [
        ("closed", "open", 0),
        ("open", "half_open", 7.5),
        ("half_open", "closed", 0),
        ("closed", "open", 0),
    ]


def test_a_failed_probe_opens_it_again(breaker, clock):
    calls(breaker, "----")
    clock.now += 8
    calls(breaker, "+-")
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError):
        breaker.enter()


def test_a_cancelled_probe_leaves_its_place(breaker, clock):
    calls(breaker, "----")
    clock.now += 8
    for _ in range(10):
        breaker.cut(breaker.enter())
        breaker.left(breaker.enter())
    calls(breaker, "++")
    assert breaker.state == "closed"


def test_calls_that_were_cut_after_a_long_silence_are_failures(breaker, clock):
    short = [breaker.enter() for _ in range(10)]
    clock.now += 4.9
    for ticket in short:
        breaker.cut(ticket)
    long = [breaker.enter() for _ in range(4)]
    clock.now += 5
    assert breaker.state == "closed"
    for ticket in long:
        breaker.cut(ticket)
    assert breaker.state == "open"


def test_calls_from_before_an_outage_say_nothing_about_its_end(breaker, clock):
    old = [breaker.enter() for _ in range(4)]
    calls(breaker, "----")
    clock.now += 8
    probe = breaker.enter()
    for ticket in old[:2]:
        breaker.succeeded(ticket)
    breaker.failed(old[2])
    breaker.left(old[3])
    assert breaker.state == "half_open"
    breaker.succeeded(probe)
    calls(breaker, "+")
    assert breaker.state == "closed"


def test_notes_count_only_while_closed(breaker, clock):
    for _ in range(4):
        breaker.note(is_failure=True)
    assert breaker.state == "open"
    breaker.note(is_failure=False)
    clock.now += 8
    breaker.note(is_failure=True)
    calls(breaker, "++")
    assert breaker.state == "closed"


def test_it_forgets_the_outage_when_it_closes(breaker, clock):
    calls(breaker, "----")
    clock.now += 7.5
    calls(breaker, "++---")
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "options",
    [
        {"failure_ratio": 0},
        {"failure_ratio": 1.1},
        {"minimum_calls": 0},
        {"probes": 0},
        {"window_seconds": 0},
        {"silent_seconds": 0},
        {"open_seconds": float("nan")},
    ],
)
def test_a_senseless_policy_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        CircuitPolicy(**options)
