"""Random histories of an object store that fails at random, against a dict."""

from __future__ import annotations

import asyncio
import tempfile
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from buffetstore.errors import AlreadyExistsError, InvalidRangeError, NotFoundError, PreconditionFailedError
from buffetstore.monitoring.events import no_hook
from buffetstore.objects import (
    CREATE,
    OVERWRITE,
    ByteRange,
    LocalStore,
    MemoryStore,
    ObjectStore,
    PrefixStore,
    Update,
    get_bytes,
    head,
    list_all,
)
from buffetstore.objects.layers import Layers
from buffetstore.objects.wrappers.cached import CacheOptions
from buffetstore.resilience.circuit import CircuitPolicy
from buffetstore.resilience.hedge import HedgePolicy
from buffetstore.resilience.permits import ConcurrencyLimit
from buffetstore.resilience.rate import RateLimit
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.security import StaticKeys
from buffetstore.testing import FaultyStore, random_faults

# No key is a prefix folder of another, so that a folder on disk can hold them all.
KEYS = ["a", "a.b", "a-b", "b/a", "b/a.c", "b/c/d", "b.c/d", "b!/x", "é/ü", "z/📈", "z/\uff5e", "0"]
PREFIXES = ["", "a", "b", "b/", "b/c/", "b/a", "z/", "none/", "é/ü"]

keys = st.sampled_from(KEYS)
bodies = st.binary(max_size=20) | st.integers(0, 4_000_000).map(bytes)


SECRET = StaticKeys({"2024": b"n" * 32}, current="2024")


async def no_sleep(_seconds: float) -> None:
    """Wait not at all."""


def not_asked_for(url: str) -> ObjectStore:
    raise AssertionError(f"no layer here opens another store, {url} least of all")


class StoreMachine(RuleBasedStateMachine):
    """Every call answers what the dict answers, whatever fails below the retry wrapper."""

    def make(self) -> ObjectStore:
        return MemoryStore()

    def layers(self, retry: RetryPolicy) -> Layers:
        return Layers(retry=retry)

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.loop = asyncio.new_event_loop()
        faulty = FaultyStore(self.make(), source=random_faults(Random(seed), rate=0.15))
        policy = RetryPolicy(attempts=60, deadline_seconds=1e9, sleep=no_sleep)
        self.store = PrefixStore(self.layers(policy).around(faulty, no_hook, another=not_asked_for), "model")
        self.model: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.stale: dict[str, str] = {}
        self.count = 0

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def wrote(self, key: str, body: bytes, version: str) -> None:
        assert version != self.versions.get(key), "a write changes the version"
        if key in self.versions:
            self.stale[key] = self.versions[key]
        self.model[key] = body
        self.versions[key] = version

    def unlike_any(self, body: bytes) -> bytes:
        """Bodies under a condition carry a mark of their own: a folder has nowhere else to tell whose they are."""
        self.count += 1
        return body + f"#{self.count}".encode()

    def may(self, key: str, kind: str) -> tuple[type[Exception] | None, object]:
        """Return the error that the dict foresees, and the mode."""
        if kind == "create":
            return (AlreadyExistsError if key in self.model else None), CREATE
        if kind == "update":
            return (None if key in self.model else PreconditionFailedError), Update(self.versions.get(key, "none"))
        if kind == "stale" and key in self.stale:
            return PreconditionFailedError, Update(self.stale[key])
        return None, OVERWRITE

    modes = st.sampled_from(["overwrite", "create", "update", "stale"])

    @rule(key=keys, body=bodies, kind=modes)
    def put(self, key, body, kind):
        error, mode = self.may(key, kind)
        body = self.unlike_any(body)
        if error is not None:
            with pytest.raises(error) as failure:
                self.run(self.store.put(key, body, mode=mode))
            assert failure.value.key == key
            return
        self.wrote(key, body, self.run(self.store.put(key, body, mode=mode)).version)

    @rule(key=keys, parts=st.lists(bodies, max_size=3), kind=modes, complete=st.booleans())
    def upload(self, key, parts, kind, complete):
        error, mode = self.may(key, kind)
        parts = [*parts, self.unlike_any(b"")]

        async def upload():
            async with await self.store.start_upload(key, mode=mode) as upload:
                for part in parts:
                    await upload.write(part)
                return await upload.complete() if complete else None

        if complete and error is not None:
            with pytest.raises(error):
                self.run(upload())
            return
        meta = self.run(upload())
        if meta is not None:
            self.wrote(key, b"".join(parts), meta.version)

    @rule(source=keys, destination=keys, kind=modes)
    def copy(self, source, destination, kind):
        error, mode = self.may(destination, kind)
        error = error if source in self.model else NotFoundError
        if error is not None:
            with pytest.raises((NotFoundError, error)):
                self.run(self.store.copy(source, destination, mode=mode))
            return
        meta = self.run(self.store.copy(source, destination, mode=mode))
        self.wrote(destination, self.model[source], meta.version)

    @rule(gone=st.lists(keys, max_size=3))
    def delete(self, gone):
        self.run(self.store.delete(gone))
        for key in gone:
            if self.model.pop(key, None) is not None:
                self.stale[key] = self.versions.pop(key)

    @rule(key=keys)
    def get(self, key):
        if key not in self.model:
            with pytest.raises(NotFoundError):
                self.run(get_bytes(self.store, key))
            return
        assert self.run(get_bytes(self.store, key, if_match=self.versions[key])) == self.model[key]
        meta = self.run(head(self.store, key))
        assert (meta.key, meta.size, meta.version) == (key, len(self.model[key]), self.versions[key])
        if key in self.stale:
            with pytest.raises(PreconditionFailedError):
                self.run(get_bytes(self.store, key, if_match=self.stale[key]))

    @rule(key=keys)
    def stream(self, key):
        async def stream():
            async with await self.store.get(key) as result:
                return b"".join([bytes(chunk) async for chunk in result])

        if key in self.model:
            assert self.run(stream()) == self.model[key]

    @rule(key=keys, start=st.integers(-30, 30), length=st.none() | st.integers(1, 30))
    def get_range(self, key, start, length):
        if key not in self.model:
            return
        body = self.model[key]
        asked = ByteRange(start) if length is None or start < 0 else ByteRange(start, start + length)
        expected = body[max(start, -len(body)) if start < 0 else start : asked.end]
        if not expected:
            with pytest.raises(InvalidRangeError):
                self.run(get_bytes(self.store, key, range=asked))
            return
        assert self.run(get_bytes(self.store, key, range=asked)) == expected
        if start >= 0:
            spans = [(start, start + 7), (0, 1)]
            assert self.run(self.store.get_ranges(key, spans)) == [body[first:last] for first, last in spans]

    @rule(prefix=st.sampled_from(PREFIXES), after=st.sampled_from(["", "b/", "b/b", *KEYS]))
    def list_objects(self, prefix, after):
        found = self.run(list_all(self.store, prefix, after=after))
        expected = sorted((key for key in self.model if key.startswith(prefix) and key > after), key=str.encode)
        assert [meta.key for meta in found] == expected
        assert [(meta.size, meta.version) for meta in found] == [
            (len(self.model[key]), self.versions[key]) for key in expected
        ]

    @rule(prefix=st.sampled_from([prefix for prefix in PREFIXES if prefix.endswith("/") or not prefix]))
    def list_prefixes(self, prefix):
        listing = self.run(self.store.list_prefixes(prefix))
        rests = [key[len(prefix) :] for key in sorted(self.model, key=str.encode) if key.startswith(prefix)]
        assert [meta.key for meta in listing.objects] == [prefix + rest for rest in rests if "/" not in rest]
        deeper = {prefix + rest.partition("/")[0] + "/" for rest in rests if "/" in rest}
        assert list(listing.prefixes) == sorted(deeper, key=str.encode)

    @invariant()
    def nothing_else_is_there(self):
        assert [meta.key for meta in self.run(list_all(self.store))] == sorted(self.model, key=str.encode)

    def teardown(self):
        if hasattr(self, "loop"):
            self.run(self.store.aclose())
            self.run(self.loop.shutdown_asyncgens())
            self.loop.close()


