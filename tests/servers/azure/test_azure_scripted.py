"""What Azurite has not: tokens, delegated signatures, copies that take their time, versions, folders. From a service
that says what it is told."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from buffetstore.errors import (
    AuthenticationError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.azure import AzureStore, copies
from buffetstore.objects.base import ByteRange
from buffetstore.objects.helpers import get_bytes, list_all

SEEN = "Fri, 20 Nov 2026 00:00:00 GMT"
BLOB = {"ETag": '"0x1"', "Last-Modified": SEEN}
FOLDER = "<ResourceType>directory</ResourceType>"
FILE = "<ResourceType>file</ResourceType>"


class Scripted:
    """Answers each request with the next of `answers`, and keeps what was asked."""

    def __init__(self):
        self.answers = deque()
        self.requests = []

    def tell(self, status, body=b"", **headers):
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, body, told))

    def blob(self, body=b"", **headers):
        self.tell(200, body, **BLOB, **headers)

    def fail(self, status, code):
        self.tell(status, x_ms_error_code=code)

    def page(self, *blobs, marker=""):
        entries = "".join(
            f"<Blob><Name>{name}</Name>{more}<Properties><Etag>{number}</Etag><Content-Length>1</Content-Length>"
            f"<Last-Modified>{SEEN}</Last-Modified>{kind}</Properties></Blob>"
            for number, (name, kind, more) in enumerate(blobs)
        )
        body = f"<EnumerationResults><Blobs>{entries}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        self.tell(200, body.encode())

    async def handle(self, request):
        self.requests.append(SimpleNamespace(method=request.method, url=request.url, headers=request.headers))
        await request.read()
        status, body, headers = self.answers.popleft()
        if request.method == "HEAD":  # aiohttp's server leaves it out there
            headers |= {"Content-Length": str(len(body))}
        return web.Response(status=status, body=body, headers=headers)


class Credential:
    """Gives the tokens t1, t2, ... that last for an hour, or raises what it is told."""

    def __init__(self):
        self.asked = 0
        self.error = None
        self.seconds = 3600

    async def get_token(self, scope):
        assert scope == "https://storage.azure.com/.default"
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(token=f"t{self.asked}", expires_on=asyncio.get_running_loop().time() + 2**33)


@pytest.fixture
async def scripted():
    script = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.endpoint = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/account"
    script.credential = Credential()
    options = {"endpoint_url": script.endpoint, "credential": script.credential}
    async with AzureStore.from_url("az://container", **options) as store:
        script.store = store
        yield script
    await runner.cleanup()
    assert not script.answers


async def test_a_token_is_asked_for_once_and_again_when_it_is_refused(scripted):
    for _ in range(5):
        scripted.blob(b"x")
    await asyncio.gather(*(get_bytes(scripted.store, "k") for _ in range(5)))
    assert scripted.credential.asked == 1
    assert {request.headers["Authorization"] for request in scripted.requests} == {"Bearer t1"}
    scripted.fail(401, "InvalidAuthenticationInfo")
    with pytest.raises(AuthenticationError):
        await scripted.store.get("k")
    scripted.blob(b"x")
    await get_bytes(scripted.store, "k")
    assert scripted.requests[-1].headers["Authorization"] == "Bearer t2"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClientAuthenticationError("no such tenant"), AuthenticationError),
        (ServiceRequestError("no network"), UnavailableError),
        (OSError("no network"), UnavailableError),
    ],
)
async def test_a_credential_that_gives_no_token_is_named(scripted, error, expected):
    scripted.credential.error = error
    with pytest.raises(expected, match="Credential gives no token") as caught:
        await scripted.store.put("k", b"")
    assert not caught.value.ambiguous
    assert scripted.requests == []


async def test_the_holder_of_a_token_signs_urls_by_a_delegated_key(scripted):
    fields = {"SignedOid": "oid", "SignedTid": "tid", "SignedStart": "2026-11-20T00:00:00Z"}
    fields |= {"SignedExpiry": "2026-11-27T00:00:00Z", "SignedService": "b", "SignedVersion": "2021-12-02"}
    told = "".join(f"<{name}>{value}</{name}>" for name, value in (fields | {"Value": "c2VjcmV0"}).items())
    scripted.tell(200, f"<UserDelegationKey>{told}</UserDelegationKey>".encode())
    assert scripted.store.capabilities.signed_urls
    first = await scripted.store.signed_url("a/k")
    second = await scripted.store.signed_url("a/k", method="PUT")
    (asked,) = scripted.requests  # one key signs many URLs
    assert (asked.method, asked.url.path) == ("POST", "/account/")
    for url, allowed in ((first, "r"), (second, "cw")):
        parts = urlsplit(url)
        query = {name: value for name, (value,) in parse_qs(parts.query).items()}
        assert parts.path == "/account/container/a/k"
        assert (query["sp"], query["skoid"], query["sktid"]) == (allowed, "oid", "tid")
        assert query["sig"]
        assert "c2VjcmV0" not in url


async def test_a_delegated_key_that_is_refused_or_empty_signs_nothing(scripted):
    scripted.fail(403, "AuthorizationPermissionMismatch")
    with pytest.raises(PermissionDeniedError):
        await scripted.store.signed_url("k")
    scripted.tell(200, b"<UserDelegationKey></UserDelegationKey>")
    with pytest.raises(UnavailableError, match="makes no sense"):
        await scripted.store.signed_url("k")


async def test_a_copy_that_takes_its_time_is_waited_for(scripted):
    scripted.blob()
    scripted.tell(202, **BLOB, x_ms_copy_id="id", x_ms_copy_status="pending")
    for status in ("pending", "success"):
        scripted.tell(200, ETag='"0x2"', Last_Modified=SEEN, x_ms_copy_id="id", x_ms_copy_status=status)
    meta = await scripted.store.copy("source", "target")
    assert (meta.key, meta.version) == ("target", "0x2")
    copying = scripted.requests[1].headers
    assert copying["x-ms-copy-source"] == f"{scripted.endpoint}/container/source"
    assert copying["x-ms-source-if-match"] == '"0x1"'


async def test_a_copy_that_fails_is_taken_back(scripted):
    scripted.blob()
    scripted.tell(202, **BLOB, x_ms_copy_id="id", x_ms_copy_status="pending")
    for _ in range(2):
        scripted.blob(x_ms_copy_id="id", x_ms_copy_status="failed", x_ms_copy_status_description="500 Read")
        if len(scripted.answers) == 3:
            scripted.fail(409, "NoPendingCopyOperation")
    scripted.tell(202)
    with pytest.raises(UnavailableError, match="500 Read"):
        await scripted.store.copy("source", "target")
    assert [request.method for request in scripted.requests] == ["HEAD", "PUT", "HEAD", "PUT", "HEAD", "DELETE"]
    assert scripted.requests[-1].headers["if-match"] == '"0x1"'


async def test_a_copy_that_is_cancelled_is_taken_back(scripted, monkeypatch):
    waiting = asyncio.Event()

    async def state(*_):
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(copies, "_state", state)
    scripted.blob()
    scripted.tell(202, **BLOB, x_ms_copy_id="id", x_ms_copy_status="pending")
    copying = asyncio.create_task(scripted.store.copy("source", "target"))
    await waiting.wait()
    scripted.tell(204)
    scripted.blob(x_ms_copy_id="id", x_ms_copy_status="aborted")
    scripted.tell(202)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert [request.method for request in scripted.requests] == ["HEAD", "PUT", "PUT", "HEAD", "DELETE"]
    assert scripted.requests[2].url.query["comp"] == "copy"


async def test_a_source_that_is_replaced_during_its_copy_is_tried_again(scripted):
    scripted.blob()
    scripted.fail(412, "SourceConditionNotMet")
    with pytest.raises(UnavailableError, match="replaced while it was copied") as caught:
        await scripted.store.copy("source", "target")
    assert caught.value.transient
    assert not caught.value.ambiguous


def version(number, *, current=False):
    told = f"<VersionId>2026-11-20T00:00:00.000000{number}Z</VersionId>"
    return f"{told}<IsCurrentVersion>{'true' if current else 'false'}</IsCurrentVersion>"


async def test_versions_are_listed_read_and_restored(scripted):
    scripted.page(("a", "", version(1)), ("a", "", version(2)), marker="next")
    scripted.page(("a", "", version(3, current=True)), ("b", "", version(1, current=True)))
    found = [(got.meta.key, got.id[-2], got.is_current) async for got in scripted.store.list_versions()]
    assert found == [("a", "3", True), ("a", "2", False), ("a", "1", False), ("b", "1", True)]
    assert scripted.requests[0].url.query["include"] == "versions"

    scripted.blob(b"old")
    async with await scripted.store.get_version("a", "v1") as result:
        assert await result.read() == b"old"
    assert scripted.requests[-1].url.query["versionid"] == "v1"

    scripted.blob()
    scripted.tell(202, ETag='"0x2"', Last_Modified=SEEN, x_ms_copy_status="success")
    assert (await scripted.store.restore_version("a", "v1")).version == "0x2"
    assert scripted.requests[-1].headers["x-ms-copy-source"] == f"{scripted.endpoint}/container/a?versionid=v1"


async def test_a_hierarchical_namespace_lists_objects_alone_and_in_the_order_of_bytes(scripted):
    scripted.page(("a", FOLDER, ""), ("a/x", FILE, ""), marker="next")
    scripted.page(("a-b", FILE, ""), ("b", FILE, ""))
    assert [meta.key for meta in await list_all(scripted.store)] == ["a-b", "a/x", "b"]


async def test_a_listing_begins_where_it_is_told(scripted):
    scripted.page(("log/1.json", "", ""), ("log/2.json", "", ""))
    assert [meta.key for meta in await list_all(scripted.store, "log/", after="log/1.json")] == ["log/2.json"]
    assert scripted.requests[0].url.query["startFrom"] == "log/1"
    assert scripted.requests[0].headers["x-ms-version"] == "2026-02-06"


async def test_a_service_that_cannot_begin_there_is_asked_for_all(scripted):
    scripted.fail(400, "InvalidHeaderValue")
    for _ in range(2):
        scripted.page(("log/1.json", "", ""), ("log/2.json", "", ""))
        assert [meta.key for meta in await list_all(scripted.store, "log/", after="log/1.json")] == ["log/2.json"]
    assert ["startFrom" in request.url.query for request in scripted.requests] == [True, False, False]


async def test_what_makes_no_sense_is_not_believed(scripted):
    scripted.tell(200, b"<EnumerationResults><Blobs><Blob>")
    with pytest.raises(UnavailableError, match="makes no sense"):
        await scripted.store.list_prefixes()
    scripted.tell(200, b"<EnumerationResults></EnumerationResults>")
    with pytest.raises(UnavailableError, match="makes no sense"):
        await scripted.store.list_prefixes()
    scripted.tell(201)
    with pytest.raises(UnavailableError, match="no ETag") as caught:
        await scripted.store.put("k", b"")
    assert caught.value.ambiguous
    scripted.blob(b"0123456789")
    with pytest.raises(UnsupportedOperationError, match="asked for"):
        await scripted.store.get("k", range=ByteRange(2, 4))
