"""What happened, as one frozen value; whoever wants to know registers a hook."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Operation:
    """One finished operation.

    Parameters
    ----------
    name:
        Dotted: the layer, then the verb (`objects.get`, `objects.retry`, `table.commit`, `storage.retrieve`).
    seconds:
        How long it took, by the monotonic clock.
    subject:
        What it was done to: an object key, a table path or a data type.
    error:
        The error's `code`, or None when it succeeded.
    counts:
        Whole numbers that belong to it: `bytes_in`, `bytes_out`, `rows`, `files_scanned`, `files_pruned`...
    """

    name: str
    seconds: float
    subject: str = ""
    error: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class Hook(Protocol):
    """Is told of every finished operation. Must be quick and must not raise."""

    def __call__(self, operation: Operation, /) -> None:
        """Take note of `operation`."""


def no_hook(_operation: Operation, /) -> None:
    """The hook of whoever does not want to know."""


def fan_out(hooks: Sequence[Hook]) -> Hook:
    """Return one hook that tells all of `hooks`, in order."""
    if len(hooks) == 1:
        return hooks[0]

    def tell(operation: Operation, /) -> None:
        for hook in hooks:
            hook(operation)

    return tell


@contextmanager
def observed(hook: Hook, name: str, subject: str = "") -> Iterator[dict[str, int]]:
    """Tell `hook` of the block: its seconds, its error's code, and the counts that the block puts in the dict."""
    counts: dict[str, int] = {}
    started = time.perf_counter()
    error: str | None = None
    try:
        yield counts
    except BaseException as exception:
        error = error_code(exception)
        raise
    finally:
        hook(Operation(name, time.perf_counter() - started, subject, error, counts))


def error_code(exception: BaseException) -> str:
    """Return the stable code of one of our errors, else the class name."""
    code: Any = getattr(exception, "code", None)
    return code if isinstance(code, str) else type(exception).__name__
