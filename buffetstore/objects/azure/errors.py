"""What the Blob service and aiohttp say, as our errors; the one place that knows theirs."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

import aiohttp

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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buffetstore.objects.base import PutMode

NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "FilesystemNotFound"}
BAD_CREDENTIALS = {
    *("AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation", "PublicAccessNotPermitted"),
    *("KeyVaultAccessTokenCannotBeAcquired", "InvalidAuthenticationToken"),
}
# Said of a write that ran into another one: it was not done, and may be tried again.
NOT_DONE = {"PendingCopyOperation", "OperationTimedOutBeforeStart", "ConcurrentUpdate"}
NOT_HERE = {"BlobArchived", "BlobBeingRehydrated", "BlobTierInadequateForContentLength", "BlobTypeNotSupported"}
HELD = {"LeaseIdMissing", "LeaseIdMismatchWithBlobOperation", "BlobImmutableDueToPolicy", "SnapshotsPresent"}
CREATED_BEFORE = {"BlobAlreadyExists", "UnauthorizedBlobOverwrite", "PathAlreadyExists"}
DAMAGED = {"Md5Mismatch", "InvalidXmlDocument"}  # our documents are valid when they leave
LOST_BLOCKS = {"InvalidBlockList", "InvalidBlobOrBlock"}

FOREIGN = (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError, ValueError, KeyError, ParseError)


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, for the error that tells of it; `write` makes an unclear answer ambiguous."""

    operation: str
    url: str
    key: str | None = None
    mode: PutMode | None = None
    write: bool = False

    @property
    def where(self) -> str:
        """What was done to what, for a message."""
        return f"{self.operation} {self.key!r} in {self.url}" if self.key else f"{self.operation} in {self.url}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error."""

    status: int
    headers: Mapping[str, str]
    body: str = ""

    @property
    def code(self) -> str:
        """The service's word for it; a HEAD has it in a header only."""
        return self.headers.get("x-ms-error-code") or _element(self.body, "Code")

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, where the service says so."""
        value = self.headers.get("Retry-After", "")
        if value.replace(".", "", 1).isdigit():
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None


class LostBlocksError(ConflictError):
    """A block list names blocks that the service no longer has: another commit to this blob dropped them."""


@contextmanager
def mapped(call: Call) -> Iterator[None]:
    """Raise our error for theirs."""
    try:
        yield
    except FOREIGN as error:
        if isinstance(error, StorageError):  # ours are builtins too: NotFoundError is an OSError
            raise
        raise _unanswered(call, error) from error


def refused(call: Call, refusal: Refusal) -> StorageError:
    """Return the error that an answer is."""
    code, key = refusal.code, call.key
    told = (str(refusal.status), code, _element(refusal.body, "Message").partition("\n")[0])
    said = f"{call.where}: {' '.join(word for word in told if word)}"
    if code in NO_CONTAINER:
        return BucketNotFoundError(f"{said}: create the container or mend the URL", key=key)
    if code in LOST_BLOCKS:
        return LostBlocksError(f"{said}: another write to this key dropped the blocks, upload again", key=key)
    if code == "SourceConditionNotMet":
        return UnavailableError(f"{said}: the source was replaced while it was copied", key=key)
    if code in NOT_DONE:
        return UnavailableError(said, key=key)
    if code in DAMAGED or "contentMD5 doesn't match" in refusal.body:  # the second is said by Azurite
        return ChecksumMismatchError(said, key=key)
    if code in NOT_HERE:
        return UnsupportedOperationError(f"{said}: move the blob to an online tier first", key=key)
    if code in BAD_CREDENTIALS or refusal.status == 401 or "failed to authenticate" in refusal.body:
        return AuthenticationError(f"{said}: check the account, the key or token, and the clock", key=key)
    return _conditional(call, refusal, said) or _by_status(call, refusal, said)


def _conditional(call: Call, refusal: Refusal, said: str) -> StorageError | None:
    kind = call.mode.kind if call.mode is not None else None
    if kind == "create" and (refusal.status == 412 or refusal.code in CREATED_BEFORE):
        return AlreadyExistsError(f"{call.key!r} already exists in {call.url}", key=call.key)
    if refusal.code in HELD:
        return PermissionDeniedError(f"{said}: a lease, a policy or a snapshot holds the blob", key=call.key)
    if refusal.status == 412 or (refusal.status == 404 and kind == "update"):
        return PreconditionFailedError(f"{said}: read the object again", key=call.key)
    return None


def _by_status(call: Call, refusal: Refusal, said: str) -> StorageError:
    key, status, retry_after = call.key, refusal.status, refusal.retry_after
    if status == 404 and (key is None or refusal.code == "ResourceNotFound"):
        # What is private looks absent to whoever shows no credentials.
        return BucketNotFoundError(f"{said}: create the container, or give credentials that see it", key=key)
    if status == 404:
        return NotFoundError(f"there is no object {key!r} in {call.url}", key=key)
    if status == 416:
        return InvalidRangeError(said, key=key)
    if status == 403:
        return PermissionDeniedError(f"{said}: grant it to these credentials", key=key)
    if status == 409:
        return ConflictError(said, key=key)
    if status == 429 or refusal.code == "ServerBusy":
        # After 429 nothing was done; a 503 may come from a gateway that had passed the request on.
        return RateLimitedError(said, key=key, retry_after=retry_after, ambiguous=call.write and status != 429)
    if status in {405, 501}:
        return UnsupportedOperationError(said, key=key)
    if status >= 500 or status == 408:
        return UnavailableError(said, key=key, retry_after=retry_after, ambiguous=call.write)
    return InvalidInputError(said, key=key) if status in {400, 411, 413, 414} else StorageError(said, key=key)


def _unanswered(call: Call, error: Exception) -> StorageError:
    said = f"{call.where}: {type(error).__name__}"
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text has the URL, which may carry a signature; other errors name hosts at most.
        return UnavailableError(f"{said}: {error.message}", key=call.key, ambiguous=call.write)
    if isinstance(error, aiohttp.InvalidURL):
        return ConfigurationError(f"{said}: the endpoint is not a URL that can be asked")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return UnavailableError(f"{said}: {error}: nothing was sent; check the endpoint", key=call.key)
    if isinstance(error, aiohttp.ClientError | aiohttp.http_exceptions.HttpProcessingError | OSError):
        return UnavailableError(f"{said}: {error}", key=call.key, ambiguous=call.write)
    return UnavailableError(f"{said}: the answer makes no sense: {error}", key=call.key, ambiguous=call.write)


def _element(body: str, name: str) -> str:
    # By pattern, as what answers may be a gateway, whose page is no XML.
    found = re.search(rf"<{name}>(.*?)</{name}>", body, re.DOTALL)
    return found.group(1).strip() if found is not None else ""
