"""What GCSStore does besides the contract: errors, credentials, the pool, its life."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import os
import socket
import warnings

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import CREATE, Attributes, ByteRange, Checksum, Update
from buffetstore.objects.gcs import GCSStore
from buffetstore.objects.helpers import get_bytes, head, list_all
from buffetstore.objects.open import open_store
from buffetstore.objects.pool import pool_stats, warm_up
from buffetstore.testing.gcs import Fault, GCSServer, serve_in_thread

CHUNK = 256 * 1024


@pytest.fixture
async def store(server, bucket):
    async with GCSStore(bucket, api_root=server.url, chunk_bytes=CHUNK) as store:
        yield store


VERBS = {
    "put": lambda store: store.put("k", b""),
    "get": lambda store: store.get("k"),
    "head": lambda store: head(store, "k"),
    "ranges": lambda store: store.get_ranges("k", [(0, 1)]),
    "delete": lambda store: store.delete(["k"]),
    "list": list_all,
    "prefixes": lambda store: store.list_prefixes(),
    "copy": lambda store: store.copy("k", "to"),
}
WRITES = {"put", "delete", "copy"}
every_verb = pytest.mark.parametrize("verb", VERBS)


@every_verb
async def test_no_such_bucket(server, verb):
    async with GCSStore("no-such-bucket", api_root=server.url) as store:
        with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
            await VERBS[verb](store)


@every_verb
@pytest.mark.parametrize(
    ("status", "kind", "is_ambiguous"),
    [
        (400, InvalidInputError, False),
        (401, AuthenticationError, False),
        (403, PermissionDeniedError, False),
        (408, UnavailableError, True),
        (429, RateLimitedError, False),
        (500, UnavailableError, True),
        (503, UnavailableError, True),
    ],
)
async def test_a_status_is_an_error(store, server, verb, status, kind, is_ambiguous):
    server.faults.add(Fault("status", status=status, retry_after=7))
    with pytest.raises(kind, match=str(status)) as failure:
        await VERBS[verb](store)
    assert type(failure.value) is kind
    assert failure.value.ambiguous is (is_ambiguous and verb in WRITES)
    if kind in {UnavailableError, RateLimitedError}:
        assert failure.value.retry_after == 7


@every_verb
async def test_a_reset_is_ambiguous_for_writes(store, server, verb):
    server.faults.add(Fault("reset", times=None))
    with pytest.raises(UnavailableError) as failure:
        await VERBS[verb](store)
    assert failure.value.ambiguous is (verb in WRITES)


@every_verb
async def test_nobody_is_there(verb):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with GCSStore("bucket", api_root=root) as store:
        with pytest.raises(UnavailableError, match=root) as failure:
            await VERBS[verb](store)
        assert not failure.value.ambiguous  # nothing was sent


@every_verb
async def test_a_token_that_is_wrong(verb):
    async with GCSServer(buckets=["b"], token="good") as server:
        for options in ({"token": "bad"}, {}):
            async with GCSStore("b", api_root=server.url, **options) as store:
                with pytest.raises(AuthenticationError) as failure:
                    await VERBS[verb](store)
                assert "bad" not in str(failure.value)


@pytest.fixture
def service_account(tmp_path):
    """Write a service account's key file, with a token service of one's choice."""

    def write(token_uri: str) -> str:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = tmp_path / "account.json"
        account = {"type": "service_account", "client_email": "me@test", "private_key": key.decode()}
        path.write_text(json.dumps({**account, "token_uri": token_uri}))
        return str(path)

    return write


async def test_a_service_account(service_account):
    async with GCSServer(buckets=["b"], token="good") as server:
        file = service_account(f"{server.url}/token")
        async with GCSStore("b", api_root=server.url, service_file=file) as store:
            await asyncio.gather(*(store.put(f"k{number}", b"") for number in range(5)))
            assert len(await list_all(store)) == 5


async def test_a_service_account_that_is_refused(service_account):
    async with GCSServer(buckets=["b"], token="good") as server:
        file = service_account(f"{server.url}/_emulator/none")
        async with GCSStore("b", api_root=server.url, service_file=file) as store:
            with pytest.raises(AuthenticationError, match="gcloud auth"):
                await store.put("k", b"")


async def test_a_token_service_that_is_not_there(service_account, server, bucket):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        file = service_account(f"http://127.0.0.1:{free.getsockname()[1]}/token")
    async with GCSStore(bucket, api_root=server.url, service_file=file) as store:
        with pytest.raises(UnavailableError, match="token service"):
            await store.put("k", b"")


async def test_impersonation(service_account, monkeypatch):
    """The account's own token buys one of the impersonated account, which is what requests carry."""
    asked = []

    async def generate(request):
        asked.append((request.path, request.headers["Authorization"]))
        return web.json_response({"accessToken": "theirs"})

    async with GCSServer(buckets=["b"], token="theirs") as server, GCSServer(token="mine") as tokens:
        iam = web.ServerRunner(web.Server(generate))
        await iam.setup()
        await web.TCPSite(iam, "127.0.0.1", 0).start()
        place = f"http://127.0.0.1:{iam.addresses[0][1]}/{{service_account}}"
        monkeypatch.setattr("gcloud.aio.auth.token.GCLOUD_ENDPOINT_GENERATE_ACCESS_TOKEN", place)
        options = {"service_file": service_account(f"{tokens.url}/token"), "service_account_email": "robot@test"}
        async with GCSStore("b", api_root=server.url, **options) as store:
            await asyncio.gather(*(store.put(f"k{number}", b"") for number in range(5)))
        await iam.cleanup()
    assert asked == [("/robot@test", "Bearer mine")]


