"""The server's own side: faults and counters over HTTP, checksums, uploads, the form of errors."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode

import aiohttp
import google_crc32c
import pytest

from buffetstore.testing.gcs import Fault, GCSServer


@pytest.fixture
async def http(server):
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def test_faults_over_http(http, bucket):
    path = f"/storage/v1/b/{bucket}/o"
    fault = {"kind": "status", "operation": "objects.list", "status": 502, "times": 2}
    async with http.post("/_emulator/faults", json=[fault]) as answer:
        assert (await answer.json())[0]["status"] == 502
    assert [(await http.get(path)).status for _ in range(3)] == [502, 502, 200]
    async with http.get("/_emulator/requests") as answer:
        assert (await answer.json())["operations"] == {"objects.list": 3}
    async with http.post("/_emulator/faults", data=json.dumps({"kind": "earthquake"})) as answer:
        assert answer.status == 400
    async with http.post("/_emulator/faults", json={"kind": "reset", "times": None}) as answer:
        assert answer.status == 200
    with pytest.raises(aiohttp.ClientError):
        await http.get(path)
    async with http.delete("/_emulator/faults") as answer:
        assert await answer.json() == []
    async with http.delete("/_emulator/requests"), http.get("/_emulator/requests") as answer:
        assert (await answer.json())["requests"] == 0
    async with http.get("/_emulator/health") as answer:
        assert bucket in (await answer.json())["buckets"]
    async with http.get("/_emulator/nothing") as answer:
        assert answer.status == 404


async def test_errors_in_both_forms(http, bucket):
    async with http.get(f"/storage/v1/b/{bucket}/o/none") as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["errors"][0]["reason"]) == (404, 404, "notFound")
        assert error["message"] == f"No such object: {bucket}/none"
        assert "Date" in answer.headers
    async with http.get("/storage/v1/b/none/o/none") as answer:
        assert "bucket does not exist" in (await answer.json())["error"]["message"]
    async with http.get(f"/{bucket}/none") as answer:
        assert (answer.status, "<Code>NoSuchKey</Code>" in await answer.text()) == (404, True)
    async with http.get("/none/none") as answer:
        assert "<Code>NoSuchBucket</Code>" in await answer.text()
    async with http.post(f"/storage/v1/b/{bucket}/o/x") as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("Content-MD5", b64encode(hashlib.md5(b"body").digest()).decode()),
        ("x-goog-hash", f"crc32c={b64encode(google_crc32c.value(b'body').to_bytes(4)).decode()}"),
    ],
)
async def test_checksums_in_headers(http, bucket, name, good):
    upload = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=k"
    other = good[:-4] + ("A" if good[-4] != "A" else "B") + good[-3:]
    for method, path in (("POST", upload), ("PUT", f"/{bucket}/k")):
        async with http.request(method, path, data=b"body", headers={name: good}) as answer:
            assert answer.status == 200, await answer.text()
        async with http.request(method, path, data=b"body", headers={name: other}) as answer:
            assert answer.status == 400


async def test_a_session_is_asked_finished_and_cancelled(http, server, bucket):
    start = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name=k"
    quantum = 256 * 1024

    async def put(place, span, body=b""):
        async with http.put(place, data=body, headers={"Content-Range": f"bytes {span}"}) as answer:
            return answer.status, answer.headers.get("Range")

    place = (await http.post(start)).headers["Location"].removeprefix(server.url)
    assert await put(place, "*/*") == (308, None)
    # Of a chunk that is not the last, whole multiples of 256 KiB are kept.
    assert await put(place, f"0-{quantum + 9}/*", bytes(quantum + 10)) == (308, f"bytes=0-{quantum - 1}")
    assert await put(place, f"{quantum + 10}-{quantum + 19}/*", bytes(10)) == (400, None)
    assert await put(place, f"{quantum}-{quantum + 9}/{quantum + 10}", bytes(10)) == (200, None)
    assert await put(place, "*/*") == (200, None)
    assert server.state.get(bucket, "k").size == quantum + 10
    place = (await http.post(start)).headers["Location"].removeprefix(server.url)
    assert (await http.delete(place)).status == 499
    assert await put(place, "*/*") == (410, None)
    assert await put(place.replace("upload_id=", "upload_id=x"), "*/*") == (404, None)


async def test_conditions_on_entity_tags(http, bucket):
    async with http.put(f"/{bucket}/k", data=b"1", headers={"If-None-Match": "*"}) as answer:
        tag = answer.headers["ETag"]
    for headers, status in (
        ({"If-None-Match": "*"}, 412),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": tag}, 200),
        ({"x-goog-if-generation-match": "7"}, 412),
        ({"x-goog-if-generation-match": "many"}, 400),
    ):
        async with http.put(f"/{bucket}/k", data=b"1", headers=headers) as answer:
            assert answer.status == status
    async with http.put(f"/{bucket}/absent", data=b"1", headers={"If-Match": tag}) as answer:
        assert answer.status == 412
    async with http.get(f"/{bucket}/k", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304


async def test_it_runs_in_the_caller_s_loop():
    async with GCSServer(buckets=["one", "two"]) as server, aiohttp.ClientSession() as session:
        server.faults.add(Fault("delay", seconds=0.01))
        async with session.get(f"{server.url}/storage/v1/b") as answer:
            assert [bucket["name"] for bucket in (await answer.json())["items"]] == ["one", "two"]
        assert server.log.operations == {"buckets.list": 1}
    await server.aclose()
