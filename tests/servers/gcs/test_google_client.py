"""Google's own client accepts the server."""

from __future__ import annotations

import gzip
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

storage = pytest.importorskip("google.cloud.storage", reason="needs google-cloud-storage")
from google.api_core import exceptions  # noqa: E402 - after importorskip
from google.api_core.client_options import ClientOptions  # noqa: E402
from google.auth.credentials import AnonymousCredentials  # noqa: E402
from google.cloud.storage.exceptions import InvalidResponse  # noqa: E402


@pytest.fixture
def client(server):
    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=server.url)
    )
    yield client
    client.close()


@pytest.fixture
def home(client, bucket):
    return client.bucket(bucket)


def test_buckets(client):
    made = client.create_bucket("made-by-google")
    assert client.get_bucket("made-by-google").name == "made-by-google"
    assert "made-by-google" in {each.name for each in client.list_buckets()}
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("made-by-google")
    made.add_lifecycle_delete_rule(age=1)
    made.patch()
    assert [dict(rule)["condition"] for rule in client.get_bucket("made-by-google").lifecycle_rules] == [{"age": 1}]
    made.delete()
    with pytest.raises(exceptions.NotFound):
        client.get_bucket("made-by-google")


def test_put_if_absent(home):
    home.blob("a/b c/ü%2F").upload_from_string(b"one", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        home.blob("a/b c/ü%2F").upload_from_string(b"two", if_generation_match=0)
    assert home.blob("a/b c/ü%2F").download_as_bytes() == b"one"


def test_generations_guard_every_verb(home):
    blob = home.blob("guarded")
    blob.upload_from_string(b"one")
    old = blob.generation
    home.blob("guarded").upload_from_string(b"two", if_generation_match=old)
    with pytest.raises(exceptions.PreconditionFailed):
        home.blob("guarded").upload_from_string(b"three", if_generation_match=old)
    with pytest.raises(exceptions.PreconditionFailed):
        home.blob("guarded").download_as_bytes(if_generation_match=old)
    with pytest.raises(exceptions.PreconditionFailed):
        home.blob("guarded").delete(if_generation_match=old)
    with pytest.raises(exceptions.PreconditionFailed):
        home.copy_blob(home.blob("guarded"), home, "guarded", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        home.blob("guarded").compose([home.blob("guarded")], if_generation_match=0)
    fresh = home.get_blob("guarded")
    fresh.metadata = {"color": "red"}
    with pytest.raises(exceptions.PreconditionFailed):
        fresh.patch(if_metageneration_match=7)
    fresh.patch(if_metageneration_match=1)
    assert fresh.metageneration == 2
    with pytest.raises(exceptions.NotFound):
        home.blob("guarded", generation=old).download_as_bytes()
    home.blob("guarded").delete(if_generation_match=fresh.generation)
    with pytest.raises(exceptions.NotFound):
        home.blob("guarded").delete()


def test_resumable_in_chunks(home, server):
    data = os.urandom(3 * 256 * 1024 + 17)
    blob = home.blob("big", chunk_size=256 * 1024)
    with blob.open("wb", chunk_size=256 * 1024, if_generation_match=0) as file:
        file.write(data)
    assert home.blob("big").download_as_bytes(checksum="crc32c") == data
    assert server.log.operations["uploads.chunk"] == 4
    with pytest.raises(InvalidResponse, match="412"), blob.open("wb", if_generation_match=0) as file:
        file.write(data)


def test_ranges(home):
    home.blob("digits").upload_from_string(b"0123456789")
    blob = home.blob("digits")
    assert blob.download_as_bytes(start=0, end=4) == b"01234"
    assert blob.download_as_bytes(start=6) == b"6789"
    assert blob.download_as_bytes(start=-5) == b"56789"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)


def test_pages_and_prefixes(client, home):
    names = [f"p/{number:02d}" for number in range(25)] + ["p/deep/er", "p/deep/est", "q"]
    for name in names:
        home.blob(name).upload_from_string(b"")
    pages = client.list_blobs(home, prefix="p/", page_size=10)
    assert [page.num_items for page in pages.pages] == [10, 10, 7]
    found = client.list_blobs(home, prefix="p/", delimiter="/", start_offset="p/20", page_size=2)
    assert [blob.name for blob in found] == [f"p/{number:02d}" for number in range(20, 25)]
    assert found.prefixes == {"p/deep/"}
    assert [blob.name for blob in client.list_blobs(home, end_offset="p/02")] == ["p/00", "p/01"]


def test_compose_rewrite_patch(home):
    for number in range(3):
        home.blob(f"part{number}").upload_from_string(b"%d" % number, content_type="text/x")
    whole = home.blob("whole")
    whole.compose([home.blob(f"part{number}") for number in range(3)])
    assert whole.download_as_bytes() == b"012"
    assert whole.component_count == 3
    copy = home.blob("copy")
    token, written, total = copy.rewrite(whole)
    assert (token, written, total) == (None, 3, 3)
    copy.storage_class = "NEARLINE"
    copy.content_type = "text/y"
    copy.custom_time = None
    copy.patch()
    again = home.get_blob("copy")
    assert (again.content_type, again.md5_hash) == ("text/y", None)
    copy.update_storage_class("COLDLINE")
    assert home.get_blob("copy").storage_class == "COLDLINE"


def test_checksums_are_verified(home):
    blob = home.blob("sum")
    blob.md5_hash = "1B2M2Y8AsgTpgAmY7PhCfg=="
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_string(b"not empty")
    home.blob("sum").upload_from_string(b"good", checksum="crc32c")
    assert home.get_blob("sum").crc32c


def test_gzip_objects(home):
    blob = home.blob("zipped")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"plain"))
    assert home.blob("zipped").download_as_bytes() == b"plain"
    assert gzip.decompress(home.blob("zipped").download_as_bytes(raw_download=True)) == b"plain"


def test_race(home):
    def write(number: int) -> bool:
        try:
            home.blob("race").upload_from_string(b"%d" % number, if_generation_match=0, retry=None)
        except exceptions.PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(write, range(32))) == 1