async def test_opened_by_its_url(server, bucket):
    async with open_store(f"gs://{bucket}/team/lake", api_root=server.url) as store:
        await store.put("k", b"body", mode=CREATE)
        assert [meta.key async for meta in store.list_objects()] == ["k"]
    assert server.state.get(bucket, "team/lake/k").content.data == b"body"


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"type": "letter"}'])
async def test_a_broken_credentials_file(tmp_path, server, bucket, content):
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_text(content)
    async with GCSStore(bucket, api_root=server.url, service_file=str(path)) as store:
        with pytest.raises(AuthenticationError, match=r"broken\.json"):
            await store.put("k", b"")


async def test_of_two_open_uploads_one_wins(store):
    body = os.urandom(2 * CHUNK)
    uploads = [await store.start_upload("k", mode=CREATE) for _ in range(2)]
    for number, upload in enumerate(uploads):
        await upload.write(body + bytes([number]))  # beyond a chunk: both sessions are open at the service
    await uploads[1].complete()
    with pytest.raises(AlreadyExistsError):
        await uploads[0].complete()
    assert await get_bytes(store, "k") == body + b"\x01"


async def test_gzip_comes_as_it_is_stored(store, server, bucket):
    zipped = gzip.compress(b"plain" * 1000)
    meta = await store.put("k", zipped, attributes=Attributes(metadata={"a": "b"}))
    server.state.patch(bucket, "k", {"contentEncoding": "gzip"})
    assert await get_bytes(store, "k", if_match=meta.version) == zipped
    assert await get_bytes(store, "k", range=ByteRange(2, 9)) == zipped[2:9]


async def test_versions_of_other_stores_match_nothing(store):
    await store.put("k", b"")
    for version in ("etag", "0", "-1", "", "9" * 18):
        with pytest.raises(PreconditionFailedError):
            await store.put("k", b"x", mode=Update(version))
        with pytest.raises(PreconditionFailedError):
            await store.put("absent", b"x", mode=Update(version))
        with pytest.raises(PreconditionFailedError):
            await store.get("k", if_match=version)
        with pytest.raises(NotFoundError):
            await store.get("absent", if_match=version)


async def test_ranges_are_of_one_version(store, server):
    """An object that is replaced between two ranges is read again, not mixed."""
    await store.put("k", bytes(600_000))
    inner = store._reader.range
    replaced = False

    async def read_and_replace(*args):
        nonlocal replaced
        answer = await inner(*args)
        if not replaced:
            replaced = True
            await store.put("k", b"\x01" * 600_000)
        return answer

    store._reader.range = read_and_replace
    parts = await store.get_ranges("k", [(0, 3), (599_997, 600_000)])
    assert parts in ([b"\0" * 3] * 2, [b"\x01" * 3] * 2)


async def test_the_kms_key_goes_with_every_write(server, bucket):
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    async with GCSStore(bucket, api_root=server.url, kms_key=key, chunk_bytes=CHUNK) as store:
        await store.put("put", b"")
        async with await store.start_upload("upload") as upload:
            await upload.write(bytes(CHUNK + 1))
            await upload.complete()
        await store.copy("put", "copy")
    kept = {stored.name: stored.fields.get("kmsKeyName") for stored in server.state.list(bucket).objects}
    assert kept == dict.fromkeys(("copy", "put", "upload"), key)


async def test_the_storage_class_is_kept(store, server, bucket):
    await store.put("k", b"", attributes=Attributes(storage_class="NEARLINE"))
    assert server.state.get(bucket, "k").fields["storageClass"] == "NEARLINE"
    attributes = (await head(store, "k")).attributes
    assert attributes is not None
    assert attributes.storage_class == "NEARLINE"


async def test_the_pool_is_bounded(server, bucket):
    async with GCSStore(bucket, api_root=server.url, max_connections=3) as store:
        assert (store.pool_stats().in_use, store.pool_stats().idle, store.pool_stats().limit) == (0, 0, 3)
        await asyncio.gather(*(store.put(f"k{number}", b"") for number in range(20)))
        assert store.pool_stats().in_use == 0
        assert 1 <= store.pool_stats().idle <= 3
        async with await store.get("k1"), await store.get("k2"):
            pass
        await store.put("large", bytes(5_000_000))
        async with await store.get("large") as result:
            async for _ in result:
                assert store.pool_stats().in_use == 1
                break
        assert store.pool_stats().in_use == 0


