"""URLs that anybody may use for a while: ours beside those of Google's own client, checked by the server."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from yarl import URL

from buffetstore.errors import AuthenticationError, InvalidInputError, UnsupportedOperationError
from buffetstore.objects.gcs import GCSStore
from buffetstore.objects.gcs.signing import to_sign
from buffetstore.objects.helpers import get_bytes
from buffetstore.objects.open import open_store
from buffetstore.testing.gcs import GCSServer

EMAIL = "signer@test"


@pytest.fixture
def account(signing_key):
    return {"type": "service_account", "client_email": EMAIL, "private_key": signing_key, "token_uri": "http://none"}


@pytest.fixture
async def guarded(account):
    """A server that asks for a token, and knows the account's key."""
    async with GCSServer(buckets=["b"], token="good") as server:
        server.signers.trust(account)
        yield server


@pytest.fixture
async def store(guarded, account, tmp_path):
    file = tmp_path / "account.json"
    file.write_text(json.dumps({**account, "token_uri": f"{guarded.url}/token"}))
    async with GCSStore("b", api_root=guarded.url, service_file=str(file)) as store:
        yield store


async def fetch(url, method="GET", **options):
    async with aiohttp.ClientSession() as http, http.request(method, URL(url, encoded=True), **options) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("key", ["k", "a/b c/ü%2F~(x)!*'?#&=+.parquet"])
async def test_reading_and_writing(store, key):
    assert store.capabilities.signed_urls
    place = await store.signed_url(key, method="PUT", content_type="text/x")
    assert (await fetch(place, "PUT", data=b"body", headers={"Content-Type": "text/x"}))[0] == 200
    assert await get_bytes(store, key) == b"body"
    assert await fetch(await store.signed_url(key)) == (200, b"body")


async def test_what_is_not_signed_is_refused(store, guarded):
    await store.put("k", b"body")
    place = await store.signed_url("k", method="PUT", content_type="text/x")
    url = await store.signed_url("k")
    for bad, method, headers in (
        (place, "PUT", {"Content-Type": "text/y"}),
        (url, "PUT", {}),
        (url.replace("/k?", "/other?"), "GET", {}),
        (url.replace("Expires=3600", "Expires=3601"), "GET", {}),
        (url.replace("signer", "nobody"), "GET", {}),
        (url[:-2] + ("00" if url[-2:] != "00" else "01"), "GET", {}),
        (url + "zz", "GET", {}),
    ):
        status, body = await fetch(bad, method, headers=headers)
        assert (status, b"SignatureDoesNotMatch" in body) == (403, True), bad
    assert (await fetch(url.replace("X-Goog-Date=", "X-Goog-Date=x")))[0] == 400
    assert (await fetch(url.replace("RSA-SHA256", "HMAC-SHA256")))[0] == 400
    assert (await fetch(f"{guarded.url}/b/k"))[0] == 401


async def test_it_expires(store, account):
    later = datetime.now(UTC) + timedelta(seconds=61)
    async with GCSServer(buckets=["b"], token="good", clock=later.timestamp) as server:
        server.signers.trust(account)
        store._client.root = server.url
        server.state.put("b", "k", (await _content(b"body")), {})
        assert (await fetch(await store.signed_url("k", expires_seconds=62)))[0] == 200
        status, body = await fetch(await store.signed_url("k", expires_seconds=60))
        assert (status, b"ExpiredToken" in body) == (403, True)


async def _content(data):
    from buffetstore.testing.gcs.wire import hashed

    return await hashed(data)


async def test_through_a_prefix(store, guarded, tmp_path):
    async with open_store("gs://b/team", api_root=guarded.url, service_file=str(tmp_path / "account.json")) as team:
        await team.put("k", b"theirs")
        assert await fetch(await team.signed_url("k")) == (200, b"theirs")


@pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * 3600 + 1])
async def test_how_long(store, seconds):
    with pytest.raises(InvalidInputError, match="604800"):
        await store.signed_url("k", expires_seconds=seconds)


async def test_nobody_to_sign(server, bucket, tmp_path):
    async with GCSStore(bucket, api_root=server.url) as store:
        assert not store.capabilities.signed_urls
        with pytest.raises(UnsupportedOperationError, match="service_file"):
            await store.signed_url("k")
    for text, error in (('{"type": "authorized_user"}', UnsupportedOperationError), ("no json", AuthenticationError)):
        (tmp_path / "user.json").write_text(text)
        async with GCSStore(bucket, api_root=server.url, service_file=str(tmp_path / "user.json")) as store:
            with pytest.raises(error, match=r"user\.json"):
                await store.signed_url("k")


async def test_iam_signs_for_an_impersonated_account(guarded, account, tmp_path, monkeypatch):
    """The request to sign carries the source account's token, and says who signs."""
    key = serialization.load_pem_private_key(account["private_key"].encode(), password=None)
    asked = []

    async def sign(request):
        asked.append((request.path, request.headers["Authorization"]))
        payload = base64.b64decode((await request.json())["payload"])
        signature = key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return web.json_response({"signedBlob": base64.b64encode(signature).decode()})

    iam = web.ServerRunner(web.Server(sign))
    await iam.setup()
    await web.TCPSite(iam, "127.0.0.1", 0).start()
    place = f"http://127.0.0.1:{iam.addresses[0][1]}/{{account}}"
    monkeypatch.setattr("buffetstore.objects.gcs.signing.SIGN_BLOB", place)
    async with GCSServer(token="mine") as tokens:
        file = tmp_path / "source.json"
        file.write_text(json.dumps({**account, "client_email": "source@test", "token_uri": f"{tokens.url}/token"}))
        options = {"service_file": str(file), "service_account_email": EMAIL}
        async with GCSStore("b", api_root=guarded.url, **options) as store:
            guarded.state.put("b", "k", await _content(b"body"), {})
            assert await fetch(await store.signed_url("k")) == (200, b"body")
    assert asked == [(f"/{EMAIL}", "Bearer mine")]
    monkeypatch.setattr("buffetstore.objects.gcs.signing.SIGN_BLOB", f"{tokens.url}/none/{{account}}")
    async with GCSStore("b", api_root=guarded.url, token="t", service_account_email=EMAIL) as store:
        with pytest.raises(Exception, match="token service"):
            await store.signed_url("k")
    await iam.cleanup()


async def test_google_signs_the_same(guarded, account, store):
    storage = pytest.importorskip("google.cloud.storage", reason="needs google-cloud-storage")
    from google.oauth2.service_account import Credentials

    credentials = Credentials.from_service_account_info(account)
    with storage.Client(project="test", credentials=credentials) as client:
        blob = client.bucket("b").blob("a/b c/ü~.parquet")
        options = {"version": "v4", "expiration": timedelta(minutes=5), "api_access_endpoint": guarded.url}
        put = blob.generate_signed_url(method="PUT", content_type="text/x", **options)
        get = blob.generate_signed_url(method="GET", **options)
    assert (await fetch(put, "PUT", data=b"body", headers={"Content-Type": "text/x"}))[0] == 200
    assert await fetch(get) == (200, b"body")
    # The same moment and key give the same signature: theirs, from their own canonical form, over ours.
    theirs = dict(URL(get).query)
    signature = bytes.fromhex(theirs.pop("X-Goog-Signature"))
    host = {"host": f"{URL(get).host}:{URL(get).port}"}
    text = to_sign("GET", URL(get, encoded=True).raw_path, theirs, host)
    key = serialization.load_pem_private_key(account["private_key"].encode(), password=None)
    key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
