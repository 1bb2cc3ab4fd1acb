"""What is particular to Azure: its credentials, its blocks, its tiers, its checksums."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import aiohttp
import pytest
from azure.storage.blob import ContainerSasPermissions, ContentSettings, StandardBlobTier, generate_container_sas
from pydantic import SecretStr

from buffetstore.errors import (
    AccessError,
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ChecksumMismatchError,
    ConflictError,
    InvalidInputError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.azure import AzureStore, uploads
from buffetstore.objects.base import CREATE, OVERWRITE, Attributes, ByteRange, Update
from buffetstore.objects.helpers import exists, get_bytes, head, list_all
from buffetstore.objects.open import open_store
from buffetstore.objects.pool import pool_stats, warm_up
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing.http_faults import HttpFault, HttpFaultProxy

PART = 256 * 1024
PROMPT = RetryPolicy(attempts=4, base_seconds=0.0)


@pytest.fixture
async def store(container, options):
    async with AzureStore.from_url(f"az://{container}", **options, part_bytes=PART) as store:
        yield store


@pytest.fixture
async def proxied(container, options):
    """Give a store behind a proxy that breaks what it is told to."""
    parts = urlsplit(options["endpoint_url"])
    async with HttpFaultProxy(f"http://{parts.netloc}") as proxy:
        options = options | {"endpoint_url": f"{proxy.url}{parts.path}", "part_bytes": PART}
        async with AzureStore.from_url(f"az://{container}", **options) as store:
            store.proxy = proxy
            yield store


def calls_of(store):
    return (
        store.put("k", b""),
        store.get("k"),
        store.get("k", head=True),
        store.get_ranges("k", [(0, 1)]),
        store.delete(["k"]),
        store.delete(["k", "l"]),
        list_all(store),
        list_all(store, after="k"),
        store.list_prefixes(),
        store.copy("k", "l"),
    )


async def test_a_container_that_is_not_there_is_named_by_every_call(options):
    async with AzureStore.from_url("az://no-such-container", **options) as store:
        for call in calls_of(store):
            with pytest.raises(BucketNotFoundError, match="no-such-container"):
                await call


@pytest.mark.parametrize("credentials", [{"account_key": "d3Jvbmc="}, {"sas_token": "sv=2021-12-02&sig=d3Jvbmc="}, {}])
async def test_wrong_credentials_are_named_by_every_call(container, options, credentials):
    del options["account_key"]
    async with AzureStore.from_url(f"az://{container}", **options, **credentials) as store:
        for call in calls_of(store):
            with pytest.raises(AccessError, match=r"credentials|check the account") as caught:
                await call
            assert "d3Jvbmc" not in str(caught.value)
        with pytest.raises(AuthenticationError, match="check the account"):
            await store.put("k", b"")


async def test_an_endpoint_that_is_not_there_is_unavailable_and_nothing_is_ambiguous(options):
    with socket.socket() as unused:  # bound, not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        options |= {"endpoint_url": f"http://127.0.0.1:{unused.getsockname()[1]}/devstoreaccount1"}
        async with AzureStore.from_url("az://container", **options) as store:
            with pytest.raises(UnavailableError, match="nothing was sent") as caught:
                await store.put("k", b"", mode=CREATE)
    assert not caught.value.ambiguous


async def test_a_service_that_falls_silent_is_bounded_by_the_idle_timeout(options):
    taken = []

    class Silent(asyncio.Protocol):
        def connection_made(self, transport):
            transport.pause_reading()
            taken.append(transport)

    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/devstoreaccount1"
    options |= {"endpoint_url": endpoint, "timeout_seconds": 0.05}
    async with server, AzureStore.from_url("az://container", **options) as store:
        for body in (b"", bytes(40 * 1024 * 1024)):  # the second is more than the sockets take
            with pytest.raises(UnavailableError) as caught:
                await store.put("k", body, mode=CREATE)
            assert caught.value.ambiguous
        with pytest.raises(UnavailableError) as caught:
            await store.get("k")
        assert not caught.value.ambiguous
        for transport in taken:  # from 3.12 on a server that closes waits for its connections
            transport.abort()


async def test_the_options_that_users_have_open_a_store(admin, container, options):
    key = options["account_key"]
    expiry = datetime.now(UTC) + timedelta(hours=1)
    allowed = ContainerSasPermissions(read=True, write=True, list=True, delete=True, create=True)
    sas = generate_container_sas("devstoreaccount1", container, account_key=key, permission=allowed, expiry=expiry)
    text = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint="
    endpoint = {"endpoint_url": options["endpoint_url"]}
    for number, credentials in enumerate(
        [
            {**endpoint, "account_key": SecretStr(key)},
            {**endpoint, "sas_token": f"?{sas}"},
            {"connection_string": f"{text}{options['endpoint_url']};"},
        ]
    ):
        async with open_store(f"az://{container}/some/prefix", **credentials) as store:
            await store.put(f"k{number}", b"data", mode=CREATE)
            await store.copy(f"k{number}", "copied")
            assert await get_bytes(store, "copied") == b"data"
            assert f"k{number}" in [meta.key for meta in await list_all(store)]
    names = [blob.name for blob in admin.get_container_client(container).list_blobs()]
    assert names == ["some/prefix/copied", "some/prefix/k0", "some/prefix/k1", "some/prefix/k2"]


async def test_signed_urls_are_taken_by_any_client(store, container, options):
    read, write = await store.signed_url("a b/ü"), await store.signed_url("a b/ü", method="PUT")
    async with aiohttp.ClientSession() as client:
        async with client.put(write, data=b"body", headers={"x-ms-blob-type": "BlockBlob"}) as answer:
            assert answer.status == 201
        async with client.get(read) as answer:
            assert await answer.read() == b"body"
        async with client.put(read, data=b"other", headers={"x-ms-blob-type": "BlockBlob"}) as answer:
            assert answer.status == 403
        async with client.get(read.replace("%C3%BC", "other")) as answer:
            assert answer.status == 403
    for seconds in (0, 8 * 24 * 3600):
        with pytest.raises(InvalidInputError, match="expires_seconds"):
            await store.signed_url("k", expires_seconds=seconds)
    del options["account_key"]
    async with AzureStore.from_url(f"az://{container}", **options, sas_token="sig=x") as holder:
        assert not holder.capabilities.signed_urls
        with pytest.raises(UnsupportedOperationError, match="signed_url"):
            await holder.signed_url("k")


async def test_attributes_are_what_other_clients_see(store, admin, container):
    attributes = Attributes("text/csv", {"run-id": "naïve 100%", "1st": "x"}, "Cool")
    await store.put("k", b"a,b", attributes=attributes)
    seen = admin.get_blob_client(container, "k").get_blob_properties()
    assert seen.content_settings.content_type == "text/csv"
    assert seen.metadata == {"run_id": "na%C3%AFve 100%25", "_1st": "x"}
    assert seen.blob_tier == "Cool"
    await store.copy("k", "copied")
    async with await store.start_upload("large", attributes=attributes) as upload:
        await upload.write(bytes(5 * PART))
        await upload.complete()
    for key in ("k", "copied", "large"):
        assert (await head(store, key)).attributes == attributes


async def test_an_archived_object_is_told_to_be_so(store, admin, container):
    await store.put("k", b"data")
    admin.get_blob_client(container, "k").set_standard_blob_tier(StandardBlobTier.ARCHIVE)
    with pytest.raises(UnsupportedOperationError, match="online tier"):
        await store.get("k")


async def test_a_compressed_object_comes_as_it_is_stored(store, admin, container):
    body = gzip.compress(b"text" * 1000)
    settings = ContentSettings(content_encoding="gzip", content_type="text/plain")
    admin.get_blob_client(container, "k").upload_blob(body, content_settings=settings)
    assert await get_bytes(store, "k") == body
    assert await get_bytes(store, "k", range=ByteRange(-8)) == body[-8:]
    assert (await head(store, "k")).size == len(body)


async def test_every_write_has_a_checksum_that_the_service_keeps(store, admin, container):
    await store.put("small", b"123456789")
    async with await store.start_upload("large") as upload:
        await upload.write(bytes(5 * PART + 1))
        written = await upload.complete()
    for key in ("small", "large"):
        seen = admin.get_blob_client(container, key).get_blob_properties().content_settings.content_md5
        meta = await head(store, key)
        assert meta.checksum.algorithm == "md5"
        assert seen is not None
    assert (await head(store, "small")).checksum.value == "JfnnlDI7RTiF9RgfG2JNCw=="
    assert written.checksum == (await head(store, "large")).checksum
    assert (await store.get("large", range=ByteRange(0, 1))).meta.checksum == written.checksum
    (listed,) = await list_all(store, "large")
    assert listed.checksum == written.checksum


async def test_bytes_that_changed_on_the_way_are_noticed(proxied):
    faults, body = proxied.proxy.faults, bytes(range(256)) * 8192
    for flipped in (b"x" * 1000, body):
        faults.add(HttpFault("flip"))
        with pytest.raises(ChecksumMismatchError) as caught:
            await proxied.put("k", flipped)
        assert not caught.value.ambiguous
        assert not await exists(proxied, "k")
    await proxied.put("k", body)
    for asked in (None, ByteRange(0, 100_000), ByteRange(5, 6)):
        faults.add(HttpFault("flip", when="after"))
        with pytest.raises(ChecksumMismatchError, match="MD5"):
            await get_bytes(proxied, "k", range=asked)
        assert len(await get_bytes(proxied, "k", range=asked)) > 0


async def test_a_download_is_one_request_that_streams(proxied):
    await proxied.put("k", bytes(40 * 1024 * 1024))
    proxied.proxy.log.clear()
    largest = total = 0
    async with await proxied.get("k") as result:
        async for chunk in result:
            largest, total = max(largest, len(chunk)), total + len(chunk)
    assert total == 40 * 1024 * 1024
    assert largest <= 8 * 1024 * 1024
    assert [request.method for request in proxied.proxy.log.requests] == ["GET"]


async def test_a_range_from_the_end_is_of_one_version(store, monkeypatch):
    await store.put("k", b"0123456789")
    inner, replaced = store._reader.head, []

    async def replacing(key, *rest):
        meta = await inner(key, *rest)
        if not replaced:
            replaced.append(await store.put(key, b"abc"))
        return meta

    monkeypatch.setattr(store._reader, "head", replacing)
    async with await store.get("k", range=ByteRange(-2)) as result:
        assert (await result.read(), result.range) == (b"bc", (1, 3))
        assert result.meta.version == replaced[0].version


async def test_of_many_large_creators_one_wins(store):
    async def create(number):
        async with await store.start_upload("k", mode=CREATE) as upload:
            await upload.write(bytes([number]) * (4 * PART))
            try:
                await upload.complete()
            except AlreadyExistsError:
                return None
            return number

    answers = await asyncio.gather(*(create(number) for number in range(6)))
    (winner,) = [number for number in answers if number is not None]
    assert await get_bytes(store, "k") == bytes([winner]) * (4 * PART)


@pytest.mark.parametrize("mode", ["overwrite", "create", "update"])
async def test_an_upload_whose_blocks_another_commit_dropped_says_so(store, mode):
    body, first = bytes(5 * PART), await store.put("k", b"first")
    wanted, expected = {
        "overwrite": (OVERWRITE, ConflictError),
        "create": (CREATE, AlreadyExistsError),
        "update": (Update(first.version), PreconditionFailedError),
    }[mode]
    async with await store.start_upload("k", mode=wanted) as upload:
        await upload.write(body)
        async with await store.start_upload("k") as other:
            await other.write(body[1:])
            await other.complete()
        with pytest.raises(expected) as caught:
            await upload.complete()
    assert caught.value.key == "k"
    assert (await head(store, "k")).size == len(body) - 1


async def test_an_upload_is_invisible_and_leaves_nothing_to_be_seen(store, admin, container):
    client = admin.get_blob_client(container, "k")
    async with await store.start_upload("k") as upload:
        await upload.write(bytes(5 * PART))
        assert len(client.get_block_list("uncommitted")[1]) == 5
        assert await list_all(store) == []
        assert not await exists(store, "k")
    assert await list_all(store) == []
    with pytest.raises(UnsupportedOperationError, match="is over"):
        await upload.write(b"more")


async def test_blocks_that_arrived_are_not_sent_again(proxied, monkeypatch):
    """Some answers are lost, one block never gets through: the write is repeated, what arrived stays."""
    monkeypatch.setattr(uploads, "PART_POLICY", PROMPT)
    body = bytes(range(256)) * (8 * PART // 256)
    log, faults = proxied.proxy.log, proxied.proxy.faults
    faults.add(HttpFault("reset", operation="PUT", when="after", skip=2))
    faults.add(HttpFault("status", operation="PUT", status=503, skip=3))
    upload = uploads.BlockUpload(proxied._writer, "k", CREATE, Attributes(), policy=PROMPT)
    await upload.write(body)
    assert log.bytes_in <= 10 * PART
    faults.add(HttpFault("status", operation="PUT", status=503, skip=4, times=100))
    with pytest.raises(UnavailableError):
        await upload.write(body)
    faults.clear()
    sent = -1
    while sent != log.bytes_in:  # until the proxy has told of all that was under way
        sent = log.bytes_in
        await asyncio.sleep(0.2)
    log.clear()
    await upload.write(body)
    # Blocks that were under way when it gave up may not have been known to have arrived.
    assert log.bytes_in <= 8 * PART
    faults.add(HttpFault("reset", operation="PUT", when="after"))
    with pytest.raises(UnavailableError) as caught:
        await upload.complete()
    assert caught.value.ambiguous
    with pytest.raises(AlreadyExistsError) as caught:  # by its own commit, whose answer was lost
        await upload.complete()
    assert caught.value.ambiguous
    assert await get_bytes(proxied, "k") == body * 2


async def test_a_completion_may_be_tried_again(proxied):
    async with await proxied.start_upload("k") as upload:
        await upload.write(bytes(5 * PART))
        proxied.proxy.faults.add(HttpFault("reset", when="after"))
        with pytest.raises(UnavailableError):
            await upload.complete()
        meta = await upload.complete()
    assert (await head(proxied, "k")).version == meta.version


async def test_an_object_of_an_encryption_scope_asks_for_it(container, options, monkeypatch):
    sent = []
    async with AzureStore.from_url(f"az://{container}", **options, encryption_scope="tenant") as store:
        inner = store._client.send

        async def send(call, method, path, **parameters):
            sent.append(parameters["headers"].get("x-ms-encryption-scope"))
            return await inner(call, method, path, **parameters)

        monkeypatch.setattr(store._client, "send", send)
        await store.put("k", b"")
    assert sent == ["tenant"]


async def test_connections_are_opened_ahead_and_counted(store):
    assert pool_stats(store).idle == 0
    await warm_up(store, 5)
    assert (pool_stats(store).in_use, pool_stats(store).idle) == (0, 5)
    await store.put("large", bytes(8_000_000))
    async with await store.get("large"):
        assert pool_stats(store).in_use == 1
    assert pool_stats(store).in_use == 0


async def test_a_closed_store_says_so(store):
    await store.put("k", b"")
    await store.aclose()
    await store.aclose()
    with pytest.raises(UnsupportedOperationError, match="is closed"):
        await store.get("k")


async def test_another_event_loop_is_refused_and_never_hangs(store):
    await store.put("k", b"")
    raised = []

    def use():
        try:
            asyncio.run(store.get("k"))
        except UnsupportedOperationError as error:
            raised.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "another event loop" in raised[0]


async def test_an_account_without_versions_says_so(store):
    await store.put("k", b"")
    with pytest.raises(UnsupportedOperationError, match="blob versioning"):
        [version async for version in store.list_versions()]
