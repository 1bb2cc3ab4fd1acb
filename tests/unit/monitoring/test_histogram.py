from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buffetstore.monitoring.histogram import Histogram


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_quantiles_are_near_the_true_ones(values: list[float], fraction: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    true = sorted(values)[int(fraction * (len(values) - 1))]
    assert abs(histogram.quantile(fraction) - true) <= 0.023 * true
    assert histogram.largest == max(values)


def test_memory_is_bounded_whatever_comes() -> None:
    histogram = Histogram()
    for exponent in range(-400, 400):
        for digit in range(1, 100):
            histogram.add(digit * 10.0 ** (exponent / 2) if exponent < 300 else 1e300)
    histogram.add(0.0)
    histogram.add(-1.0)
    assert len(histogram._buckets) <= 600
    assert histogram.count == 800 * 99 + 2


def test_nothing_is_zero() -> None:
    assert set(Histogram().summary().values()) == {0.0}
