"""A store that fails on purpose, by script or at random, the way services fail."""

# ruff: noqa: A002 - names are those of the contract

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from buffetstore.errors import StorageError, UnavailableError
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    PutMode,
    Upload,
)
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper, WrappedResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from random import Random

T = TypeVar("T")
Verb = Literal[
    "put", "start_upload", "write", "complete", "get", "head", "get_ranges", "delete", "list_objects", "list_prefixes",
    "copy",
]  # fmt: skip
WRITES = frozenset({"put", "complete", "copy"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call.

    Parameters
    ----------
    when:
        `before`: nothing was done. `after`: it was done, but the answer was lost. `body`: a download breaks, or a
        listing, after `after_bytes` bytes (or as many keys); `truncated`: the download just ends there. `late`: only
        slow.
    ambiguous:
        Whether the error says that a write may have been applied. True where the client cannot tell, as it cannot for
        most faults `before` a write either.
    error:
        Made into the failure with a message; by default a 503.
    seconds:
        Slept before anything else.
    """

    when: Literal["before", "after", "body", "truncated", "late"] = "before"
    ambiguous: bool = True
    error: Callable[..., StorageError] = UnavailableError
    after_bytes: int = 0
    seconds: float = 0.0

    def failure(self, verb: str, key: str) -> StorageError:
        """Return the error to raise."""
        return self.error(f"scripted fault {self.when} {verb}", key=key, ambiguous=self.ambiguous and verb in WRITES)


def random_faults(random: Random, rate: float = 0.2) -> Callable[[str], Fault | None]:
    """Return a source of faults of every kind, for `FaultyStore(source=...)`; `rate` is their share of all calls.

    A lost answer to a conditional copy cannot be settled by anyone, so that copies fail plainly.
    """

    def draw(verb: str) -> Fault | None:
        if random.random() >= rate:
            return None
        if verb == "copy":
            return Fault("before", ambiguous=False)
        return Fault(
            random.choice(["before", "after", "body", "truncated"]), after_bytes=random.choice([0, 1, 100, 1_500_000])
        )

    return draw


class FaultyStore(StoreWrapper):
    """Fails as told, before or after `inner` has done its work.

    Parameters
    ----------
    script:
        By verb, the faults of its next calls, in order; None is a call that goes well.
    source:
        Asked for the fault of each call whose script is empty.
    latency_seconds:
        Slept before every call: a number, or what draws one, such as ``lambda: random.expovariate(1 / 0.03)``.
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "capabilities", "signed_url", "list_versions", "get_version", "restore_version", "aclose"}
    )

    def __init__(
        self,
        inner: ObjectStore,
        script: dict[Verb, Sequence[Fault | None]] | None = None,
        *,
        source: Callable[[str], Fault | None] = lambda _verb: None,
        latency_seconds: float | Callable[[], float] = 0.0,
    ) -> None:
        super().__init__(inner)
        self._script: dict[str, deque[Fault | None]] = {verb: deque(faults) for verb, faults in (script or {}).items()}
        self._source = source
        self._latency = latency_seconds
        self.calls: list[str] = []

    def inject(self, verb: Verb, *faults: Fault | None) -> None:
        """Add faults for the next calls of `verb`."""
        self._script.setdefault(verb, deque()).extend(faults)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        return await self.call("put", key, lambda: self.inner.put(key, data, mode=mode, attributes=attributes))

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        inner = await self.call(
            "start_upload", key, lambda: self.inner.start_upload(key, mode=mode, attributes=attributes)
        )
        return _FaultyUpload(self, key, inner)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        verb: Verb = "head" if head else "get"
        fault = await self._begin(verb, key)
        result = await self.inner.get(key, range=range, if_match=if_match, head=head)
        if fault is None:
            return result
        if fault.when == "after" or head:
            await result.aclose()
            raise fault.failure(verb, key)
        return WrappedResult(result, result.meta, _broken_body(result, fault, key))

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self.call("get_ranges", key, lambda: self.inner.get_ranges(key, ranges, if_match=if_match))

    async def delete(self, keys: Sequence[str]) -> None:
        await self.call("delete", keys[0] if keys else "", lambda: self.inner.delete(keys))

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        fault = await self._begin("list_objects", prefix)
        count = 0
        async for meta in self.inner.list_objects(prefix, after=after):
            if fault is not None and count >= fault.after_bytes:
                raise fault.failure("list_objects", prefix)
            count += 1
            yield meta

    async def list_prefixes(self, prefix: str = "") -> Listing:
        return await self.call("list_prefixes", prefix, lambda: self.inner.list_prefixes(prefix))

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        return await self.call("copy", target, lambda: self.inner.copy(source, target, mode=mode))

    async def call(self, verb: Verb, key: str, function: Callable[[], Awaitable[T]]) -> T:
        """Run `function` as a call of `verb`, with the fault that is due."""
        fault = await self._begin(verb, key)
        answer = await function()
        if fault is not None:
            raise fault.failure(verb, key)
        return answer

    async def _begin(self, verb: Verb, key: str) -> Fault | None:
        """Return the fault still to come; raise the one that comes first."""
        self.calls.append(verb)
        script = self._script.get(verb)
        fault = script.popleft() if script else self._source(verb)
        latency = self._latency() if callable(self._latency) else self._latency
        if pause := latency + (fault.seconds if fault is not None else 0.0):
            await asyncio.sleep(pause)
        if fault is None or fault.when == "late":
            return None
        if fault.when == "before":
            raise fault.failure(verb, key)
        return fault


async def _broken_body(result: GetResult, fault: Fault, key: str) -> AsyncIterator[Data]:
    left = fault.after_bytes
    async for chunk in result:
        if left < len(chunk):
            if left:
                yield memoryview(chunk)[:left]
            if fault.when == "truncated":
                return
            raise fault.failure("get", key)
        left -= len(chunk)
        yield chunk


class _FaultyUpload(UploadWrapper):
    def __init__(self, store: FaultyStore, key: str, inner: Upload) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key

    async def complete(self) -> ObjectMeta:
        return await self._store.call("complete", self._key, self.inner.complete)
