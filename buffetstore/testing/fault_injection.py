"""One vocabulary of faults, `HttpFault`, struck by an HTTP proxy or inside the process.

A suite that takes an `Injector` runs over a real service behind an `HttpFaultProxy`, and over a `MemoryStore` or
`LocalStore` inside a `FaultyStore`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from buffetstore.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    RateLimitedError,
    UnavailableError,
)
from buffetstore.testing.faulty import Fault, FaultyStore
from buffetstore.testing.gcs.faults import FaultScript

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.errors import StorageError
    from buffetstore.objects.base import ObjectStore
    from buffetstore.testing.http_faults import HttpFault, HttpFaultProxy

_CUT_BYTES = 1000
_ERRORS: dict[int, Callable[..., StorageError]] = {
    400: InvalidInputError,
    401: AuthenticationError,
    403: PermissionDeniedError,
}


class Injector(Protocol):
    """Strikes the requests between a store and what it talks to."""

    @property
    def requests(self) -> int:
        """Requests so far."""

    @property
    def bytes_up(self) -> int | None:
        """Bytes of bodies sent to the service; None where that is not seen."""

    @property
    def bytes_down(self) -> int | None:
        """Bytes of bodies that came back."""

    def can(self, fault: HttpFault) -> bool:
        """Return whether there is such a fault here."""

    def add(self, *faults: HttpFault) -> None:
        """Strike the requests to come; the first fault that matches strikes."""

    def clear(self) -> None:
        """Strike no more, and count anew."""


class HttpInjector:
    """Strikes what passes through a proxy."""

    def __init__(self, proxy: HttpFaultProxy) -> None:
        self.proxy = proxy

    @property
    def requests(self) -> int:
        return self.proxy.log.operations.total()

    @property
    def bytes_up(self) -> int:
        return self.proxy.log.bytes_in

    @property
    def bytes_down(self) -> int:
        return self.proxy.log.bytes_out

    def can(self, fault: HttpFault) -> bool:  # noqa: ARG002 - every fault of the vocabulary is the proxy's own
        return True

    def add(self, *faults: HttpFault) -> None:
        self.proxy.faults.add(*faults)

    def clear(self) -> None:
        self.proxy.faults.clear()
        self.proxy.log.clear()


class StoreInjector:
    """Strikes calls of a store in this process, as a client would tell of it.

    Its `store` is to be used instead of `inner`. A bit cannot be flipped here, as memory has no checksum.
    """

    bytes_up = None
    bytes_down = None

    def __init__(self, inner: ObjectStore) -> None:
        self._script = FaultScript()
        self.store = FaultyStore(inner, source=self._draw)

    @property
    def requests(self) -> int:
        return len(self.store.calls)

    def can(self, fault: HttpFault) -> bool:
        # Bodies do not travel in pieces either.
        return fault.kind != "flip" and not (fault.when == "before" and fault.after_bytes)

    def add(self, *faults: HttpFault) -> None:
        self._script.add(*faults)

    def clear(self) -> None:
        self._script.clear()
        self.store.calls.clear()

    def _draw(self, verb: str) -> Fault | None:
        fault = self._script.take(verb, "")
        if fault is None:
            return None
        if fault.kind == "delay":
            return Fault("late", seconds=fault.seconds)
        cut = getattr(fault, "after_bytes", None)
        if verb == "get" and (fault.kind == "truncate" or cut is not None):
            bytes_first = _CUT_BYTES if cut is None else cut
            return Fault("truncated" if fault.kind == "truncate" else "body", after_bytes=bytes_first)
        error = _error(fault.kind, fault.status, fault.retry_after)
        return Fault("after" if fault.kind == "truncate" else fault.when, error=error, ambiguous=fault.status >= 500)


def _error(kind: str, status: int, retry_after: float | None) -> Callable[..., StorageError]:
    if kind == "stall":
        return DeadlineExceededError
    if kind != "status":
        return UnavailableError
    if status == 429:
        return partial(RateLimitedError, retry_after=retry_after)
    return _ERRORS.get(status, UnavailableError)
