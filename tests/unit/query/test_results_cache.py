from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import CorruptFileError, UnavailableError
from buffetstore.query import QueryAnswer
from buffetstore.query.results_cache import LARGEST_SHARE, ResultKey, ResultsCache, Same

HOW = Same(object())
ANSWER = QueryAnswer(pa.table({"n": range(100)}), "numbers", 3, 1, 4, 2, 5, 1_000, 2, seconds=0.5, notes=("a note",))


def key(fingerprint: str = "q", **others: Any) -> ResultKey:
    return ResultKey("numbers", "id", 3, HOW, fingerprint)._replace(**others)


class Computed:
    def __init__(self, answer: QueryAnswer = ANSWER, error: Exception | None = None) -> None:
        self.calls = self.cancelled = 0
        self.began, self.gate = asyncio.Event(), asyncio.Event()
        self._answer, self._error = answer, error

    async def __call__(self) -> QueryAnswer:
        self.calls += 1
        self.began.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error is not None:
            raise self._error
        return self._answer


def open_gate(answer: QueryAnswer = ANSWER) -> Computed:
    compute = Computed(answer)
    compute.gate.set()
    return compute


async def test_a_kept_answer_is_the_same_rows_and_says_that_nothing_was_read() -> None:
    cache, compute = ResultsCache(), open_gate()
    assert await cache.answer(key(), compute) is ANSWER
    again = await cache.answer(key(), compute)
    assert compute.calls == 1
    assert again.table is ANSWER.table
    assert again == replace(ANSWER, bytes_read=0, requests=0, cache_hit=True)
    assert (cache.stats().hits, cache.stats().misses, cache.stats().entries) == (1, 1, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"data_type": "others"},
        {"table_id": "made anew"},
        {"table_version": 4},
        {"as_read": Same(object())},
        {"fingerprint": "p"},
        {"scope": "alice"},
    ],
)
async def test_every_part_of_a_key_counts(other: dict[str, Any]) -> None:
    cache, compute = ResultsCache(), open_gate()
    await cache.answer(key(), compute)
    await cache.answer(key(**other), compute)
    assert compute.calls == 2


async def test_a_thousand_who_ask_at_once_cause_one_computation() -> None:
    for budget in (ANSWER.table.nbytes * 100, 0):
        cache, compute = ResultsCache(budget), Computed()
        asking = [asyncio.create_task(cache.answer(key(), compute)) for _ in range(1_000)]
        await asyncio.sleep(0)
        compute.gate.set()
        answers = await asyncio.gather(*asking)
        assert compute.calls == 1
        assert all(answer.table is ANSWER.table for answer in answers)
        assert sum(answer.bytes_read for answer in answers) == ANSWER.bytes_read
        assert not any(answer.cache_hit for answer in answers), "all of them waited for the store"
        await cache.answer(key(), compute)
        assert compute.calls == (1 if budget else 2)


async def test_one_who_leaves_leaves_the_others_waiting_and_the_last_ends_it() -> None:
    cache, compute = ResultsCache(), Computed()
    first, second, third = (asyncio.create_task(cache.answer(key(), compute)) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    compute.gate.set()
    assert (await second).table is (await third).table is ANSWER.table
    assert (compute.calls, compute.cancelled) == (1, 0)

    compute = Computed()
    waiting = [asyncio.create_task(cache.answer(key("alone"), compute)) for _ in range(2)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert (compute.calls, compute.cancelled) == (1, 1)


async def test_an_error_reaches_all_and_is_not_kept() -> None:
    cache, failing = ResultsCache(), Computed(error=CorruptFileError("damaged", key="k"))
    asking = [asyncio.create_task(cache.answer(key(), failing)) for _ in range(10)]
    await asyncio.sleep(0)
    failing.gate.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert failing.calls == 1
    assert all(isinstance(error, CorruptFileError) for error in found)
    assert (await cache.answer(key(), open_gate())).table is ANSWER.table


async def test_what_cannot_be_named_is_computed_each_time() -> None:
    cache, compute = ResultsCache(), open_gate()
    for _ in range(3):
        assert await cache.answer(None, compute) is ANSWER
    assert compute.calls == 3
    assert cache.stats().entries == 0


async def test_a_large_answer_is_not_kept() -> None:
    large = replace(ANSWER, table=pa.table({"n": range(1_000)}))
    cache, compute = ResultsCache(large.table.nbytes * LARGEST_SHARE - 1), open_gate(large)
    for _ in range(2):
        await cache.answer(key("large"), compute)
    assert compute.calls == 2
    assert cache.stats().bytes == 0
    await cache.answer(key("small"), open_gate())
    assert cache.stats().entries == 1


async def test_few_rows_of_a_large_file_do_not_hold_it() -> None:
    whole = pa.table({"n": range(100_000), "s": pa.array(["text"] * 100_000).dictionary_encode()})
    few = whole.slice(50_000, 3)
    cache = ResultsCache(whole.nbytes)
    await cache.answer(key(), open_gate(replace(ANSWER, table=few)))
    kept = (await cache.answer(key(), Computed())).table
    assert kept.equals(few)
    assert kept.schema.equals(few.schema, check_metadata=True)
    assert kept.get_total_buffer_size() < 10_000
    assert cache.stats().bytes < 12_000


async def test_answers_end_by_age_where_that_is_asked() -> None:
    now = 0.0
    cache, compute = ResultsCache(ttl_seconds=10, clock=lambda: now), open_gate()
    await cache.answer(key(), compute)
    now = 9.9
    assert (await cache.answer(key(), compute)).cache_hit
    now = 10.0
    assert not (await cache.answer(key(), compute)).cache_hit
    assert (compute.calls, cache.stats().expirations) == (2, 1)


async def test_closing_ends_what_is_under_way_and_forgets_all() -> None:
    cache, compute = ResultsCache(), Computed()
    await cache.answer(key("kept"), open_gate())
    waiting = asyncio.create_task(cache.answer(key(), compute))
    await compute.began.wait()
    await cache.aclose()
    await cache.aclose()
    with pytest.raises(UnavailableError):
        await waiting
    assert compute.cancelled == 1
    assert cache.stats().entries == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=40), st.integers(0, 40_000))
async def test_memory_is_bounded_whatever_is_asked(asked: list[tuple[int, int]], budget: int) -> None:
    cache = ResultsCache(budget)
    for name, rows in asked:
        answer = replace(ANSWER, table=pa.table({"n": range(name, name + rows)}))
        found = await cache.answer(key(f"{name}/{rows}"), open_gate(answer))
        assert found.table.equals(answer.table)
        stats = cache.stats()
        assert stats.bytes <= budget
        assert stats.entries == 0 or stats.bytes >= stats.entries * 2_048
