"""Files and whole stores to and from an S3 server that verifies checksums."""

from __future__ import annotations

from random import Random

import pytest

from buffetstore.objects import LocalStore, MemoryStore, download_file, get_bytes, open_store, upload_file
from buffetstore.objects.copy_store import copy_store
from buffetstore.objects.transfers import get_buffer

BODY = Random(5).randbytes(12_000_000)
PART = 2_000_000


@pytest.fixture(params=["moto", "ministack"])
async def store(request):
    name = "" if request.param == "moto" else "ministack_"
    options = request.getfixturevalue(f"{name}options")
    async with open_store(f"s3://{request.getfixturevalue(f'{name}bucket')}/lake", **options) as store:
        yield store


async def test_a_file_goes_up_and_comes_down_by_ranges(store, tmp_path):
    (tmp_path / "source").write_bytes(BODY)
    await upload_file(store, tmp_path / "source", "k")
    await download_file(store, "k", tmp_path / "target", part_bytes=PART)
    assert (tmp_path / "target").read_bytes() == BODY
    assert await get_buffer(store, "k", size=len(BODY), part_bytes=PART) == BODY
    assert await get_buffer(store, "k", size=17, part_bytes=PART) == BODY, "a wrong size costs time only"


async def test_a_store_is_copied(store, tmp_path):
    source = MemoryStore()
    bodies = {"a": b"", "b/é": b"text", "large": BODY}
    for key, body in bodies.items():
        await source.put(key, body)
    (await copy_store(source, store)).raise_for_failures()
    again = await copy_store(source, store)
    assert (again.copied, again.skipped) == (0, 3)
    back = LocalStore(tmp_path / "back", create=True)
    (await copy_store(store, back, verify="read")).raise_for_failures()
    assert {key: await get_bytes(back, key) for key in bodies} == bodies
