"""Checks the signature in a signed URL (https://cloud.google.com/storage/docs/authentication/canonical-requests)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from buffetstore.testing.gcs.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buffetstore.testing.gcs.wire import Call

_ALGORITHM = "GOOG4-RSA-SHA256"
_LONGEST_SECONDS = 7 * 24 * 3600


class Signers:
    """The service accounts whose signatures are good.

    Parameters
    ----------
    clock:
        Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: dict[str, rsa.RSAPublicKey] = {}

    def trust(self, account: Mapping[str, str]) -> None:
        """Take the key of a service account, given as in its JSON file."""
        key = serialization.load_pem_private_key(account["private_key"].encode(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._keys[account["client_email"]] = key.public_key()

    def check(self, call: Call) -> None:
        """Raise 400 for a signed URL that is malformed, 403 for one that is expired or not by anyone known."""
        query = call.query
        if query.get("X-Goog-Algorithm") != _ALGORITHM:
            raise ApiError(400, f"X-Goog-Algorithm must be {_ALGORITHM}.", xml_code="InvalidQueryParameterValue")
        email, _, scope = query.get("X-Goog-Credential", "").partition("/")
        self._check_time(query)
        text = "\n".join((_ALGORITHM, query["X-Goog-Date"], scope, hashlib.sha256(_canonical(call)).hexdigest()))
        try:
            signature = bytes.fromhex(query.get("X-Goog-Signature", ""))
            self._keys[email].verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, KeyError, ValueError):
            message = "Access denied. The signature in the request does not match."
            raise ApiError(403, message, xml_code="SignatureDoesNotMatch") from None

    def _check_time(self, query: Mapping[str, str]) -> None:
        try:
            begins = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            seconds = int(query["X-Goog-Expires"])
        except (KeyError, ValueError):
            raise ApiError(400, "X-Goog-Date or X-Goog-Expires is malformed.", xml_code="InvalidArgument") from None
        if not 1 <= seconds <= _LONGEST_SECONDS:
            raise ApiError(400, f"X-Goog-Expires must be in 1..{_LONGEST_SECONDS}.", xml_code="InvalidArgument")
        if datetime.fromtimestamp(self._clock(), UTC) > begins + timedelta(seconds=seconds):
            raise ApiError(403, "Request signature expired.", xml_code="ExpiredToken")


def _canonical(call: Call) -> bytes:
    """Return the request in the one form that is signed."""
    query = sorted(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in call.query.items()
        if name != "X-Goog-Signature"
    )
    signed = call.query.get("X-Goog-SignedHeaders", "")
    headers = [f"{name}:{' '.join(call.headers.get(name, '').split())}" for name in signed.split(";")]
    path = quote(unquote(call.path), safe="/~")
    payload = call.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join((call.method, path, "&".join(query), *headers, "", signed, payload)).encode()
