"""Every answer of the Blob service, and every way not to get one, has its error."""

from __future__ import annotations

from types import SimpleNamespace

import aiohttp
import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ChecksumMismatchError,
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    InvalidRangeError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitedError,
    StorageError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.azure.errors import Call, LostBlocksError, Refusal, mapped, refused
from buffetstore.objects.base import CREATE, OVERWRITE, Update

URL = "az://container"


def error_of(status, code, mode=OVERWRITE, *, write=True, key="a/k", **headers):
    call = Call("put_blob", URL, key, mode, write=write)
    return refused(call, Refusal(status, {"x-ms-error-code": code, **headers}))


@pytest.mark.parametrize(
    ("status", "code", "expected", "ambiguous"),
    [
        (404, "ContainerNotFound", BucketNotFoundError, False),
        (409, "ContainerBeingDeleted", BucketNotFoundError, False),
        (404, "ResourceNotFound", BucketNotFoundError, False),
        (404, "BlobNotFound", NotFoundError, False),
        (403, "AuthenticationFailed", AuthenticationError, False),
        (401, "NoAuthenticationInformation", AuthenticationError, False),
        (401, "", AuthenticationError, False),
        (409, "PublicAccessNotPermitted", AuthenticationError, False),
        (403, "AuthorizationPermissionMismatch", PermissionDeniedError, False),
        (403, "AuthorizationFailure", PermissionDeniedError, False),
        (412, "LeaseIdMissing", PermissionDeniedError, False),
        (409, "BlobImmutableDueToPolicy", PermissionDeniedError, False),
        (409, "BlobArchived", UnsupportedOperationError, False),
        (501, "", UnsupportedOperationError, False),
        (400, "Md5Mismatch", ChecksumMismatchError, False),
        (400, "InvalidHeaderValue", InvalidInputError, False),
        (413, "RequestBodyTooLarge", InvalidInputError, False),
        (400, "InvalidBlockList", LostBlocksError, False),
        (409, "PendingCopyOperation", UnavailableError, False),
        (409, "InvalidBlobType", ConflictError, False),
        (412, "ConditionNotMet", PreconditionFailedError, False),
        (412, "SourceConditionNotMet", UnavailableError, False),
        (416, "InvalidRange", InvalidRangeError, False),
        (429, "", RateLimitedError, False),
        (503, "ServerBusy", RateLimitedError, True),
        (503, "", UnavailableError, True),
        (500, "OperationTimedOut", UnavailableError, True),
        (500, "InternalError", UnavailableError, True),
        (302, "", StorageError, False),
    ],
)
def test_every_answer_has_its_error(status, code, expected, ambiguous):
    error = error_of(status, code)
    assert type(error) is expected
    assert error.ambiguous is ambiguous
    assert error.key == "a/k"
    assert not error_of(status, code, write=False).ambiguous


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "BlobAlreadyExists"), (412, "ConditionNotMet"), (403, "UnauthorizedBlobOverwrite"), (412, "LeaseIdMissing")],
)
def test_what_is_there_cannot_be_created(status, code):
    assert type(error_of(status, code, CREATE)) is AlreadyExistsError


@pytest.mark.parametrize(("status", "code"), [(404, "BlobNotFound"), (412, "ConditionNotMet")])
def test_an_update_of_what_is_gone_or_changed_failed_its_condition(status, code):
    assert type(error_of(status, code, Update("0x1"))) is PreconditionFailedError


def test_a_listing_that_finds_nothing_has_no_container():
    assert type(error_of(404, "", key=None)) is BucketNotFoundError


def test_a_body_tells_what_headers_do_not():
    body = '<?xml version="1.0"?><Error><Code>ContainerNotFound</Code><Message>Gone.\nRequestId:1</Message></Error>'
    error = refused(Call("get_blob", URL, "k"), Refusal(404, {}, body))
    assert type(error) is BucketNotFoundError
    assert "Gone." in str(error)
    assert "RequestId" not in str(error)


def test_the_time_to_wait_is_told():
    assert error_of(503, "ServerBusy", **{"Retry-After": "7"}).retry_after == 7
    assert error_of(503, "ServerBusy", **{"Retry-After": "Fri, 20 Nov 2020 00:00:00 GMT"}).retry_after == 0
    assert error_of(503, "ServerBusy", **{"Retry-After": "soon"}).retry_after is None
    assert error_of(503, "ServerBusy").retry_after is None


KEY = SimpleNamespace(host="h", port=1, ssl=True, is_ssl=True)


@pytest.mark.parametrize(
    ("error", "expected", "ambiguous"),
    [
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), UnavailableError, False),
        (aiohttp.ConnectionTimeoutError(), UnavailableError, False),
        (aiohttp.ServerDisconnectedError(), UnavailableError, True),
        (aiohttp.ClientPayloadError("cut"), UnavailableError, True),
        (ConnectionResetError(), UnavailableError, True),
        (TimeoutError(), UnavailableError, True),
        (KeyError("ETag"), UnavailableError, True),
        (aiohttp.InvalidURL("x"), ConfigurationError, False),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_every_way_to_get_no_answer_has_its_error(error, expected, ambiguous):
    for write in (True, False):
        with pytest.raises(expected) as caught, mapped(Call("put_blob", URL, "k", write=write)):
            raise error
        assert type(caught.value) is expected
        assert caught.value.ambiguous is (ambiguous and write)


def test_our_own_errors_pass_and_a_signature_is_never_shown():
    with pytest.raises(NotFoundError), mapped(Call("get_blob", URL)):
        raise NotFoundError("ours")
    request = SimpleNamespace(real_url="http://h/c/k?sig=secret")
    with pytest.raises(UnavailableError) as caught, mapped(Call("get_blob", URL)):
        raise aiohttp.ClientResponseError(request, (), status=400, message="Bad status line")
    assert "secret" not in str(caught.value)
    assert "Bad status line" in str(caught.value)
