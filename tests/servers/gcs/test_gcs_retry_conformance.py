"""The eight scenarios of Google's retry conformance tests, through `open_store`'s default stack on the GCS server.

After googleapis/conformance-tests (storage/v1/retry_tests.json) and python-storage's tests/conformance, with the
methods that an object store has. Instructions keep their names: `return-503-after-256K` answers 503 to a chunk of
which 256 KiB were kept, `return-broken-stream-after-256K` breaks a download there.

Where we go further: an overwrite, a delete and a copy without a precondition are repeated, as the same call again does
no harm (scenario 3); a conditional write whose answer was lost after it was applied is settled by its token, so that it
is neither lost nor taken for somebody else's (2b).
"""

from __future__ import annotations

import os
import re
from base64 import b64encode

import google_crc32c
import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    ChecksumMismatchError,
    InvalidInputError,
    PreconditionFailedError,
    UnavailableError,
)
from buffetstore.objects.base import CREATE, OVERWRITE, Update
from buffetstore.objects.gcs import GCSStore  # noqa: F401 - loaded before a loop runs
from buffetstore.objects.helpers import exists, get_bytes, head, list_all
from buffetstore.objects.layers import Layers
from buffetstore.objects.open import open_store
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing.gcs import Fault

QUANTUM = 256 * 1024
CHUNK = 8 * 1024 * 1024
REPEATED = [
    ["return-503", "return-503"],
    ["return-reset-connection", "return-reset-connection"],
    ["return-reset-connection", "return-503"],
]
repeated = pytest.mark.parametrize("instructions", REPEATED, ids=" ".join)


@pytest.fixture
async def store(server, bucket):
    policy = RetryPolicy(attempts=4, base_seconds=0.001)
    async with open_store(
        f"gs://{bucket}", api_root=server.url, layers=Layers(retry=policy), timeout_seconds=5
    ) as store:
        yield store


@pytest.fixture
def instruct(server):
    """Put Google's instructions into the server's script, for one operation; each must strike."""

    def add(operation, *instructions, when="before"):
        for instruction in instructions:
            match = re.fullmatch(r"return-(\d+|reset-connection|broken-stream)(?:-after-(\d+)K)?", instruction)
            what, kept = match[1], int(match[2]) * 1024 if match[2] else None
            if what == "broken-stream":
                server.faults.add(Fault("truncate", operation=operation, when="after", after_bytes=kept))
            elif what == "reset-connection":
                server.faults.add(Fault("reset", operation=operation, when=when, after_bytes=kept))
            else:
                server.faults.add(Fault("status", operation=operation, when=when, status=int(what), after_bytes=kept))

    yield add
    assert server.faults.describe() == [], "a fault never struck"


async def upload(store, body, *, mode=OVERWRITE, step=1_000_000):
    async with await store.start_upload("k", mode=mode) as writer:
        for at in range(0, len(body), step):
            await writer.write(body[at : at + step])
        return await writer.complete()


IDEMPOTENT = {
    "storage.objects.get": ("objects.get", lambda store: head(store, "k")),
    "storage.objects.get media": ("xml.get", lambda store: get_bytes(store, "k")),
    "storage.objects.get range": ("xml.get", lambda store: store.get_ranges("k", [(0, 1)])),
    "storage.objects.list": ("objects.list", list_all),
    "storage.objects.list prefixes": ("objects.list", lambda store: store.list_prefixes()),
    "storage.objects.list versions": ("objects.list", lambda store: drained(store.list_versions())),
}
every_read = pytest.mark.parametrize("method", IDEMPOTENT)


async def drained(listing):
    return [each async for each in listing]


@repeated
@every_read
async def test_1_always_idempotent(store, instruct, method, instructions):
    await store.put("k", b"body")
    operation, call = IDEMPOTENT[method]
    instruct(operation, *instructions)
    assert await call(store)


@repeated
@pytest.mark.parametrize("method", ["insert", "insert if match", "resumable", "rewrite"])
async def test_2_conditionally_idempotent_with_a_precondition(store, instruct, method, instructions):
    """Before the request is applied: it is repeated under its precondition, which holds."""
    if method == "rewrite":  # a copy is not settled: an answer of 503 leaves it open, so that the error tells (2c)
        await store.put("source", b"body")
        instruct("objects.rewrite", "return-429", "return-429")
        instructions = []
        meta = await store.copy("source", "k", mode=CREATE)
    elif method == "resumable":
        instruct("uploads.start", *instructions)
        meta = await upload(store, bytes(CHUNK + 1), mode=CREATE)
    else:
        mode = CREATE if method == "insert" else Update((await store.put("k", b"old")).version)
        instruct("objects.insert", *instructions)
        meta = await store.put("k", b"body", mode=mode)
    assert (await head(store, "k")).version == meta.version