async def test_it_is_closed_once_and_for_all(server, bucket):
    store = GCSStore(bucket, api_root=server.url)
    await store.put("k", b"")
    await store.aclose()
    await store.aclose()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        await store.put("k", b"")


async def test_it_belongs_to_one_loop(store):
    await store.put("k", b"")
    failures = []

    def elsewhere() -> None:
        try:
            asyncio.run(get_bytes(store, "k"))
        except UnsupportedOperationError as error:
            failures.append(str(error))

    await asyncio.to_thread(elsewhere)
    assert "another event loop" in failures[0]


def test_a_second_loop_gets_connections_and_a_token_of_its_own(service_account):
    with serve_in_thread(buckets=["b"], token="good") as server:
        store = GCSStore("b", api_root=server.url, service_file=service_account(f"{server.url}/token"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # whose loop is gone is left to the collector
            for number in range(3):
                asyncio.run(store.put(f"k{number}", b"", mode=CREATE))
            assert len(asyncio.run(list_all(store))) == 3
            asyncio.run(store.aclose())
            gc.collect()


def test_settings_are_checked_together():
    with pytest.raises(ConfigurationError, match=r"(?s)bucket.*api_root.*max_conn.*timeout.*page_size.*chunk_bytes"):
        GCSStore("a/b", api_root="localhost", max_connections=0, timeout_seconds=0, page_size=0, chunk_bytes=1)


@pytest.mark.parametrize("url", ["gs://", "s3://b", "b", "gs://b/prefix"])
def test_urls_that_are_none(url):
    with pytest.raises(ConfigurationError):
        GCSStore.from_url(url)


def test_a_url():
    assert GCSStore.from_url("gs://lake", max_connections=7).url == "gs://lake"
    assert GCSStore.from_url("gs://lake/").url == "gs://lake"


async def test_many_downloads_that_are_cancelled_leave_nothing_behind(server, bucket):
    """200 downloads over 50 connections, cancelled wherever they are: no task and no connection is left."""
    async with open_store(f"gs://{bucket}", api_root=server.url) as store:
        await store.put("large", bytes(3_000_000))

        async def stream():
            async with await store.get("large") as result:
                return sum([len(chunk) async for chunk in result])

        async def into():
            return await (await store.get("large")).readinto(memoryview(bytearray(3_000_000)))

        everything, busiest = asyncio.all_tasks(), 0
        for steps in (1, 10, 100, 300):
            tasks = [asyncio.create_task(call()) for call in (stream, into) * 100]
            for _ in range(steps):
                await asyncio.sleep(0)
            busiest = max(busiest, pool_stats(store).in_use)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (pool_stats(store).in_use, pool_stats(store).waiting) == (0, 0)
            assert asyncio.all_tasks() == everything
        assert await asyncio.gather(*(call() for call in (stream, into) * 10)) == [3_000_000] * 20
        assert pool_stats(store).in_use == 0
        assert 0 < busiest <= 50


async def test_connections_are_opened_ahead(server, bucket):
    async with open_store(f"gs://{bucket}/prefix", api_root=server.url, token="t") as store:
        await warm_up(store, 5)
        assert (pool_stats(store).in_use, pool_stats(store).idle) == (0, 5)


async def test_an_upload_may_take_long_but_not_be_silent(server, bucket):
    """A large body whose bytes nobody takes fails after the idle time; there is no least speed."""
    async with GCSStore(bucket, api_root=server.url, timeout_seconds=0.3) as store:
        server.faults.add(Fault("stall", operation="objects.insert"))
        with pytest.raises(UnavailableError) as failure:
            await store.put("k", bytes(3_000_000))
        assert failure.value.ambiguous
        await store.put("k", bytes(3_000_000))


async def test_the_checksum_comes_with_the_object(store):
    meta = await store.put("k", b"123456789")
    assert meta.checksum == Checksum("crc32c", "4waSgw==")
    async with await store.get("k") as result:
        assert result.meta.checksum == meta.checksum
    async with await store.get("k", range=ByteRange(0, 2)) as result:
        assert result.meta.checksum == meta.checksum
    assert (await head(store, "k")).checksum == meta.checksum
    assert [each.checksum async for each in store.list_objects()] == [meta.checksum]
    assert (await store.copy("k", "to")).checksum == meta.checksum


async def test_an_error_may_come_zipped():
    """Whoever asks for objects as they are stored gets errors zipped, too."""

    async def refuse(request):
        body = b"<Error><Code>SlowDown</Code><Message>slow down, please</Message></Error>"
        return web.Response(status=403, body=gzip.compress(body), headers={"Content-Encoding": "gzip"})

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with GCSStore("b", api_root=f"http://127.0.0.1:{runner.addresses[0][1]}") as store:
        with pytest.raises(RateLimitedError, match="slow down, please"):
            await store.get("k")
        with pytest.raises(RateLimitedError, match="slow down, please"):
            await store.put("k", b"")
    await runner.cleanup()
