"""S3's error answers, one by one, from a server that says what it is told; and lost answers, before a real one."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidInputError,
    InvalidRangeError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import CREATE, ByteRange, Update
from buffetstore.objects.helpers import get_bytes
from buffetstore.objects.s3 import S3Store, upload
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy

PROMPT = RetryPolicy(attempts=4, base_seconds=0.0)


class Scripted:
    """Answers each request with the next of `answers`: status, body, headers."""

    def __init__(self):
        self.answers = []
        self.requests = []

    async def serve(self, reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append((lines[0], headers))
            status, body, extra = self.answers.pop(0)
            told = {"Content-Length": str(len(body)), **extra}
            text = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            writer.write(f"HTTP/1.1 {status} Told\r\n{text}\r\n{body}".encode())
            await writer.drain()

    def tell(self, status, body="", **headers):
        self.answers.append((status, body, {name.replace("_", "-"): value for name, value in headers.items()}))

    def fail(self, status, code, **headers):
        self.tell(status, f"<Error><Code>{code}</Code><Message>said so</Message></Error>", **headers)


async def run(serve):
    """Serve on a free port; give the address and what ends it."""
    tasks = set()

    async def handle(reader, writer):
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)

    async def stop():
        server.close()
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", stop


@pytest.fixture
async def scripted(options):
    script = Scripted()
    endpoint, stop = await run(script.serve)
    async with S3Store.from_url("s3://bucket", **options | {"endpoint_url": endpoint}) as store:
        script.store, script.endpoint = store, endpoint
        yield script
    await stop()


@pytest.mark.parametrize(
    ("status", "code", "expected", "ambiguous"),
    [
        (404, "NoSuchBucket", BucketNotFoundError, False),
        (404, "NoSuchKey", NotFoundError, False),
        (403, "InvalidAccessKeyId", AuthenticationError, False),
        (403, "SignatureDoesNotMatch", AuthenticationError, False),
        (403, "RequestTimeTooSkewed", AuthenticationError, False),
        (400, "ExpiredToken", AuthenticationError, False),
        (403, "AccessDenied", PermissionDeniedError, False),
        (403, "InvalidObjectState", UnsupportedOperationError, False),
        (400, "BadDigest", ChecksumMismatchError, False),
        (400, "InvalidArgument", InvalidInputError, False),
        (409, "ConditionalRequestConflict", UnavailableError, False),
        (409, "OperationAborted", UnavailableError, False),
        (412, "PreconditionFailed", AlreadyExistsError, False),
        (416, "InvalidRange", InvalidRangeError, False),
        (429, "TooManyRequests", RateLimitedError, False),
        (503, "SlowDown", RateLimitedError, True),
        (503, "ServiceUnavailable", UnavailableError, True),
        (500, "InternalError", UnavailableError, True),
        (501, "NotImplemented", UnsupportedOperationError, False),
    ],
)
async def test_every_answer_has_its_error(scripted, status, code, expected, ambiguous):
    scripted.fail(status, code)
    with pytest.raises(expected) as caught:
        await scripted.store.put("a/k", b"data", mode=CREATE)
    assert type(caught.value) is expected
    assert caught.value.ambiguous is ambiguous
    assert caught.value.key == "a/k"
    assert "test" not in str(caught.value)  # the key and secret of the fixture
    assert len(scripted.requests) == 1  # nothing below the retry wrapper retries


async def test_a_read_is_never_ambiguous_and_retry_after_is_told(scripted):
    scripted.fail(503, "SlowDown", Retry_After="7")
    with pytest.raises(RateLimitedError) as caught:
        await scripted.store.get("k")
    assert not caught.value.ambiguous
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("status", [404, 412])
async def test_an_update_of_what_is_gone_or_changed_failed_its_condition(scripted, status):
    scripted.fail(status, "NoSuchKey" if status == 404 else "PreconditionFailed")
    with pytest.raises(PreconditionFailedError):
        await scripted.store.put("k", b"", mode=Update("abc"))
    assert scripted.requests[0][1]["if-match"] == "abc"


async def test_the_region_of_the_bucket_is_told(scripted):
    scripted.fail(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    with pytest.raises(ConfigurationError, match="eu-west-1"):
        await scripted.store.list_prefixes()


async def test_a_region_that_nobody_gave_is_taken_from_the_first_answer(scripted, options):
    del options["region"]
    scripted.fail(400, "AuthorizationHeaderMalformed", x_amz_bucket_region="eu-west-1")
    scripted.tell(200, "<ListBucketResult/>")
    scripted.fail(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    async with S3Store.from_url("s3://bucket", **options | {"endpoint_url": scripted.endpoint}) as store:
        assert (await store.list_prefixes()).objects == []
        with pytest.raises(ConfigurationError, match="eu-west-1"):  # it is there already: no ring
            await store.list_prefixes()
    scopes = [headers["authorization"].split("/")[2] for _, headers in scripted.requests]
    assert scopes == ["us-east-1", "eu-west-1", "eu-west-1"]


async def test_a_clock_that_is_wrong_is_put_right_by_the_answer(scripted):
    scripted.fail(403, "RequestTimeTooSkewed", Date="Fri, 20 Nov 2037 10:00:00 GMT")
    scripted.tell(200, "<ListBucketResult/>")
    await scripted.store.list_prefixes()
    assert scripted.requests[1][1]["x-amz-date"].startswith("20371120t1000")


@pytest.fixture
def process_keys(monkeypatch, tmp_path):
    """Have botocore's chain ask a process, which gives other keys each time; give what counts its calls."""
    source, asked = tmp_path / "source.py", tmp_path / "asked"
    source.write_text(
        f"import json\nfile = open({str(asked)!r}, 'a+')\nfile.write('x')\nfile.seek(0)\nn = len(file.read())\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'id{n}', 'SecretAccessKey': 'b', 'SessionToken': f't{n}',"
        " 'Expiration': '2099-01-01T00:00:00Z'}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\nregion = eu-north-1\ncredential_process = {sys.executable} {source}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))
    return lambda: asked.stat().st_size


async def test_keys_that_are_refused_as_expired_are_asked_for_again_once(scripted, process_keys):
    told = {"ETag": '"e"', "Last_Modified": "Fri, 20 Nov 2026 00:00:00 GMT"}
    async with S3Store.from_url("s3://bucket", endpoint_url=scripted.endpoint) as store:
        scripted.fail(400, "ExpiredToken")
        scripted.tell(200, "data", **told)
        assert await get_bytes(store, "k") == b"data"
        scripted.tell(400)  # a HEAD tells no code
        scripted.tell(200, **told)
        await store.get("k", head=True)
        scripted.fail(400, "ExpiredToken")
        scripted.fail(400, "ExpiredToken")
        with pytest.raises(AuthenticationError):
            await store.get("k")
    tokens = [headers["x-amz-security-token"] for _, headers in scripted.requests]
    assert tokens == ["t1", "t2", "t2", "t3", "t3", "t4"]
    assert "/eu-north-1/s3/aws4_request" in scripted.requests[0][1]["authorization"]


async def test_many_requests_ask_for_keys_once(scripted, process_keys):
    for _ in range(20):
        scripted.tell(200, "<ListBucketResult/>")
    async with S3Store.from_url("s3://bucket", endpoint_url=scripted.endpoint) as store:
        await asyncio.gather(*(store.list_prefixes() for _ in range(20)))
    assert process_keys() == 1


async def test_the_endpoint_of_a_profile_is_found(scripted, process_keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", scripted.endpoint)
    scripted.tell(200, "<ListBucketResult/>")
    async with S3Store.from_url("s3://bucket") as store:
        await store.list_prefixes()
    assert scripted.requests[0][0].startswith("GET /bucket?")


async def test_connections_are_opened_ahead(scripted):
    for _ in range(3):
        scripted.tell(200)
    await scripted.store.warm_up(3)
    assert (scripted.store.pool_stats().idle, scripted.store.pool_stats().in_use) == (3, 0)
    assert {line for line, _ in scripted.requests} == {"GET /bucket?list-type=2&max-keys=1 HTTP/1.1"}
    await scripted.store.aclose()
    with pytest.raises(UnsupportedOperationError, match="is closed"):
        await scripted.store.warm_up(1)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x_amz_checksum_crc32", "AAAAAA=="),
        ("x_amz_checksum_crc32c", "AAAAAA=="),
        ("x_amz_checksum_sha256", "AAAA"),
        ("x_amz_checksum_sha1", "AAAA"),
    ],
)
async def test_bytes_that_changed_on_the_way_are_noticed(scripted, header, value):
    told = {"ETag": '"e"', "Last_Modified": "Fri, 20 Nov 2026 00:00:00 GMT"}
    scripted.tell(200, "wrong", **told, **{header: value})
    result = await scripted.store.get("k")
    assert result.meta.checksum.value == value
    with pytest.raises(ChecksumMismatchError, match=value):
        await result.read()
    # A checksum of parts is not one of the bytes.
    for extra in ({header: f"{value}-2"}, {header: value, "x_amz_checksum_type": "COMPOSITE"}):
        scripted.tell(200, "right", **told, **extra)
        assert await get_bytes(scripted.store, "k") == b"right"


