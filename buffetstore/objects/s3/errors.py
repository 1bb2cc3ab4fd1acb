"""S3's answers and aiohttp's exceptions as our errors; the one place that knows theirs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

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
    StorageError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.s3.xml import ParseError, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buffetstore.objects.base import PutMode

EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
SKEWED = {"RequestTimeTooSkewed"}
BAD_CREDENTIALS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestExpired", "InvalidSecurity", "InvalidClientTokenId"),
    *EXPIRED,
    *SKEWED,
}
BAD_CHECKSUM = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
TOO_MANY = {"SlowDown", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
WRONG_REGION = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"}
# Said of a write that ran into another one, or into a slow body: it was not done, and may be tried again.
NOT_DONE = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}
# What an error says that comes with status 200: after headers are sent, its status can no longer be.
_STATUS_OF = {
    "AccessDenied": 403,
    "InvalidArgument": 400,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "PreconditionFailed": 412,
    "SlowDown": 503,
}

FOREIGN = (
    aiohttp.ClientError,
    aiohttp.http_exceptions.HttpProcessingError,
    OSError,  # TimeoutError is one
)


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, for the error that tells of it."""

    operation: str
    url: str
    key: str | None = None
    mode: PutMode | None = None
    write: bool = False

    @property
    def where(self) -> str:
        """What was done to what, for a message."""
        return f"{self.operation} {self.key!r} in {self.url}" if self.key else f"{self.operation} in {self.url}"


class Refusal(NamedTuple):
    """An answer that is an error."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str]

    @property
    def region(self) -> str | None:
        """Where the bucket is, if the answer tells that it is elsewhere."""
        return self.headers.get("x-amz-bucket-region") if self.code in WRONG_REGION or self.status == 400 else None


@contextmanager
def understood(call: Call) -> Iterator[None]:
    """Raise our error for an answer that makes no sense: malformed, or without what it must have."""
    try:
        yield
    except (ParseError, KeyError, ValueError) as error:
        if isinstance(error, StorageError):
            raise
        raise UnavailableError(
            f"{call.where}: the answer makes no sense: {error!r}", key=call.key, ambiguous=call.write
        ) from error


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Return what an answer of this status says; a body that is no XML (a gateway's page) says nothing."""
    try:
        code, message = error_of(body) or ("", "")
    except ParseError:
        code, message = "", ""
    if status < 300:
        status = _STATUS_OF.get(code, 500)
    return Refusal(status, code or str(status), message, headers)


def entry_error(call: Call, code: str, message: str, key: str) -> StorageError:
    """Return the error of one entry of a batch, whose answer as a whole was 200."""
    return answered(replace(call, key=key), Refusal(_STATUS_OF.get(code, 500), code, message, {}))


def answered(call: Call, refusal: Refusal) -> StorageError:
    """Return our error for an answer of the service."""
    status, code = refusal.status, refusal.code
    told = (str(status), code if code != str(status) else "", refusal.message)
    said = f"{call.where}: {' '.join(word for word in told if word)}"
    if code == "NoSuchBucket":
        return BucketNotFoundError(f"{said}: create the bucket or mend the URL", key=call.key)
    if code == "NoSuchUpload":
        # Its own completion may have ended it, whose answer was lost.
        return UnavailableError(said, key=call.key, ambiguous=True)
    if code in NOT_DONE:
        return UnavailableError(said, key=call.key)
    if code in BAD_CHECKSUM:
        return ChecksumMismatchError(said, key=call.key)
    if code in BAD_CREDENTIALS or status == 401:
        return AuthenticationError(f"{said}: check the access key, the secret and the clock", key=call.key)
    if code in WRONG_REGION:
        region = refusal.region
        return ConfigurationError(f"{said}: set the region to that of the bucket{f' ({region})' if region else ''}")
    return _conditional(call, status, said) or _by_status(call, status, code, said, _retry_after(refusal.headers))


def _conditional(call: Call, status: int, said: str) -> StorageError | None:
    kind = call.mode.kind if call.mode is not None else None
    if status == 412 and kind == "create":
        return AlreadyExistsError(f"{call.key!r} already exists in {call.url}", key=call.key)
    if status == 412 or (status == 404 and kind == "update"):
        return PreconditionFailedError(f"{said}: read the object again", key=call.key)
    return None


def _by_status(call: Call, status: int, code: str, said: str, retry_after: float | None) -> StorageError:
    key = call.key
    if status == 404:
        return NotFoundError(f"there is no object {key!r} in {call.url}", key=key)
    if status == 416:
        return InvalidRangeError(said, key=key)
    if code == "InvalidObjectState":
        return UnsupportedOperationError(f"{said}: the object is archived, restore it first", key=key)
    if status == 403:
        return PermissionDeniedError(f"{said}: grant it to these credentials", key=key)
    if status == 429 or code in TOO_MANY or (status == 503 and retry_after is not None):
        # After 429 nothing was done; a 503 may come from a gateway that had passed the request on.
        return RateLimitedError(said, key=key, retry_after=retry_after, ambiguous=call.write and status != 429)
    if status >= 500 and status != 501:
        return UnavailableError(said, key=key, retry_after=retry_after, ambiguous=call.write)
    if status in {405, 501}:
        return UnsupportedOperationError(said, key=key)
    return InvalidInputError(said, key=key) if status == 400 else StorageError(said, key=key)


def unanswered(call: Call, error: Exception) -> StorageError:
    """Return our error for what aiohttp raised."""
    said = f"{call.where}: {str(error) or type(error).__name__}"
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return UnavailableError(f"{said}: nothing was sent; check the endpoint", key=call.key)
    return UnavailableError(said, key=call.key, ambiguous=call.write)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else None