@repeated
async def test_2b_a_write_that_was_applied_is_ours(store, server, instruct, instructions):
    """After the request is applied: the repeated one is refused with 412, and the token tells that it is ours."""
    instruct("objects.insert", *instructions, when="after")
    meta = await store.put("k", b"body", mode=CREATE)
    assert await get_bytes(store, "k", if_match=meta.version) == b"body"
    with pytest.raises(AlreadyExistsError):
        await store.put("k", b"other", mode=CREATE)
    instruct("objects.insert", *instructions, when="after")
    newer = await store.put("k", b"newer", mode=Update(meta.version))
    with pytest.raises(PreconditionFailedError):
        await store.put("k", b"stale", mode=Update(meta.version))
    assert await get_bytes(store, "k", if_match=newer.version) == b"newer"


@pytest.mark.parametrize("instruction", ["return-503", "return-reset-connection"])
async def test_2c_a_conditional_copy_is_left_open(store, instruct, instruction):
    await store.put("source", b"body")
    instruct("objects.rewrite", instruction, when="after")
    with pytest.raises(UnavailableError) as failure:
        await store.copy("source", "k", mode=CREATE)
    assert failure.value.ambiguous
    assert await get_bytes(store, "k") == b"body"


@pytest.mark.parametrize("when", ["before", "after"])
@repeated
@pytest.mark.parametrize("method", ["insert", "delete", "rewrite"])
async def test_3_conditionally_idempotent_without_a_precondition(store, instruct, method, instructions, when):
    """Google's clients give up here; the same bytes once more, or the absence once more, is what was asked for."""
    await store.put("source", b"body")
    instruct(f"objects.{method}", *instructions, when=when)
    if method == "insert":
        await store.put("k", b"body")
        assert await get_bytes(store, "k") == b"body"
    elif method == "delete":
        await store.delete(["source"])
        assert not await exists(store, "source")
    else:
        await store.copy("source", "k")
        assert await get_bytes(store, "k") == b"body"


@pytest.mark.parametrize("instruction", ["return-503", "return-reset-connection"])
async def test_4_non_idempotent(store, server, instruct, instruction):
    """No call of a store is: what comes nearest, asking for a session, leaves no trace when it is repeated."""
    instruct("uploads.start", instruction, when="after")
    await upload(store, bytes(CHUNK + 1))
    assert server.log.operations["uploads.start"] == 2
    assert len(await list_all(store)) == 1


WRITES = {
    "storage.objects.insert": ("objects.insert", lambda store: store.put("k", b"")),
    "storage.objects.insert conditional": ("objects.insert", lambda store: store.put("new", b"", mode=CREATE)),
    "storage.objects.delete": ("objects.delete", lambda store: store.delete(["k"])),
    "storage.objects.rewrite": ("objects.rewrite", lambda store: store.copy("k", "to")),
    "storage.objects.insert resumable": ("uploads.start", lambda store: upload(store, bytes(CHUNK + 1))),
}
REFUSED = {"return-400": InvalidInputError, "return-401": AuthenticationError}


@pytest.mark.parametrize("instruction", REFUSED)
@pytest.mark.parametrize("method", IDEMPOTENT | WRITES)
async def test_5_non_retryable_errors(store, server, instruct, method, instruction):
    await store.put("k", b"body")
    server.log.clear()
    operation, call = (IDEMPOTENT | WRITES)[method]
    instruct(operation, instruction)
    with pytest.raises(REFUSED[instruction]):
        await call(store)
    assert server.log.operations == {operation: 1}


@pytest.mark.parametrize(
    "instructions", [["return-503", "return-400"], ["return-reset-connection", "return-401"]], ids=" ".join
)
@pytest.mark.parametrize("method", IDEMPOTENT | WRITES)
async def test_6_retryable_then_not(store, server, instruct, method, instructions):
    await store.put("k", b"body")
    server.log.clear()
    operation, call = (IDEMPOTENT | WRITES)[method]
    instruct(operation, *instructions)
    with pytest.raises(REFUSED[instructions[1]]):
        await call(store)
    assert server.log.operations[operation] == 2


