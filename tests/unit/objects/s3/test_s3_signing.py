"""Our signatures are those that botocore makes, for any request."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from unittest.mock import patch
from urllib.parse import parse_qsl, quote, urlsplit

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.objects.s3.signing import Keys, Signer, query_text

NOW = 1_795_190_400.25
MOMENT = datetime(2026, 11, 20, 16, 0, 0)  # noqa: DTZ001 - botocore's have no zone

any_text = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=8)
secrets = st.text("abcXYZ019/+=", min_size=1, max_size=40)
keys = st.builds(Keys, st.text("ABC019", min_size=1), secrets, st.none() | secrets)
names = st.lists(any_text.filter(bool), min_size=1, max_size=4).map("/".join)
queries = st.dictionaries(any_text.filter(bool), any_text, max_size=4).map(lambda pairs: list(pairs.items()))
header_names = ["x-amz-meta-a", "x-amz-meta-run-id", "content-type", "if-match", "if-none-match", "content-md5"]
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
headers = st.dictionaries(st.sampled_from(header_names), header_values)
regions = st.sampled_from(["us-east-1", "eu-central-2", "auto"])
hosts = st.sampled_from(["s3.eu-central-2.amazonaws.com", "127.0.0.1:9000", "[::1]:7480", "bucket.example.org"])
methods = st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"])


def signed_by_botocore(kind, key, region, request, **options):
    """Return the request as botocore signs it at the same moment, its body left out of the signature."""
    request.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": False})
    credentials = Credentials(key.access_key, key.secret_key, key.token)
    with patch.object(auth, "get_current_datetime", lambda: MOMENT):
        kind(credentials, "s3", region, **options).add_auth(request)
    return request


@given(keys, regions, methods, hosts, names, queries, headers)
def test_a_request_has_the_signature_that_botocore_gives_it(key, region, method, host, name, query, given_headers):
    path, text = f"/bucket/{quote(name)}", query_text(query)
    ours = {"accept-encoding": "identity", "range": "bytes=0-1", **given_headers}  # neither is signed
    Signer(region, clock=lambda: NOW).sign(key, method, host, path, text, ours)

    url = f"https://{host}{path}?{text}" if text else f"https://{host}{path}"
    theirs = signed_by_botocore(auth.S3SigV4Auth, key, region, AWSRequest(method, url, headers=given_headers))

    assert ours["authorization"] == theirs.headers["Authorization"]
    assert ours["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("x-amz-security-token") == theirs.headers.get("X-Amz-Security-Token")


@given(keys, regions, st.sampled_from(["GET", "PUT"]), hosts, names, st.none() | header_values, st.integers(1, 604_800))
def test_a_signed_url_is_that_of_botocore(key, region, method, host, name, content_type, seconds):
    path = f"/bucket/{quote(name)}"
    sent = {} if content_type is None else {"content-type": content_type}
    ours = Signer(region, clock=lambda: NOW).presigned_query(key, method, host, path, sent, seconds)

    request = AWSRequest(method, f"https://{host}{path}", headers=sent)
    theirs = signed_by_botocore(auth.S3SigV4QueryAuth, key, region, request, expires=seconds)

    assert sorted(parse_qsl(ours)) == sorted(parse_qsl(urlsplit(theirs.url).query))


def test_the_key_and_the_stamp_are_those_of_the_day():
    """What is kept from one signature for the next goes when the day, the second or the secret does."""
    now = NOW
    signer = Signer("us-east-1", clock=lambda: now)
    made = []
    for seconds, secret in ((0, "a"), (0, "b"), (1, "b"), (86_400, "b"), (0, "a")):
        now = NOW + seconds
        sent = {}
        signer.sign(Keys("id", secret), "GET", "host", "/k", "", sent)
        made.append((sent["x-amz-date"], sent["authorization"]))
    assert made[0] == made[-1]
    assert len(set(made)) == 4
    assert [stamp for stamp, _ in made[:4]] == ["20261120T160000Z"] * 2 + ["20261120T160001Z", "20261121T160000Z"]


def test_keys_do_not_show_their_secrets():
    assert repr(Keys("id", "hush", "token")) == "Keys(access_key='id')"
