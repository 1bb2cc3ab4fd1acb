"""The fault contract of object stores: whatever goes wrong on the way, no wrong answer.

>>> class TestMyStoreUnderFaults(ObjectStoreFaultContract):
...     @pytest.fixture
...     def injector(self, proxy):  # a fixture that gives `in_background(HttpFaultProxy(endpoint))`
...         return HttpInjector(proxy)
...
...     @pytest.fixture
...     async def raw_store(self, injector, idle_seconds):  # empty, and this test's own
...         async with MyStore(injector.proxy.url, timeout_seconds=idle_seconds) as store:
...             yield store

Every operation meets every fault. The answer must be right: success, and the object is there once with the right bytes;
or an error of ours that is true. A table of all cases is the last thing in pytest's output.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import ConflictError, StorageError
from buffetstore.monitoring.events import no_hook
from buffetstore.objects.wrappers.metrics import MetricsStore
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import fault_report
from buffetstore.testing.fault_cases import BODY, CASES, FAULTS, KEY, PLAIN, UPLOADS, Case
from buffetstore.testing.object_store_retries import RetryCases
from buffetstore.testing.object_store_writes import needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buffetstore.objects.base import ObjectStore
    from buffetstore.testing.fault_injection import Injector
    from buffetstore.testing.http_faults import HttpFault

_LASTING = ["503 after apply", "reset after apply", "truncated body", "429 with Retry-After"]
_HANG_SECONDS = 30.0
_PATIENT = RetryPolicy(attempts=10)


@pytest.mark.asyncio
class ObjectStoreFaultContract(RetryCases):
    """Every fault meets every operation of the stack that users get: metrics over retry over `raw_store`.

    Attributes
    ----------
    upload_bytes:
        The size of an upload: at least two parts.
    part_bytes:
        The size of its parts: a broken upload may send less than so many bytes again. None where parts are not seen.
    checks_uploads:
        False where the server under test does not check the checksums that it is sent: then a flipped bit of a request
        is not found by anyone.
    stall_seconds:
        The idle time-out where a stall must end by it: longer than the server ever takes for an answer.
    """

    upload_bytes = 3 * 1024 * 1024
    part_bytes: int | None = 1024 * 1024
    checks_uploads = True
    stall_seconds = 0.4

    @pytest.fixture
    def injector(self) -> Injector:
        """Give what strikes the requests of `raw_store`."""
        pytest.fail(f"{type(self).__name__} must define the fixture `injector`")

    @pytest.fixture
    async def raw_store(self, injector: Injector) -> ObjectStore:
        """Give an empty store, without wrappers, whose requests the injector strikes."""
        pytest.fail(f"{type(self).__name__} must define the fixture `raw_store`: {injector} strikes it")

    @pytest.fixture(autouse=True)
    def no_faults_left(self, injector: Injector) -> Iterator[None]:
        """Begin and end without faults: one proxy may serve all tests."""
        injector.clear()
        yield
        injector.clear()

    @pytest.fixture
    def idle_seconds(self, request: pytest.FixtureRequest) -> float:
        """Give the time-out to open `raw_store` with: short where a stall must end by it, else never reached."""
        if "stall" not in request.node.name:
            return 20.0
        return 5 * self.stall_seconds if "test_7" in request.node.name else self.stall_seconds

    @pytest.fixture
    def waits(self) -> list[float]:
        """Hold how long each retry would have waited."""
        return []

    @pytest.fixture
    def policy(self, waits: list[float]) -> RetryPolicy:
        """Give a policy that takes note of its waits instead of waiting."""

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        return RetryPolicy(attempts=4, base_seconds=0.001, sleep=sleep)

    @pytest.fixture
    async def store(self, raw_store: ObjectStore, policy: RetryPolicy) -> ObjectStore:
        """Give the default stack over `raw_store`, which closes it."""
        return MetricsStore(RetryStore(raw_store, policy), no_hook)

    @pytest.fixture
    def note(
        self, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
    ) -> Callable[..., None]:
        """Take a case into the table at the end of the output."""
        plugins = request.config.pluginmanager
        if not plugins.is_registered(fault_report):
            plugins.register(fault_report)

        def note(operation: str, fault: str, outcome: str, *, lasts: bool = False) -> None:
            suite = f"{type(self).__name__}, faults that last" if lasts else type(self).__name__
            record_property(fault_report.PROPERTY, (suite, operation, fault, outcome))

        return note

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("name", [case.name for case in PLAIN])
    async def test_a_fault_once(
        self, name: str, fault: str, store: ObjectStore, raw_store: ObjectStore, injector: Injector,
        note: Callable[..., None], waits: list[float],
    ) -> None:  # fmt: skip
        """One request is struck; the retry must then end as if nothing had been."""
        for skip in self._stages_of(CASES[name]):
            case = self._ready(name, fault, raw_store, injector, note)
            await self._run(case, fault, store, raw_store, injector, note, skip=skip)
        asked = FAULTS[fault].retry_after
        assert asked is None or max(waits) >= asked, "the service's Retry-After was not kept"

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("name", [case.name for case in UPLOADS])
    async def test_a_fault_in_an_upload(
        self, name: str, fault: str, store: ObjectStore, raw_store: ObjectStore, injector: Injector,
        note: Callable[..., None],
    ) -> None:  # fmt: skip
        """The first request, one of a part, and the last one are struck."""
        case = self._ready(name, fault, raw_store, injector, note)
        await case.prepare(RetryStore(raw_store, _PATIENT))
        injector.clear()
        with suppress(ConflictError):  # where that is the right answer
            await case.run(store)
        count = injector.requests
        for skip in sorted({0, count // 2, count - 1} if case.conflict is None else {count - 1}):
            injector.clear()
            await RetryStore(raw_store, _PATIENT).delete([KEY])
            await self._run(case, fault, store, raw_store, injector, note, skip=skip)

    @pytest.mark.parametrize(
        ("name", "fault"),
        # Stores repeat parts by a policy of their own, whose waits are real: one fault shows what there is to see.
        [(case.name, fault) for case in PLAIN for fault in _LASTING] + [(case.name, _LASTING[0]) for case in UPLOADS],
    )
    async def test_a_fault_that_lasts(
        self, name: str, fault: str, store: ObjectStore, raw_store: ObjectStore, injector: Injector,
        note: Callable[..., None],
    ) -> None:  # fmt: skip
        """Every request is struck: an error that says no more than is known."""
        case = self._ready(name, fault, raw_store, injector, note)
        await self._run(case, fault, store, raw_store, injector, note, lasts=True)

    def _stages_of(self, case: type[Case]) -> range:
        return range(2 if case.stages else 1)

    def _ready(self, name: str, fault: str, store: ObjectStore, injector: Injector, note: Callable[..., None]) -> Case:
        """Return the case, or skip and say why."""
        kind = CASES[name]
        case = kind((BODY * (self.upload_bytes // len(BODY) + 1))[: self.upload_bytes]) if kind in UPLOADS else kind()
        reason = None
        if not injector.can(FAULTS[fault]):
            reason = f"the injector has no {fault}"
        elif fault == "flipped bit" and case.flips == "nothing":
            reason = f"a flipped bit of {name} has no checksum to be found by"
        elif fault == "flipped bit" and case.flips == "request" and not self.checks_uploads:
            reason = "needs a server that checks what it is sent (checks_uploads)"
        if reason is not None:
            note(name, fault, "-")
            pytest.skip(reason)
        if case.capability is not None:
            needs(store, case.capability)
        return case

    async def _run(
        self, case: Case, fault: str, store: ObjectStore, raw_store: ObjectStore, injector: Injector,
        note: Callable[..., None], *, skip: int = 0, lasts: bool = False,
    ) -> None:  # fmt: skip
        # Looks without faults, but maybe on connections that a fault has left broken.
        sure = RetryStore(raw_store, _PATIENT)
        try:
            await case.prepare(sure)
            injector.clear()
            injector.add(self._struck(case, fault, skip=skip, lasts=lasts))
            error, answer = None, None
            try:
                async with asyncio.timeout(_HANG_SECONDS):
                    answer = await case.run(store)
            except StorageError as failure:
                error = failure
            injector.clear()
            await case.check(sure, answer, error)
            if not lasts and fault != "flipped bit" and case.conflict is None:
                assert error is None, f"one fault was not mended: {type(error).__name__}: {error}"
        except BaseException as failure:
            note(case.name, fault, f"{fault_report.WRONG} ({type(failure).__name__})", lasts=lasts)
            raise
        finally:
            injector.clear()
        note(case.name, fault, _said(error), lasts=lasts)

    def _struck(self, case: Case, fault: str, *, skip: int, lasts: bool) -> HttpFault:
        chosen = replace(FAULTS[fault], skip=skip, times=None if lasts else 1)
        if lasts:
            chosen.retry_after = None  # stores that repeat parts themselves would keep it each time
        if chosen.kind == "flip" and case.flips != "request":
            chosen = replace(chosen, when="after", after_bytes=0 if case.flips == "answer's form" else None)
        return chosen


def _said(error: StorageError | None) -> str:
    return "right" if error is None else type(error).__name__.removesuffix("Error") + "?" * error.ambiguous