async def test_an_answer_that_lacks_what_it_must_have_is_unavailable(scripted):
    scripted.tell(200, "body")
    with pytest.raises(UnavailableError, match="makes no sense"):
        await scripted.store.get("k")
    scripted.tell(502, "<html>Bad gateway")
    with pytest.raises(UnavailableError):
        await scripted.store.get("k")


async def test_a_completion_that_fails_with_status_200_has_failed(scripted):
    scripted.tell(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
    for number in range(2):
        scripted.tell(200, ETag=f'"part{number}"')
    scripted.fail(200, "InternalError")
    scripted.tell(200, "")
    scripted.tell(204)
    async with await scripted.store.start_upload("k", mode=CREATE) as part_upload:
        await part_upload.write(bytes(upload.PART_BYTES + 1))
        for _ in range(2):  # an error in the body, then no body at all
            with pytest.raises(UnavailableError) as caught:
                await part_upload.complete()
            assert caught.value.ambiguous
    assert scripted.requests[3][1]["if-none-match"] == "*"
    assert scripted.requests[-1][0].startswith("DELETE ")


async def test_a_part_is_repeated_and_a_conflict_after_an_unclear_completion_stays_unclear(scripted):
    scripted.tell(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
    scripted.fail(503, "SlowDown")
    for number in range(2):
        scripted.tell(200, ETag=f'"part{number}"')
    scripted.fail(500, "InternalError")
    scripted.fail(412, "PreconditionFailed")
    scripted.tell(204)
    async with await scripted.store.start_upload("k", mode=CREATE) as part_upload:
        await part_upload.write(bytes(upload.PART_BYTES + 1))
        with pytest.raises(UnavailableError):
            await part_upload.complete()
        with pytest.raises(AlreadyExistsError) as caught:
            await part_upload.complete()
    assert caught.value.ambiguous
    assert scripted.answers == []


async def test_a_batch_tells_of_the_key_that_could_not_be_deleted(scripted):
    entry = "<Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    scripted.tell(200, f"<DeleteResult>{entry}</DeleteResult>")
    with pytest.raises(PermissionDeniedError) as caught:
        await scripted.store.delete(["a", "b"])
    assert caught.value.key == "b"


async def test_a_service_that_ignores_the_range_is_not_believed(scripted):
    scripted.tell(200, "0123456789", ETag='"e"', Last_Modified="Fri, 20 Nov 2026 00:00:00 GMT")
    with pytest.raises(UnsupportedOperationError, match="asked for bytes"):
        await scripted.store.get("k", range=ByteRange(2, 4))


async def test_nonsense_is_unavailable(scripted):
    scripted.tell(200, "<ListBucketResult><Contents>")
    with pytest.raises(UnavailableError):
        await scripted.store.list_prefixes()


async def test_an_answer_that_comes_before_the_body_was_sent_is_heard(options):
    """A service refuses a large body by its headers alone, and goes on to take it."""
    body = b"<Error><Code>PreconditionFailed</Code></Error>"

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 412 Told\r\nContent-Length: %d\r\n\r\n" % len(body))
        await reader.readexactly(20_000_000)
        writer.write(body)
        await reader.read()

    endpoint, stop = await run(serve)
    async with S3Store.from_url("s3://bucket", **options | {"endpoint_url": endpoint}) as store:
        with pytest.raises(AlreadyExistsError):
            await store.put("k", bytes(40_000_000), mode=CREATE)
    await stop()


class Proxy:
    """Forwards to a real server, until it is told to lose an answer or to break one off."""

    def __init__(self, endpoint):
        self.upstream = urlsplit(endpoint)
        self.lose = 0
        self.cut_after = None

    async def serve(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(self.upstream.hostname, self.upstream.port)

        async def send():
            while data := await reader.read(65536):
                far_writer.write(data)
                await far_writer.drain()
            far_writer.write_eof()

        async def answer():
            while data := await far_reader.read(65536):
                if self.lose:
                    self.lose -= 1
                    raise ConnectionResetError
                if self.cut_after is not None and self.cut_after < len(data):
                    writer.write(data[: self.cut_after])
                    await writer.drain()
                    self.cut_after = None
                    raise ConnectionResetError
                if self.cut_after is not None:
                    self.cut_after -= len(data)
                writer.write(data)
                await writer.drain()
            raise ConnectionResetError  # the server closed

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                group.create_task(answer())
        except* ConnectionError:
            pass
        finally:
            far_writer.transport.abort()


@pytest.fixture
async def proxied(bucket, options):
    proxy = Proxy(options["endpoint_url"])
    endpoint, stop = await run(proxy.serve)
    async with S3Store.from_url(f"s3://{bucket}", **options | {"endpoint_url": endpoint}) as store:
        proxy.store = store
        yield proxy
    await stop()


async def test_a_lost_answer_to_a_create_is_ambiguous_and_the_wrapper_settles_it_as_ours(proxied):
    await proxied.store.put("warm", b"")
    proxied.lose = 1
    with pytest.raises(UnavailableError) as caught:
        await proxied.store.put("bare", b"ours", mode=CREATE)
    assert caught.value.ambiguous
    with pytest.raises(AlreadyExistsError):
        await proxied.store.put("bare", b"ours", mode=CREATE)

    proxied.lose = 1
    store = RetryStore(proxied.store, PROMPT)
    meta = await store.put("settled", b"ours", mode=CREATE)
    assert await get_bytes(store, "settled", if_match=meta.version) == b"ours"


async def test_a_lost_answer_to_a_completion_is_settled_as_ours(proxied):
    store = RetryStore(proxied.store, PROMPT)
    async with await store.start_upload("large", mode=CREATE) as part_upload:
        await part_upload.write(bytes(4 * upload.PART_BYTES))
        proxied.lose = 1
        meta = await part_upload.complete()
    assert meta.size == 4 * upload.PART_BYTES
    assert len(await get_bytes(store, "large", if_match=meta.version)) == meta.size


async def test_a_download_that_breaks_is_resumed(proxied):
    body = bytes(range(256)) * 20_000
    await proxied.store.put("k", body)
    proxied.cut_after = 1_000_000
    with pytest.raises(UnavailableError):
        await get_bytes(proxied.store, "k")
    proxied.cut_after = 1_000_000
    assert await get_bytes(RetryStore(proxied.store, PROMPT), "k") == body
