"""The retry wrapper under scripted faults: what the caller is told must be true."""

from __future__ import annotations

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    UnavailableError,
)
from buffetstore.objects import (
    CREATE,
    OVERWRITE,
    Attributes,
    ByteRange,
    LocalStore,
    MemoryStore,
    RetryStore,
    Update,
    get_bytes,
    head,
    list_all,
)
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import Fault, FaultyStore

BODY = bytes(range(256)) * 12_000  # three chunks


async def no_sleep(_seconds: float) -> None:
    """Wait not at all: tests of retries need no time to pass."""


POLICY = RetryPolicy(attempts=3, sleep=no_sleep)


@pytest.fixture(params=["memory", "local"])
def inner(request, tmp_path):
    """A store that settles by token, and one that settles by content."""
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path)


@pytest.fixture
def faulty(inner):
    return FaultyStore(inner)


@pytest.fixture
def store(faulty):
    return RetryStore(faulty, POLICY)


LOST = Fault("after")
FAILED = Fault("before")
REFUSED = Fault("before", ambiguous=False)


class TestConditionalWrites:
    async def test_a_body_that_is_cut_while_it_is_compared_proves_nothing(self, store, faulty):
        faulty.inject("put", LOST)
        faulty.inject("get", Fault("truncated", after_bytes=2))
        meta = await store.put("k", b"ours", mode=CREATE)
        assert await get_bytes(store, "k", if_match=meta.version) == b"ours"

    @pytest.mark.parametrize("faults", [[LOST], [LOST, FAILED], [FAILED], [FAILED, LOST], [FAILED, FAILED], [REFUSED]])
    async def test_our_own_create_is_success(self, store, faulty, faults):
        faulty.inject("put", *faults)
        meta = await store.put("k", b"ours", mode=CREATE)
        assert await get_bytes(store, "k", if_match=meta.version) == b"ours"
        with pytest.raises(AlreadyExistsError):
            await store.put("k", b"ours", mode=CREATE)

    @pytest.mark.parametrize("faults", [[LOST, LOST, LOST], [LOST, FAILED, FAILED], [FAILED, FAILED, LOST]])
    async def test_it_is_found_even_after_the_last_attempt(self, store, faulty, faults):
        faulty.inject("put", *faults)
        meta = await store.put("k", b"ours", mode=CREATE)
        assert await get_bytes(store, "k", if_match=meta.version) == b"ours"

    async def test_somebody_elses_create_is_a_loss(self, store, faulty, inner):
        await inner.put("k", b"theirs")
        faulty.inject("put", FAILED)
        with pytest.raises(AlreadyExistsError) as failure:
            await store.put("k", b"ours", mode=CREATE)
        assert not failure.value.ambiguous
        assert await get_bytes(inner, "k") == b"theirs"

    async def test_a_plain_loss_costs_one_request(self, store, faulty, inner):
        await inner.put("k", b"theirs")
        with pytest.raises(AlreadyExistsError):
            await store.put("k", b"ours", mode=CREATE)
        assert faulty.calls == ["put"]

    async def test_equal_bytes_of_another_are_told_apart_by_the_token(self):
        memory = MemoryStore()
        await memory.put("k", b"same")
        store = RetryStore(FaultyStore(memory, {"put": [FAILED]}), POLICY)
        with pytest.raises(AlreadyExistsError):
            await store.put("k", b"same", mode=CREATE)

    async def test_nothing_landed_and_nothing_can_be_said(self, store, faulty, inner):
        faulty.inject("put", FAILED, FAILED, FAILED)
        with pytest.raises(UnavailableError, match="after 3 attempts") as failure:
            await store.put("k", b"ours", mode=CREATE)
        assert failure.value.ambiguous
        assert await list_all(inner) == []

    async def test_an_unclear_write_stays_unclear_when_it_is_then_refused(self, store, faulty):
        faulty.inject("put", FAILED, Fault("before", ambiguous=False, error=PermissionDeniedError))
        with pytest.raises(PermissionDeniedError) as failure:
            await store.put("k", b"ours", mode=CREATE)
        assert failure.value.ambiguous

    async def test_a_refused_write_is_not_unclear(self, store, faulty):
        faulty.inject("put", REFUSED, REFUSED, REFUSED)
        with pytest.raises(UnavailableError) as failure:
            await store.put("k", b"ours", mode=CREATE)
        assert not failure.value.ambiguous

    async def test_reading_back_is_retried_too(self, store, faulty):
        verb = "head" if store.capabilities.metadata else "get"
        faulty.inject("put", LOST)
        faulty.inject(verb, FAILED, FAILED)
        await store.put("k", b"ours", mode=CREATE)
        assert faulty.calls == ["put", "put", verb, verb, verb]  # once a conflict is seen, nothing is written again

    async def test_our_own_update_is_success(self, store, faulty, inner):
        first = await inner.put("k", b"old")
        faulty.inject("put", LOST)
        meta = await store.put("k", b"new", mode=Update(first.version))
        assert await get_bytes(store, "k", if_match=meta.version) == b"new"

    async def test_an_update_replaced_before_we_looked_is_unclear(self, inner):
        class Overtaken(FaultyStore):
            async def put(self, key, data, **options):
                try:
                    return await super().put(key, data, **options)
                except UnavailableError:
                    await self.inner.put(key, b"theirs")
                    raise

        first = await inner.put("k", b"old")
        store = RetryStore(Overtaken(inner, {"put": [LOST]}), POLICY)
        with pytest.raises(PreconditionFailedError) as failure:
            await store.put("k", b"ours", mode=Update(first.version))
        assert failure.value.ambiguous

    async def test_a_stale_update_is_a_plain_loss(self, store, inner):
        first = await inner.put("k", b"old")
        await inner.put("k", b"new")
        with pytest.raises(PreconditionFailedError) as failure:
            await store.put("k", b"ours", mode=Update(first.version))
        assert not failure.value.ambiguous

    async def test_the_token_stays_ours(self):
        memory = MemoryStore()
        store = RetryStore(memory, POLICY)
        attributes = Attributes("text/plain", {"run-id": "1"})
        assert (await store.put("d/k", b"", mode=CREATE, attributes=attributes)).attributes == attributes
        async with await store.start_upload("d/l", attributes=attributes) as upload:
            assert (await upload.complete()).attributes == attributes
        assert (await store.copy("d/k", "d/m")).attributes == attributes
        assert (await head(store, "d/k")).attributes == attributes
        assert [meta.attributes for meta in await list_all(store)] == [attributes] * 3
        assert [meta.attributes for meta in (await store.list_prefixes("d/")).objects] == [attributes] * 3
        assert "buffetstore-token" in (await head(memory, "d/k")).attributes.metadata