@pytest.mark.parametrize(
    "instructions",
    [
        ["return-reset-connection", "return-503"],
        ["return-503-after-256K"],
        ["return-reset-connection-after-256K"],
        ["return-503-after-3072K", "return-408"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("chunk", [0, 1])
async def test_7_resumable_uploads_handle_complete_retries(store, server, instruct, instructions, chunk):
    """What the service kept of a chunk is not sent again."""
    body = os.urandom(CHUNK + CHUNK // 2)
    if chunk:
        server.faults.add(Fault("delay", operation="uploads.chunk"))  # lets the first one through
    instruct("uploads.chunk", *instructions)
    meta = await upload(store, body, mode=CREATE)
    assert (meta.size, meta.checksum.value) == (len(body), crc32c(body))
    assert await get_bytes(store, "k", if_match=meta.version) == body
    kept = max([int(number) * 1024 for number in re.findall(r"after-(\d+)K", " ".join(instructions))], default=0)
    struck = [CHUNK, CHUNK // 2][chunk]
    lost = sum(struck - (kept if "after" in each else 0) for each in instructions[:1])
    # A later fault of the same script strikes the question what the service has, or the rest: that is sent once more.
    assert sent(server) <= len(body) + kept + lost * len(instructions)
    if kept and len(instructions) == 1:
        assert sent(server) == len(body) + struck - kept


def crc32c(body):
    return b64encode(google_crc32c.value(body).to_bytes(4, "big")).decode()


def sent(server):
    return sum(each.bytes_in for each in server.log.requests if each.operation == "uploads.chunk")


async def test_7b_a_quarter_of_a_gigabyte_resends_less_than_a_chunk_for_each_fault(store, server, bucket):
    """Faults at 30 % and 70 % of 256 MiB: bytes are counted at the server."""
    block, count = os.urandom(CHUNK), 32
    for at in (0.3, 0.7):
        server.faults.add(Fault("reset", operation="uploads.chunk", skip=int(count * at), after_bytes=CHUNK // 2))
    async with await store.start_upload("k", mode=CREATE) as writer:
        for _ in range(count):
            await writer.write(block)
        meta = await writer.complete()
    assert server.faults.describe() == []
    assert meta.size == count * CHUNK
    assert 0 < sent(server) - meta.size <= 2 * CHUNK // 2
    server.state.delete(bucket, "k")


async def test_7c_a_chunk_with_a_flipped_bit_never_becomes_an_object(store, server):
    """The service checks only the whole; the upload is over then, and says so without asking again."""
    server.faults.add(Fault("flip", operation="uploads.chunk"))
    writer = await store.start_upload("k", mode=CREATE)
    await writer.write(os.urandom(CHUNK + 1))
    with pytest.raises(ChecksumMismatchError):
        await writer.complete()
    assert server.log.operations["uploads.chunk"] == 2
    with pytest.raises(ChecksumMismatchError):
        await writer.write(b"more")
    await writer.abort()
    assert not await exists(store, "k")
    await upload(store, bytes(CHUNK + 1), mode=CREATE)


@pytest.mark.parametrize(
    "instructions",
    [
        ["return-broken-stream", "return-broken-stream"],
        ["return-broken-stream-after-256K"],
        ["return-broken-stream-after-256K", "return-503", "return-broken-stream-after-256K"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("how", ["read", "readinto", "stream"])
async def test_8_downloads_handle_complete_retries(store, server, instruct, instructions, how):
    body = os.urandom(CHUNK)
    await store.put("k", body)
    instruct("xml.get", *instructions)
    result = await store.get("k")
    if how == "read":
        assert await result.read() == body
    elif how == "readinto":
        buffer = bytearray(len(body))
        assert await result.readinto(memoryview(buffer)) == len(body)
        assert buffer == body
    else:
        assert b"".join([bytes(chunk) async for chunk in result]) == body
        ranges = [each.range for each in server.log.requests if each.operation == "xml.get" and each.range]
        assert len(ranges) == len(instructions), "each break is mended by asking for the rest"
        assert not any(span.startswith("bytes=0-") for span in ranges)
