from __future__ import annotations

import sys

import pytest

from buffetstore.errors import BucketNotFoundError, ConfigurationError, InvalidKeyError, MissingDependencyError
from buffetstore.objects import LocalStore, MemoryStore, MetricsStore, PrefixStore, RetryStore, open_store
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.retry import RetryPolicy


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
    store = open_store("memory://", hook=told.append, retry=RetryPolicy(attempts=1))
    await store.put("k", b"abc")
    assert [(operation.name, dict(operation.counts)) for operation in told] == [("objects.put", {"bytes_out": 3})]


@pytest.mark.parametrize("url", ["ftp://host/x", "https://bucket", "S4://b"])
def test_an_unknown_scheme_names_the_known(url):
    known = "abfs://, abfss://, az://, file://, gs://, memory://, s3://, sftp://, webhdfs:// and plain paths"
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
    with pytest.raises(MissingDependencyError, match=r"aiobotocore is not installed: pip install 'buffetstore\[s3\]'"):
        open_store("s3://bucket")