class TestUploads:
    @pytest.mark.parametrize("mode", [OVERWRITE, CREATE])
    @pytest.mark.parametrize("faults", [[LOST], [FAILED, LOST], [LOST, LOST, LOST], [REFUSED]])
    async def test_a_completion_is_settled(self, store, faulty, mode, faults):
        faulty.inject("start_upload", FAILED)
        faulty.inject("complete", *faults)
        async with await store.start_upload("k", mode=mode) as upload:
            await upload.write(b"o")
            await upload.write(b"urs" * 50_000)
            meta = await upload.complete()
        assert await get_bytes(store, "k", if_match=meta.version) == b"o" + b"urs" * 50_000

    async def test_a_completion_that_cannot_be_repeated_is_looked_for(self, store, faulty):
        faulty.inject("complete", LOST)
        faulty.inject("head" if store.capabilities.metadata else "get", FAILED, FAILED)
        async with await store.start_upload("k") as upload:
            await upload.write(b"ours")
            meta = await upload.complete()
        assert await get_bytes(store, "k", if_match=meta.version) == b"ours"

    async def test_a_lost_race_is_a_loss(self, store, faulty, inner):
        faulty.inject("complete", FAILED)
        async with await store.start_upload("k", mode=CREATE) as upload:
            await upload.write(b"ours")
            await inner.put("k", b"them")  # of the same size
            with pytest.raises(AlreadyExistsError):
                await upload.complete()
        assert await get_bytes(inner, "k") == b"them"


