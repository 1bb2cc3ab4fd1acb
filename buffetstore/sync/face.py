"""The blocking face of an object whose methods are awaited."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import Any, Generic, TypeVar

from buffetstore.sync.loop import LOOP, blocking

T = TypeVar("T")


class BlockingFace(Generic[T]):
    """Every method of the awaited object, blocking, with its signature and documentation.

    Coroutines are run to their end, async iterators become iterators; the rest is as it is.
    """

    def __init__(self, awaited: T) -> None:
        self._awaited = awaited

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._awaited, name)
        if inspect.iscoroutinefunction(found):
            return _waiting(found)
        return _iterating(found) if inspect.isasyncgenfunction(found) else found

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._awaited) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<blocking {self._awaited!r}>"


def _waiting(method: Any) -> Any:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        return LOOP.run(method(*arguments, **options))

    return _marked(call)


def _iterating(method: Any) -> Any:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        return blocking(method(*arguments, **options))

    return _marked(call)


def _marked(call: Any) -> Any:
    """Let `inspect` see a plain function, whose signature is the awaited one's."""
    signature = inspect.signature(call)
    del call.__wrapped__
    call.__signature__ = signature
    return call
