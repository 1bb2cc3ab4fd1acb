"""Scripted faults, and the log of what was asked.

>>> from buffetstore.testing.gcs.faults import Fault, FaultScript
>>> script = FaultScript()
>>> script.add(Fault("status", operation="objects.insert", when="after", status=503))
>>> script.take("objects.insert", "/upload/storage/v1/b/lake/o").status
503
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["status", "reset", "truncate", "flip", "delay", "stall"]
_KINDS = frozenset({"status", "reset", "truncate", "flip", "delay", "stall"})


@dataclass(slots=True)
class Fault:
    """What goes wrong, for which requests, how often.

    Parameters
    ----------
    kind:
        `status`: answer with `status` (and `retry_after`). `reset`: reset the connection. `truncate`: promise the whole
        body, send half of it, reset. `flip`: change one bit, with `when="before"` of what was received, else of what is
        sent. `delay`: wait `seconds`, then go on. `stall`: with `when="before"` never answer; else send the headers
        and half of the body and then nothing more.
    operation, path:
        Patterns with `*` that the operation (`objects.insert`, `uploads.*`, `xml.get`) and the decoded path
        must match.
    when:
        `before` or `after` the request is applied.
    after_bytes:
        Of an answer that is cut (`truncate`, `stall`): how much of it comes, instead of half. Of a chunk of an upload
        that gets a `status` or a `reset` with `when="before"`: how much of it is kept all the same.
    times:
        How many requests it strikes; None for all. The first `skip` matches are let through.
    """

    kind: Kind
    operation: str = "*"
    path: str = "*"
    when: Literal["before", "after"] = "before"
    times: int | None = 1
    skip: int = 0
    status: int = 503
    retry_after: float | None = None
    seconds: float = 0.0
    after_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or self.when not in {"before", "after"}:
            raise ValueError(f"fault {self.kind!r} when {self.when!r}: kind is one of {sorted(_KINDS)}")

    def strikes(self, operation: str, path: str, size: int) -> bool:  # noqa: ARG002 - other servers' faults look at it
        """Return whether this is a request that is meant."""
        return fnmatchcase(operation, self.operation) and fnmatchcase(path, self.path)


class FaultScript:
    """The faults that are still to come. May be used from any thread."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Add faults; the first that matches a request strikes it."""
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def take(self, operation: str, path: str, size: int = 0) -> Fault | None:
        """Return the fault that strikes this request, whose body has `size` bytes, counting it."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if not fault.strikes(operation, path, size):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                return fault
        return None

    def describe(self) -> list[Mapping[str, Any]]:
        """Return what is still to come, as plain values."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was answered. `status` is 0 where the connection was reset or left hanging."""

    operation: str
    method: str
    path: str
    range: str | None
    status: int
    bytes_in: int
    bytes_out: int


class RequestLog:
    """The latest requests and counters of all of them. May be read from any thread."""

    def __init__(self, keep: int = 10_000) -> None:
        self.requests: deque[Request] = deque(maxlen=keep)
        self.operations: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0

    def add(self, request: Request) -> None:
        """Take note of a request."""
        self.requests.append(request)
        self.operations[request.operation] += 1
        self.bytes_in += request.bytes_in
        self.bytes_out += request.bytes_out

    def clear(self) -> None:
        """Start counting anew."""
        self.requests.clear()
        self.operations.clear()
        self.bytes_in = self.bytes_out = 0

    def describe(self) -> Mapping[str, Any]:
        """Return the counters as plain values."""
        return {
            "operations": dict(self.operations),
            "requests": self.operations.total(),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
