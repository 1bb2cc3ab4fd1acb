"""What is repeated and what is not: the scenarios of Google's retry conformance tests, on any store.

After googleapis/conformance-tests, storage/v1/retry_tests.json, scenarios 1 to 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import CorruptionError, StorageError, UnavailableError
from buffetstore.objects.base import CREATE, Update
from buffetstore.objects.helpers import get_bytes, head, list_all
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.testing.fault_cases import BODY, KEY, OLD
from buffetstore.testing.http_faults import HttpFault
from buffetstore.testing.object_store_writes import needs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.objects.base import ObjectStore
    from buffetstore.testing.fault_injection import Injector
    from buffetstore.testing.gcs.faults import Kind

    Call = Callable[[ObjectStore], Awaitable[object]]

_OVERHEAD_BYTES = 16 * 1024  # of the requests that begin and end an upload
TRANSIENT = {"503, 503": "SS", "reset, reset": "RR", "reset, 503": "RS"}
IDEMPOTENT: dict[str, Call] = {
    "get": lambda store: get_bytes(store, KEY),
    "get_ranges": lambda store: store.get_ranges(KEY, [(0, 10)]),
    "list_objects": list_all,
    "list_prefixes": lambda store: store.list_prefixes("dir/"),
    "delete": lambda store: store.delete([KEY]),
    "put": lambda store: store.put(KEY, OLD),
}
REFUSALS = [400, 401, 403]


def faults(letters: str) -> list[HttpFault]:
    """Return fresh faults: S is a 503, R a reset connection, both before the request is applied."""
    return [HttpFault("status") if letter == "S" else HttpFault("reset") for letter in letters]


class RetryCases:
    """What holds for the default stack over a store whose requests are struck."""

    part_bytes: int | None
    upload_bytes: int

    @pytest.mark.parametrize("script", TRANSIENT)
    @pytest.mark.parametrize("name", IDEMPOTENT)
    async def test_1_what_is_idempotent_is_repeated(
        self, name: str, script: str, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        await raw_store.put(KEY, BODY)
        injector.clear()
        injector.add(*faults(TRANSIENT[script]))
        await IDEMPOTENT[name](store)
        assert injector.requests >= 3

    @pytest.mark.parametrize("script", TRANSIENT)
    @pytest.mark.parametrize("kind", ["create", "update"])
    async def test_2_conditional_writes_are_settled(
        self, kind: str, script: str, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        needs(store, f"conditional_{kind}")
        mode = Update((await raw_store.put(KEY, OLD)).version) if kind == "update" else CREATE
        injector.clear()
        injector.add(*faults(TRANSIENT[script]))
        meta = await store.put(KEY, BODY, mode=mode)
        assert injector.requests >= 3
        assert await get_bytes(RetryStore(raw_store), KEY, if_match=meta.version) == BODY

    @pytest.mark.parametrize("script", TRANSIENT)
    async def test_3_an_overwrite_is_repeated_whole(
        self, script: str, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        """Google's clients do not; here the same bytes again are the same object."""
        injector.add(*faults(TRANSIENT[script]))
        await store.put(KEY, BODY)
        assert await get_bytes(RetryStore(raw_store), KEY) == BODY

    async def test_4_a_conditional_copy_is_not_repeated_in_the_dark(
        self, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        """Nobody can tell two copies apart, so that the error leaves it open."""
        needs(store, "conditional_create")
        await raw_store.put("source", BODY)
        injector.clear()
        await store.copy("source", "clean", mode=CREATE)
        requests = injector.requests
        injector.clear()
        injector.add(HttpFault("status", when="after", skip=requests - 1))
        with pytest.raises(UnavailableError) as failure:
            await store.copy("source", KEY, mode=CREATE)
        assert failure.value.ambiguous
        assert injector.requests < 2 * requests  # an upload may have been given up, but nothing was repeated
        assert await get_bytes(RetryStore(raw_store), KEY) == BODY

    @pytest.mark.parametrize("status", REFUSALS)
    @pytest.mark.parametrize("name", IDEMPOTENT)
    async def test_5_a_refusal_is_raised_at_once(
        self, name: str, status: int, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        await raw_store.put(KEY, BODY)
        injector.clear()
        injector.add(HttpFault("status", status=status))
        with pytest.raises(StorageError) as failure:
            await IDEMPOTENT[name](store)
        assert injector.requests == 1
        assert not failure.value.transient
        assert not failure.value.ambiguous

    @pytest.mark.parametrize("first", ["S", "R"])
    @pytest.mark.parametrize("status", [400, 401])
    async def test_6_a_refusal_ends_the_repeating(
        self, first: str, status: int, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        await raw_store.put(KEY, BODY)
        injector.clear()
        injector.add(*faults(first), HttpFault("status", status=status))
        with pytest.raises(StorageError) as failure:
            await get_bytes(store, KEY)
        assert injector.requests == 2
        assert not failure.value.transient

    @pytest.mark.parametrize("share", [0.3, 0.7])
    @pytest.mark.parametrize("kind", ["reset", "stall"])
    async def test_7_a_broken_upload_goes_on_where_it_was(
        self, kind: Kind, share: float, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        """The part at `share` of the object is cut in its middle, or never answered: it alone is sent again."""
        part = self.part_bytes
        if part is None or injector.bytes_up is None:
            pytest.skip("needs an injector that sees the bytes of parts (part_bytes)")
        data = memoryview((BODY * (self.upload_bytes // len(BODY) + 1))[: self.upload_bytes])
        parts = -(-len(data) // part)
        last = len(data) - (parts - 1) * part
        fault = HttpFault(kind, min_bytes=last, skip=int(parts * share))
        if kind == "reset":
            fault.after_bytes = last // 2
        injector.clear()
        injector.add(fault)
        async with await store.start_upload(KEY) as upload:
            for at in range(0, len(data), part):
                await upload.write(data[at : at + part])
            await upload.complete()
        assert fault.times == 0, "no part was struck"
        assert injector.bytes_up is not None
        assert injector.bytes_up - len(data) <= part + _OVERHEAD_BYTES
        assert await get_bytes(RetryStore(raw_store), KEY) == data

    @pytest.mark.parametrize("kind", ["reset", "truncate"])
    async def test_8_a_broken_download_goes_on_where_it_was(
        self, kind: Kind, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        """Streamed, it breaks twice; the bytes come once and in order."""
        data = BODY * 8
        await raw_store.put(KEY, data)
        injector.clear()
        injector.add(*(HttpFault(kind, when="after", after_bytes=cut) for cut in (len(data) // 3, len(data) // 3)))
        async with await store.get(KEY) as result:
            body = b"".join([bytes(chunk) async for chunk in result])
        assert body == data
        assert injector.requests == 3
        if injector.bytes_down is not None and kind == "truncate":  # a reset takes bytes away that had come already
            assert injector.bytes_down <= len(data) + 64 * 1024

    async def test_8b_a_streamed_body_with_a_wrong_bit_is_an_error(
        self, store: ObjectStore, raw_store: ObjectStore, injector: Injector
    ) -> None:
        """What was handed on cannot be taken back: the stream ends in an error, and is never merely wrong."""
        fault = HttpFault("flip", when="after")
        if not injector.can(fault):
            pytest.skip("needs an injector that flips bits")
        await raw_store.put(KEY, BODY)
        injector.clear()
        injector.add(fault)
        try:
            async with await store.get(KEY) as result:
                body = b"".join([bytes(chunk) async for chunk in result])
        except CorruptionError:
            return
        assert body == BODY

    async def test_a_head_is_repeated_too(self, store: ObjectStore, raw_store: ObjectStore, injector: Injector) -> None:
        await raw_store.put(KEY, BODY)
        injector.clear()
        injector.add(*faults("SR"))
        assert (await head(store, KEY)).size == len(BODY)
