from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.caching import LRUCache


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_least_recently_used_goes_first() -> None:
    cache: LRUCache[str] = LRUCache(3)
    for key in "abc":
        cache.put(key, key.upper(), 1)
    assert cache.get("a") == "A"
    cache.put("d", "D", 1)
    assert [cache.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    assert cache.stats().evictions == 1


def test_a_value_larger_than_the_budget_is_not_kept_and_evicts_nothing() -> None:
    cache: LRUCache[str] = LRUCache(3)
    cache.put("small", "s", 1)
    assert not cache.put("large", "l", 4)
    assert cache.get("small") == "s"
    assert cache.get("large") is None


def test_a_larger_second_value_removes_the_first_of_its_key() -> None:
    cache: LRUCache[str] = LRUCache(3)
    cache.put("key", "old", 1)
    cache.put("key", "new", 4)
    assert cache.get("key") is None
    assert cache.stats().bytes == 0


def test_values_expire_by_the_clock() -> None:
    clock = Clock()
    cache: LRUCache[str] = LRUCache(10, ttl_seconds=5, clock=clock)
    cache.put("key", "value", 1)
    clock.now = 4.9
    assert cache.get("key") == "value"
    clock.now = 5.0
    assert cache.get("key") is None
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.expirations, stats.bytes, stats.entries) == (1, 1, 1, 0, 0)


def test_delete_and_clear_forget() -> None:
    cache: LRUCache[str] = LRUCache(10)
    cache.put("a", "A", 1)
    cache.put("b", "B", 1)
    cache.delete("a")
    cache.delete("not there")
    assert (cache.get("a"), cache.stats().bytes) == (None, 1)
    cache.clear()
    assert (len(cache), cache.stats().bytes) == (0, 0)


@pytest.mark.parametrize(("max_bytes", "ttl"), [(-1, None), (1, 0), (1, -1)])
def test_senseless_limits_are_refused(max_bytes: int, ttl: float | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        LRUCache(max_bytes, ttl)


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "delete"]), st.integers(0, 6), st.integers(0, 12))))
def test_the_budget_always_holds_and_values_are_never_mixed_up(history: list[tuple[str, int, int]]) -> None:
    cache: LRUCache[tuple[int, int]] = LRUCache(10)
    last: dict[int, tuple[int, int]] = {}
    sizes: dict[int, int] = {}
    for step, (verb, key, size) in enumerate(history):
        if verb == "put":
            last[key], sizes[key] = (key, step), size
            assert cache.put(key, (key, step), size) == (size <= 10)
        elif verb == "get":
            assert cache.get(key) in {None, last.get(key)}
        else:
            cache.delete(key)
        held = {key: sizes[key] for key in cache._entries}
        assert cache.stats().bytes == sum(held.values()) <= 10
