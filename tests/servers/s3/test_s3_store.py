"""What is particular to S3: its faults, its uploads in parts, its options."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ConfigurationError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import CREATE, OVERWRITE, Attributes, Update
from buffetstore.objects.helpers import get_bytes, head, list_all
from buffetstore.objects.s3 import S3Store, upload
from buffetstore.objects.s3 import store as store_module

PART = upload.PART_BYTES


@pytest.fixture
async def store(bucket, options):
    async with S3Store.from_url(f"s3://{bucket}", **options) as store:
        yield store


def open_uploads(admin, bucket):
    return admin.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


async def test_a_bucket_that_is_not_there_is_named_by_every_call(options):
    async with S3Store.from_url("s3://no-such-bucket", **options) as store:
        for call in (
            store.put("k", b""),
            store.get("k"),
            store.get("k", head=True),
            store.get_ranges("k", [(0, 1)]),
            store.delete(["k"]),
            store.delete(["k", "l"]),
            list_all(store),
            store.list_prefixes(),
            store.copy("k", "l"),
        ):
            with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
                await call


async def test_an_endpoint_that_is_not_there_is_unavailable_and_nothing_is_ambiguous(options):
    with socket.socket() as unused:  # bound, not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        options |= {"endpoint_url": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        async with S3Store.from_url("s3://bucket", **options) as store:
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
    options |= {"endpoint_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "timeout_seconds": 0.05}
    async with server, S3Store.from_url("s3://bucket", **options) as store:
        for body in (b"", bytes(40 * 1024 * 1024)):  # the second is more than the sockets take
            with pytest.raises(UnavailableError) as caught:
                await store.put("k", body, mode=CREATE)
            assert caught.value.ambiguous
        with pytest.raises(UnavailableError) as caught:
            await store.get("k")
        assert not caught.value.ambiguous
        for transport in taken:  # from 3.12 on a server that closes waits for its connections
            transport.abort()


async def test_of_many_large_creators_one_wins(store, admin, bucket):
    async def create(number):
        async with await store.start_upload("k", mode=CREATE) as part_upload:
            await part_upload.write(bytes([number]) * (PART + 1))
            try:
                await part_upload.complete()
            except AlreadyExistsError:
                return None
            return number

    answers = await asyncio.gather(*(create(number) for number in range(6)))
    (winner,) = [number for number in answers if number is not None]
    assert await get_bytes(store, "k") == bytes([winner]) * (PART + 1)
    assert open_uploads(admin, bucket) == []


async def test_a_large_upload_goes_in_parts_and_what_is_left_is_aborted(store, admin, bucket):
    body = bytes(range(256)) * (PART // 256) * 5 + b"end"
    attributes = Attributes(content_type="text/csv", metadata={"note": "naïve 100%"})
    async with await store.start_upload("k", attributes=attributes) as part_upload:
        await part_upload.write(body)
        assert len(open_uploads(admin, bucket)) == 1
        meta = await part_upload.complete()
    assert meta.version.endswith("-6")
    assert await get_bytes(store, "k") == body
    assert replace((await head(store, "k")).attributes, storage_class=None) == attributes
    with pytest.raises(UnsupportedOperationError, match="is over"):
        await part_upload.write(b"more")

    async with await store.start_upload("gone") as part_upload:
        await part_upload.write(body)
        assert len(open_uploads(admin, bucket)) == 1
    assert open_uploads(admin, bucket) == []


async def test_a_cancelled_large_write_leaves_no_upload(store, admin, bucket, monkeypatch):
    monkeypatch.setattr(upload, "PART_BYTES", 5 * 1024 * 1024)
    sent, inner = asyncio.Event(), store._connection.send

    async def send(call, *arguments, **parameters):
        if call.operation == "upload_part":
            sent.set()
        return await inner(call, *arguments, **parameters)

    monkeypatch.setattr(store._connection, "send", send)

    async def write():
        async with await store.start_upload("k") as part_upload:
            await part_upload.write(bytes(40 * 1024 * 1024))

    task = asyncio.create_task(write())
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_uploads(admin, bucket) == []
    assert await list_all(store) == []


async def test_a_large_update_of_a_stale_version_is_refused(store, admin, bucket):
    first = await store.put("k", b"first")
    await store.put("k", b"second")
    async with await store.start_upload("k", mode=Update(first.version)) as part_upload:
        await part_upload.write(bytes(PART + 1))
        with pytest.raises(PreconditionFailedError):
            await part_upload.complete()
    assert await get_bytes(store, "k") == b"second"
    assert open_uploads(admin, bucket) == []


async def test_an_object_too_large_for_one_copy_is_copied_in_parts(store, admin, bucket, monkeypatch):
    monkeypatch.setattr(store_module, "COPY_BYTES", PART)
    monkeypatch.setattr(store_module, "COPY_PART_BYTES", PART)
    body = bytes(range(256)) * (PART // 256) + b"end"
    attributes = Attributes(content_type="text/csv", metadata={"a": "b"})
    await store.put("source", body, attributes=attributes)

    meta = await store.copy("source", "target")

    assert meta.version.endswith("-2")
    assert await get_bytes(store, "target") == body
    assert replace((await head(store, "target")).attributes, storage_class=None) == attributes
    assert open_uploads(admin, bucket) == []


@pytest.mark.parametrize("mode", [OVERWRITE, CREATE])
async def test_a_source_that_is_replaced_during_its_copy_is_not_copied_half(store, admin, bucket, monkeypatch, mode):
    await store.put("source", b"first")
    inner = store._connection.send

    async def send(call, *arguments, headers, **parameters):
        if headers and "x-amz-copy-source" in headers:  # moto does not look at the source's condition: AWS does
            replaced = await asyncio.to_thread(admin.put_object, Bucket=bucket, Key="source", Body=b"second")
            if headers["x-amz-copy-source-if-match"] != replaced["ETag"]:
                raise PreconditionFailedError("source", key="target")
        return await inner(call, *arguments, headers=headers, **parameters)

    monkeypatch.setattr(store._connection, "send", send)
    with pytest.raises(UnavailableError, match="was replaced while it was copied"):
        await store.copy("source", "target", mode=mode)
    assert open_uploads(admin, bucket) == []
    assert [meta.key for meta in await list_all(store)] == ["source"]


async def test_uploads_carry_a_checksum_that_downloads_check(store, bucket, admin):
    await store.put("k", b"123456789")
    answer = admin.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert answer["Body"].read() == b"123456789"
    assert answer["ChecksumCRC32"] == "y/Q5Jg=="  # the check value of CRC-32: cbf43926


@pytest.mark.parametrize("conditional", ["puts", "none"])
async def test_conditions_that_the_service_does_not_keep_are_refused(bucket, options, conditional):
    async with S3Store.from_url(f"s3://{bucket}", **options, conditional=conditional) as store:
        assert store.capabilities.conditional_create is (conditional == "puts")
        if conditional == "puts":
            await store.put("k", b"", mode=CREATE)
            part_upload = await store.start_upload("large", mode=CREATE)
            await part_upload.write(bytes(PART + 1))
            with pytest.raises(UnsupportedOperationError, match="conditional='puts'"):
                await part_upload.complete()
        else:
            with pytest.raises(UnsupportedOperationError, match="conditional='none'"):
                await store.put("k", b"", mode=CREATE)
        with pytest.raises(UnsupportedOperationError):
            await store.copy("k", "other", mode=CREATE)
        await store.put("k", b"overwritten")


async def test_a_closed_store_says_so(store):
    await store.put("k", b"")
    await store.aclose()
    await store.aclose()
    with pytest.raises(UnsupportedOperationError, match="is closed"):
        await store.get("k")


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "gs://bucket", "s3://key:secret@bucket", "s3://b?x=1"])
def test_a_malformed_url_is_refused_without_showing_a_secret(url):
    with pytest.raises(ConfigurationError) as caught:
        S3Store.from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "option", [{"conditional": "some"}, {"max_connections": 0}, {"timeout_seconds": float("nan")}], ids=str
)
def test_an_option_out_of_its_range_is_named(option):
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        S3Store.from_url("s3://bucket", **option)


async def test_without_credentials_it_says_how_to_give_them(options, bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    async with S3Store.from_url(f"s3://{bucket}", endpoint_url=options["endpoint_url"]) as store:
        with pytest.raises(AuthenticationError, match="AWS_ACCESS_KEY_ID"):
            await store.get("k")
        monkeypatch.setenv("AWS_PROFILE", "nobody")
    async with S3Store.from_url(f"s3://{bucket}", endpoint_url=options["endpoint_url"]) as store:
        with pytest.raises(ConfigurationError, match="nobody"):
            await store.get("k")


async def test_the_keys_of_a_profile_are_found(options, bucket, monkeypatch, tmp_path):
    file = tmp_path / "credentials"
    file.write_text("[analyst]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "analyst")
    async with S3Store.from_url(f"s3://{bucket}", endpoint_url=options["endpoint_url"]) as store:
        await store.put("k", b"data")
        assert await get_bytes(store, "k") == b"data"


async def test_keys_that_expire_are_asked_for_again(options, bucket, monkeypatch, tmp_path):
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    keys = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": soon}
    source = tmp_path / "source.py"
    source.write_text(f"open({str(tmp_path / 'asked')!r}, 'a').write('x')\nprint({json.dumps(keys)!r})\n")
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {source}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))
    async with S3Store.from_url(f"s3://{bucket}", endpoint_url=options["endpoint_url"]) as store:
        await store.put("k", b"data")
        before = (tmp_path / "asked").stat().st_size
        assert await get_bytes(store, "k") == b"data"
    assert (tmp_path / "asked").stat().st_size > before


@pytest.mark.parametrize("endpoint", ["not a url", "http://", "ftp://host", "http://host:port", "http://host?x=1"])
def test_a_malformed_endpoint_is_a_matter_of_configuration(options, endpoint):
    with pytest.raises(ConfigurationError, match=r"the endpoint .* is malformed"):
        S3Store.from_url("s3://bucket", **options | {"endpoint_url": endpoint})


def test_an_unknown_option_is_named_and_secrets_are_not_shown(options):
    with pytest.raises(ConfigurationError, match=r"regoin.*the options are region"):
        S3Store.from_url("s3://bucket", regoin="eu")
    store = S3Store.from_url("s3://bucket", **options | {"secret_key": "hush-hush"})
    assert "hush-hush" not in repr(store._options)


async def test_opening_does_not_block_the_event_loop_on_the_disk(bucket, options):
    """The detector of blocking calls fails this test if botocore reads its files on the loop."""
    del options["region"]
    async with S3Store.from_url(f"s3://{bucket}", **options) as store:
        assert await list_all(store) == []