class GuardedMachine(StoreMachine):
    """Every layer of resilience at once: each read is asked for twice, and few calls may be in flight."""

    def layers(self, retry: RetryPolicy) -> Layers:
        return Layers(
            hedge=HedgePolicy(minimum_samples=1, minimum_seconds=0.0, percentile=0.01, budget=1.0),
            retry=retry,
            circuit=CircuitPolicy(failure_ratio=1.0),
            rate=RateLimit(requests_per_second=1000.0, bytes_per_second=1e6, sleep=no_sleep),
            limit=ConcurrencyLimit(calls=3, bytes_in_flight=1_000_000),
        )


class EncryptedAndCachedMachine(StoreMachine):
    """Objects of one chunk and of several, cached as ciphertext in too little memory."""

    def layers(self, retry: RetryPolicy) -> Layers:
        return Layers(encryption=SECRET, cache=CacheOptions(memory_bytes=3_000_000), retry=retry)


class CachedMachine(StoreMachine):
    """One's own writes are read at once, however long an answer counts as fresh."""

    def layers(self, retry: RetryPolicy) -> Layers:
        return Layers(cache=CacheOptions(fresh_seconds=3600.0), retry=retry)


class LocalMachine(StoreMachine):
    def make(self) -> ObjectStore:
        self.folder = tempfile.TemporaryDirectory()
        return LocalStore(self.folder.name)

    def teardown(self):
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


class LocalCachedMachine(LocalMachine):
    """The cache is on disk too, encrypted, with room for a few objects."""

    def layers(self, retry: RetryPolicy) -> Layers:
        self.kept = tempfile.TemporaryDirectory()
        cache = CacheOptions(memory_bytes=1000, folder=self.kept.name, disk_bytes=5_000_000)
        return Layers(encryption=SECRET, cache=cache, retry=retry)

    def teardown(self):
        super().teardown()
        if hasattr(self, "kept"):
            self.kept.cleanup()


def fewer(machine: type[StoreMachine]) -> type:
    """Return the machine's test with half the examples: the stores below are slower, the rules the same."""
    machine.TestCase.settings = settings(max_examples=settings.default.max_examples // 2)
    return machine.TestCase


TestMemoryModel = StoreMachine.TestCase
TestLocalModel = fewer(LocalMachine)
TestGuardedModel = fewer(GuardedMachine)
TestEncryptedAndCachedModel = fewer(EncryptedAndCachedMachine)
TestCachedModel = fewer(CachedMachine)
TestLocalCachedModel = fewer(LocalCachedMachine)
