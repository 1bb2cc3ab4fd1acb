"""What botocore and aiohttp raise, as our errors; the one place that knows theirs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buffetstore.objects.base import PutMode

BAD_CREDENTIALS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
    *("RequestTimeTooSkewed", "RequestExpired", "InvalidSecurity", "InvalidClientTokenId"),
}
BAD_CHECKSUM = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
TOO_MANY = {"SlowDown", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
WRONG_REGION = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"}
# Said of a write that ran into another one, or into a slow body: it was not done, and may be tried again.
NOT_DONE = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}

FOREIGN = (
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
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


@contextmanager
def mapped(call: Call) -> Iterator[None]:
    """Raise our error for theirs."""
    try:
        yield
    except boto.ClientError as error:
        raise _answered(call, error.response) from error
    except FOREIGN as error:
        if isinstance(error, StorageError):  # ours are builtins too: NotFoundError is an OSError
            raise
        raise _unanswered(call, error) from error


def entry_error(call: Call, fault: Mapping[str, str], key: str) -> StorageError:
    """Return the error of one entry of a batch, whose answer as a whole was 200."""
    status = {"AccessDenied": 403, "SlowDown": 503, "InvalidArgument": 400}.get(fault.get("Code", ""), 500)
    return _answered(replace(call, key=key), {"Error": fault, "ResponseMetadata": {"HTTPStatusCode": status}})


def _answered(call: Call, response: Any) -> StorageError:
    code = str(response.get("Error", {}).get("Code", ""))
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    told = (str(status), code if code != str(status) else "", response.get("Error", {}).get("Message", ""))
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
        region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return ConfigurationError(f"{said}: set the region to that of the bucket{f' ({region})' if region else ''}")
    return _conditional(call, status, said) or _by_status(call, status, code, said, _retry_after(metadata))


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


def _unanswered(call: Call, error: Exception) -> StorageError:
    said = f"{call.where}: {error}"
    if isinstance(error, boto.FlexibleChecksumError):
        return ChecksumMismatchError(said, key=call.key)
    if isinstance(
        error,
        boto.NoCredentialsError
        | boto.PartialCredentialsError
        | boto.CredentialRetrievalError
        | boto.TokenRetrievalError
        | boto.RefreshWithMFAUnsupportedError,
    ):
        return AuthenticationError(
            f"{said}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile", key=call.key
        )
    cause = getattr(error, "kwargs", {}).get("error", error)
    if isinstance(error, boto.ConnectTimeoutError) or isinstance(cause, aiohttp.ClientConnectorError):
        return UnavailableError(f"{said}: nothing was sent; check the endpoint", key=call.key)
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError | boto.ResponseStreamingError) or not isinstance(
        error, boto.BotoCoreError
    ):
        return UnavailableError(said, key=call.key, ambiguous=call.write)
    return ConfigurationError(said)


def _retry_after(metadata: Any) -> float | None:
    value = metadata.get("HTTPHeaders", {}).get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else None
