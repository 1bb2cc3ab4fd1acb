"""What Google Cloud Storage and the way to it can answer, mapped once to our errors."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

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
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.objects.base import PutMode

_XML_FIELD = re.compile(r"<(Code|Message|Details)>(.*?)</", re.DOTALL)
_RATE_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "SlowDown"})
_SHOWN = 300


class Refusal:
    """An answer of 400 or more: its status, Google's code and words for it, and when to come back."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        self.status = status
        self.retry_after = _retry_after(headers.get("Retry-After"))
        self.reason, self.message = _explained(body)

    def error(self, what: str, key: str | None, *, bucket: str, mode: PutMode | None, writes: bool) -> StorageError:
        """Return the error for the call `what` of `key`; `mode` is that of a conditional write."""
        said = f"{what} in bucket {bucket!r}: {self.status} {self.message or self.reason}"
        if self.status == 404:
            return self._missing(said, key, bucket)
        if self.status == 412:
            return _lost(what, key, mode)
        if self.status == 401:
            return AuthenticationError(
                f"{said}: log in with `gcloud auth application-default login`, or give a service account's key file",
                key=key,
            )
        if self.status == 429 or (self.status == 403 and self.reason in _RATE_REASONS):
            return RateLimitedError(said, key=key, retry_after=self.retry_after)
        if self.status == 403:
            return PermissionDeniedError(f"{said}: grant the account a role that allows it", key=key)
        if self.status == 416:
            return InvalidRangeError(f"{what}: the range starts at or past the object's end", key=key)
        if self.status == 400 and ("match calculated" in self.message or self.reason == "BadDigest"):
            return ChecksumMismatchError(f"{said}: the bytes were damaged on the way, nothing was written", key=key)
        if self.status in {408, 409, 410} or self.status >= 500:
            # A conflict between concurrent edits (409) was refused, everything else may have been applied.
            return UnavailableError(
                said, key=key, retry_after=self.retry_after, ambiguous=writes and self.status != 409
            )
        return InvalidInputError(said, key=key)

    def _missing(self, said: str, key: str | None, bucket: str) -> StorageError:
        if self.reason == "NoSuchBucket" or "bucket does not exist" in self.message or key is None:
            return BucketNotFoundError(f"there is no bucket {bucket!r}: create it, or mend the name", key=key)
        return NotFoundError(f"{said}: there is no such object", key=key)


def _lost(what: str, key: str | None, mode: PutMode | None) -> StorageError:
    if mode is not None and mode.kind == "create":
        return AlreadyExistsError(f"{what}: the key holds an object already", key=key)
    return PreconditionFailedError(f"{what}: the object's version is not the one expected, read it again", key=key)


def network_error(error: Exception, what: str, key: str | None, *, root: str, writes: bool) -> StorageError:
    """Return the error for an exception of the way: no connection, a reset, a time-out."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL):
        return ConfigurationError(f"{what}: {root} cannot be used: {error}", key=key)
    said = f"{what}: {type(error).__name__} {error}".rstrip() + f" (at {root})"
    unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return UnavailableError(said, key=key, ambiguous=writes and not unsent)


def _explained(body: str) -> tuple[str, str]:
    """Return Google's code and message out of an error body, JSON or XML."""
    start = body.find("{")
    if start >= 0:
        with suppress(ValueError, KeyError, TypeError, AttributeError, IndexError):
            error = json.loads(body[start:])["error"]
            details = error.get("errors") or [{}]
            return str(details[0].get("reason", "")), str(error.get("message", ""))[:_SHOWN]
    found = dict(_XML_FIELD.findall(body))
    if "Code" in found:
        message = " ".join(found[name] for name in ("Message", "Details") if name in found)
        return found["Code"], message[:_SHOWN]
    return "", body.strip()[:_SHOWN]


def _retry_after(text: str | None) -> float | None:
    if text is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(text))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None
