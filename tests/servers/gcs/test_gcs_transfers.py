"""Files and whole stores to and from the GCS server, with faults in single ranges."""

from __future__ import annotations

from random import Random

import pytest

from buffetstore.errors import ChecksumMismatchError
from buffetstore.objects import LocalStore, RetryStore, download_file, get_bytes, head, upload_file
from buffetstore.objects.copy_store import copy_store
from buffetstore.objects.gcs import GCSStore
from buffetstore.objects.transfers import get_buffer
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing.gcs.faults import Fault

BODY = Random(4).randbytes(5_000_000)
PART = 1_000_000


async def no_sleep(_seconds):
    """Wait not at all."""


@pytest.fixture
async def store(server, bucket):
    inner = GCSStore(bucket, api_root=server.url, chunk_bytes=1024 * 1024)
    async with RetryStore(inner, RetryPolicy(attempts=3, sleep=no_sleep)) as store:
        yield store


async def test_a_file_goes_up_and_comes_down_by_ranges(store, server, tmp_path):
    (tmp_path / "source").write_bytes(BODY)
    await upload_file(store, tmp_path / "source", "k")
    server.log.clear()
    meta = await download_file(store, "k", tmp_path / "target", part_bytes=PART)
    assert (tmp_path / "target").read_bytes() == BODY
    assert meta.checksum is not None
    assert len(server.log.requests) == 5, "no request beside those for the ranges"


@pytest.mark.parametrize("kind", ["reset", "truncate", "status"])
async def test_a_fault_costs_no_more_than_its_range(store, server, tmp_path, kind):
    await store.put("k", BODY)
    server.log.clear()
    when = "before" if kind == "status" else "after"
    server.faults.add(*(Fault(kind, operation="xml.get", when=when, skip=skip) for skip in (1, 2)))
    await download_file(store, "k", tmp_path / "target", part_bytes=PART)
    assert (tmp_path / "target").read_bytes() == BODY
    assert len(server.log.requests) == 7
    assert sum(request.operation == "xml.get" for request in server.log.requests) == 7


async def test_a_flipped_bit_in_one_range_is_found(store, server):
    await store.put("k", BODY)
    server.faults.add(Fault("flip", operation="xml.get", when="after", skip=2))
    assert await get_buffer(store, "k", part_bytes=PART) == BODY
    server.faults.add(Fault("flip", operation="xml.get", when="after", times=None))
    with pytest.raises(ChecksumMismatchError):
        await get_buffer(store, "k", part_bytes=PART)


async def test_a_store_is_copied_and_verified_by_the_services_checksums(store, server, tmp_path):
    local = LocalStore(tmp_path)
    for key, body in {"a": b"", "b/é": b"text", "large": BODY}.items():
        await local.put(key, body)
    (await copy_store(local, store)).raise_for_failures()
    assert sum(request.operation == "xml.get" for request in server.log.requests) == 0, "nothing was read back"
    assert await get_bytes(store, "large") == BODY
    again = await copy_store(local, store)
    assert (again.copied, again.skipped) == (0, 3)
    back = LocalStore(tmp_path / "back", create=True)
    (await copy_store(store, back)).raise_for_failures()
    assert await get_bytes(back, "large") == BODY
    assert (
        (await head(store, "b/é")).attributes.metadata["source-version"].startswith((await head(local, "b/é")).version)
    )
