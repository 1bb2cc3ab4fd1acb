"""Any awaited object, blocking."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest

from buffetstore import sync
from buffetstore.sync.face import BlockingFace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Awaited:
    size = 3

    async def double(self, number: int, *, times: int = 2) -> int:
        """Return the number so often."""
        await asyncio.sleep(0)
        return number * times

    async def count(self, end: int = 3) -> AsyncIterator[int]:
        for each in range(end):
            yield each

    async def fails(self) -> None:
        raise LookupError("nothing")

    def plain(self) -> str:
        return "plain"

    def __repr__(self) -> str:
        return "Awaited()"


@pytest.fixture
def face():
    with sync.open("memory://"):  # the loop's thread lives as long as a manager does
        yield BlockingFace(Awaited())


def test_coroutines_are_run_to_their_end(face: BlockingFace[Awaited]) -> None:
    assert (face.double(2), face.double(2, times=5), face.plain(), face.size) == (4, 10, "plain", 3)
    with pytest.raises(LookupError, match="nothing"):
        face.fails()


def test_async_iterators_become_iterators(face: BlockingFace[Awaited]) -> None:
    assert list(face.count()) == [0, 1, 2]
    numbers = face.count(end=10**9)
    assert next(numbers) == 0
    numbers.close()


def test_it_looks_like_what_it_stands_for(face: BlockingFace[Awaited]) -> None:
    assert inspect.signature(face.double) == inspect.signature(Awaited().double)
    assert inspect.getdoc(face.double) == "Return the number so often."
    assert not inspect.iscoroutinefunction(face.double)
    assert set(dir(face)) == {"size", "double", "count", "fails", "plain"}
    assert repr(face) == "<blocking Awaited()>"
    with pytest.raises(AttributeError):
        face.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        face._hidden  # noqa: B018
