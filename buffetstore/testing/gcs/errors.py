"""The failures that the server answers with, and their two forms: JSON and XML."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

_REASONS = {
    304: ("notModified", "NotModified"),
    400: ("invalid", "InvalidArgument"),
    401: ("authError", "AuthenticationRequired"),
    403: ("forbidden", "AccessDenied"),
    404: ("notFound", "NoSuchKey"),
    405: ("methodNotAllowed", "MethodNotAllowed"),
    408: ("requestTimeout", "RequestTimeout"),
    409: ("conflict", "BucketNameUnavailable"),
    410: ("gone", "Gone"),
    411: ("required", "MissingContentLength"),
    412: ("conditionNotMet", "PreconditionFailed"),
    416: ("requestedRangeNotSatisfiable", "InvalidRange"),
    429: ("rateLimitExceeded", "SlowDown"),
    500: ("backendError", "InternalError"),
    503: ("backendError", "ServiceUnavailable"),
}


class ApiError(Exception):
    """A request that is answered with an error status.

    Parameters
    ----------
    status:
        The HTTP status.
    message:
        What the caller is told.
    xml_code:
        The `Code` of the XML form where the status alone does not settle it (`NoSuchBucket`).
    headers:
        Headers of the answer besides the usual ones.
    """

    def __init__(
        self, status: int, message: str, *, xml_code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
        self._xml_code = xml_code

    def json_body(self) -> bytes:
        """Return the error as the JSON API words it."""
        if self.status < 400:
            return b""
        reason = _REASONS.get(self.status, ("backendError", ""))[0]
        detail = {"message": self.message, "domain": "global", "reason": reason}
        return json.dumps({"error": {"code": self.status, "message": self.message, "errors": [detail]}}).encode()

    def xml_body(self) -> bytes:
        """Return the error as the XML API words it."""
        if self.status < 400:
            return b""
        code = self._xml_code or _REASONS.get(self.status, ("", "InternalError"))[1]
        return (
            f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code>"
            f"<Message>{escape(self.message)}</Message></Error>"
        ).encode()


def no_bucket() -> ApiError:
    """Return the 404 of a bucket."""
    return ApiError(404, "The specified bucket does not exist.", xml_code="NoSuchBucket")


def no_object(bucket: str, name: str) -> ApiError:
    """Return the 404 of an object."""
    return ApiError(404, f"No such object: {bucket}/{name}")


def condition_failed() -> ApiError:
    """Return the 412 of any precondition."""
    return ApiError(412, "At least one of the pre-conditions you specified did not hold.")
