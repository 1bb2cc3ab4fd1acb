from __future__ import annotations

import sys

import pytest

from buffetstore.errors import BucketNotFoundError, ConfigurationError, InvalidKeyError, MissingDependencyError
from buffetstore.objects import (
    CREATE,
    LocalStore,
    MemoryStore,
    MetricsStore,
    PrefixStore,
    RetryStore,
    open_store,
    register_store,
)
from buffetstore.objects.helpers import get_bytes
from buffetstore.objects.layers import Layers
from buffetstore.objects.wrappers.cache import CacheOptions
from buffetstore.resilience.circuit import CircuitPolicy
from buffetstore.resilience.hedge import HedgePolicy
from buffetstore.resilience.permits import ConcurrencyLimit
from buffetstore.resilience.rate import RateLimit
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.security import StaticKeys


def layers(store) -> list[type]:
    found = [type(store)]
    while hasattr(store, "inner"):
        store = store.inner
        found.append(type(store))
    return found


async def test_the_order_of_the_layers():
    assert layers(open_store("memory://")) == [MetricsStore, RetryStore, MemoryStore]
    assert layers(open_store("memory://name/some/prefix/")) == [MetricsStore, RetryStore, PrefixStore, MemoryStore]


async def test_a_folder_by_path_or_url(tmp_path):
    folder = tmp_path / "with space#and%20more"
    folder.mkdir()
    async with open_store(folder) as store:
        assert layers(store)[-1] is LocalStore
        await store.put("k", b"body")
        url = store.url
    assert url.startswith("file:///")
    for same in (url, str(folder)):
        assert await get_bytes(open_store(same), "k") == b"body"


async def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("data", create=True)
    await store.put("k", b"body")
    monkeypatch.chdir("/")
    assert await get_bytes(store, "k") == b"body"
    assert (tmp_path / "data" / "k").read_bytes() == b"body"


async def test_a_missing_folder_is_made_when_asked(tmp_path):
    with pytest.raises(BucketNotFoundError, match="create=True"):
        await open_store(tmp_path / "new").put("k", b"")
    await open_store(tmp_path / "new", create=True).put("k", b"")


async def test_hook_and_retry_are_used():
    told = []
    store = open_store("memory://", hook=told.append, layers=Layers(retry=RetryPolicy(attempts=1)))
    await store.put("k", b"abc")
    assert [(operation.name, dict(operation.counts)) for operation in told] == [("objects.put", {"bytes_out": 3})]


@pytest.mark.parametrize("url", ["ftp://host/x", "https://bucket", "S4://b"])
def test_an_unknown_scheme_names_the_known(url):
    known = "known are .*abfs://, .*gs://, .*s3://, .*webhdfs:// and plain paths"
    with pytest.raises(ConfigurationError, match=known):
        open_store(url)


@pytest.mark.parametrize("url", ["gs://", "gs:///prefix", "s3://", "file://", "", "file://host/x"])
def test_a_malformed_url(url):
    with pytest.raises(ConfigurationError):
        open_store(url)


@pytest.mark.parametrize("url", ["memory://x/../y", "memory://x/a//b"])
def test_a_prefix_that_no_key_can_have(url):
    with pytest.raises(InvalidKeyError):
        open_store(url)


@pytest.mark.parametrize("url", ["memory://", "file:///tmp", "gs://bucket", "s3://bucket"])
def test_an_unknown_option_is_named(url):
    with pytest.raises(ConfigurationError, match="chunk_sise"):
        open_store(url, chunk_sise=1)


def test_a_missing_extra_says_what_to_install(monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("aiobotocore", "botocore", "buffetstore.objects.s3"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(MissingDependencyError, match=r"botocore is not installed: pip install 'buffetstore\[s3\]'"):
        open_store("s3://bucket")


class TestLayers:
    def test_every_layer_is_where_it_belongs(self):
        store = open_store(
            "memory://name/prefix",
            layers=Layers(
                encryption=StaticKeys({"k": bytes(32)}),
                cache=CacheOptions(),
                fallback=MemoryStore(),
                replicas=(MemoryStore(), "memory://other"),
                hedge=HedgePolicy(),
                circuit=CircuitPolicy(),
                rate=RateLimit(1000),
                limit=ConcurrencyLimit(),
            ),
        )
        assert [kind.__name__ for kind in layers(store)] == [
            *("MetricsStore", "EncryptionStore", "CacheStore", "FallbackStore", "ReplicateStore", "HedgeStore"),
            *("RetryStore", "CircuitStore", "RateStore", "LimitStore", "PrefixStore", "MemoryStore"),
        ]

    async def test_all_of_them_together_keep_objects(self, tmp_path):
        kept = Layers(
            encryption=StaticKeys({"k": bytes(32)}),
            cache=CacheOptions(folder=tmp_path / "cache"),
            replicas=((tmp_path / "copy").as_uri(),),
            hedge=HedgePolicy(),
            circuit=CircuitPolicy(),
            rate=RateLimit(1e6),
            limit=ConcurrencyLimit(8),
        )
        (tmp_path / "copy").mkdir()
        async with open_store(tmp_path / "data", create=True, layers=kept) as store:
            meta = await store.put("a/b", b"secret" * 100, mode=CREATE)
            for _ in range(2):
                assert await get_bytes(store, "a/b") == b"secret" * 100
                assert await get_bytes(store, "a/b", if_match=meta.version) == b"secret" * 100
        for copy in ("data", "copy"):
            assert b"secret" not in (tmp_path / copy / "a" / "b").read_bytes()
        async with open_store(tmp_path / "copy", layers=Layers(encryption=StaticKeys({"k": bytes(32)}))) as store:
            assert await get_bytes(store, "a/b") == b"secret" * 100


class TestRegisteredStores:
    async def test_a_registered_scheme(self):
        seen = []

        def factory(url, *, depth=1):
            seen.append((url, depth))
            return MemoryStore()

        register_store("deep+test", factory)
        async with open_store("deep+test://place/some/prefix", depth=3) as store:
            await store.put("k", b"body")
        assert seen == [("deep+test://place", 3)]
        with pytest.raises(ConfigurationError, match="cannot be opened with dept"):
            open_store("deep+test://place", dept=3)

    @pytest.mark.parametrize("scheme", ["", "Upper", "a b", "s3", "file"])
    def test_schemes_that_cannot_be_registered(self, scheme):
        with pytest.raises(ConfigurationError):
            register_store(scheme, MemoryStore)

    def test_an_entry_point(self, tmp_path, monkeypatch):
        package = tmp_path / "theirs-1.0.dist-info"
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (package / "entry_points.txt").write_text("[buffetstore.stores]\ntheirs = their_store:make\n")
        (tmp_path / "their_store.py").write_text(
            "from buffetstore.objects import MemoryStore\ndef make(url, **options):\n    return MemoryStore()\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        assert layers(open_store("theirs://x"))[-1] is MemoryStore
        with pytest.raises(ConfigurationError, match="theirs://"):
            open_store("nobodys://x")