class TestReads:
    @pytest.mark.parametrize("at", [0, 1, 1024 * 1024, 1_500_000, len(BODY) - 1])
    @pytest.mark.parametrize("when", ["body", "truncated"])
    async def test_a_broken_stream_is_resumed_where_it_broke(self, store, faulty, inner, at, when):
        await inner.put("k", BODY)
        faulty.inject("get", Fault(when, after_bytes=at), FAILED, Fault(when, after_bytes=1))
        async with await store.get("k") as result:
            chunks = [bytes(chunk) async for chunk in result]
        assert b"".join(chunks) == BODY
        faulty.inject("get", Fault(when, after_bytes=at), FAILED)
        assert await get_bytes(store, "k") == BODY

    async def test_a_range_is_resumed_within_its_bounds(self, store, faulty, inner):
        await inner.put("k", BODY)
        faulty.inject("get", Fault("body", after_bytes=700_000))
        async with await store.get("k", range=ByteRange(1000, 2_000_000)) as result:
            chunks = [bytes(chunk) async for chunk in result]
        assert b"".join(chunks) == BODY[1000:2_000_000]
        faulty.inject("get", Fault("body", after_bytes=50))
        assert await get_bytes(store, "k", range=ByteRange(-100)) == BODY[-100:]

    async def test_the_rest_may_be_read_after_some_of_it(self, store, faulty, inner):
        await inner.put("k", BODY)
        faulty.inject("get", Fault("body", after_bytes=1_500_000))
        async with await store.get("k") as result:
            async for chunk in result:
                first = bytes(chunk)
                break
            assert first + await result.read() == BODY

    async def test_bytes_of_two_versions_never_mix(self, store, faulty, inner):
        await inner.put("k", BODY)
        faulty.inject("get", Fault("body", after_bytes=1_500_000))
        async with await store.get("k") as result:
            await inner.put("k", bytes(len(BODY)))
            with pytest.raises(PreconditionFailedError):
                [chunk async for chunk in result]
        faulty.inject("get", Fault("body", after_bytes=1_500_000))
        assert await get_bytes(store, "k") == bytes(len(BODY))

    async def test_a_body_that_never_comes_is_given_up(self, store, faulty, inner):
        await inner.put("k", BODY)
        faulty.inject("get", *[Fault("truncated")] * 3)
        with pytest.raises(UnavailableError, match=r"ended after 0 of 3072000 bytes \(after 3 attempts\)"):
            await get_bytes(store, "k")
        faulty.inject("get", *[Fault("truncated")] * 3)
        async with await store.get("k") as result:
            with pytest.raises(UnavailableError, match="after 3 attempts"):
                [chunk async for chunk in result]

    async def test_a_wrong_checksum_is_read_again_when_nothing_was_handed_on(self, store, faulty, inner):
        await inner.put("k", BODY)
        damaged = Fault("body", error=ChecksumMismatchError, after_bytes=2_000_000)
        faulty.inject("get", damaged)
        assert await get_bytes(store, "k") == BODY
        faulty.inject("get", damaged)
        async with await store.get("k") as result:
            with pytest.raises(ChecksumMismatchError):
                [chunk async for chunk in result]

    async def test_a_missing_key_costs_one_request(self, store, faulty):
        with pytest.raises(NotFoundError):
            await get_bytes(store, "gone")
        assert faulty.calls == ["get"]

    async def test_ranges_and_heads_are_retried(self, store, faulty, inner):
        await inner.put("k", b"body")
        faulty.inject("get_ranges", FAILED, LOST)
        faulty.inject("head", FAILED, LOST)
        assert await store.get_ranges("k", [(1, 3)]) == [b"od"]
        assert (await head(store, "k")).size == 4


class TestTheRest:
    async def test_a_listing_goes_on_where_it_broke(self, store, faulty, inner):
        keys = [f"k{number}" for number in range(9)]
        for key in keys:
            await inner.put(key, b"")
        faulty.inject("list_objects", Fault("body", after_bytes=4), FAILED, Fault("body", after_bytes=3))
        assert [meta.key for meta in await list_all(store)] == keys
        faulty.inject("list_objects", FAILED, FAILED, FAILED)
        with pytest.raises(UnavailableError, match="after 3 attempts"):
            await list_all(store)
        faulty.inject("list_prefixes", FAILED)
        assert len((await store.list_prefixes()).objects) == 9

    async def test_idempotent_calls_are_repeated(self, store, faulty, inner):
        faulty.inject("put", LOST, FAILED)
        await store.put("k", b"body")
        faulty.inject("copy", LOST, FAILED)
        await store.copy("k", "l")
        faulty.inject("delete", LOST, FAILED)
        await store.delete(["k"])
        assert [meta.key for meta in await list_all(inner)] == ["l"]

    async def test_a_conditional_copy_is_repeated_only_if_it_did_nothing(self, store, faulty, inner):
        await inner.put("k", b"body")
        faulty.inject("copy", REFUSED)
        await store.copy("k", "l", mode=CREATE)
        faulty.inject("copy", LOST)
        with pytest.raises(UnavailableError) as failure:
            await store.copy("k", "m", mode=CREATE)
        assert failure.value.ambiguous

    async def test_the_hook_is_told(self, faulty):
        told = []
        faulty.inject("put", FAILED)
        await RetryStore(faulty, POLICY, hook=told.append).put("k", b"")
        assert [(operation.name, operation.subject, operation.error) for operation in told] == [
            ("objects.retry", "k", "unavailable")
        ]
