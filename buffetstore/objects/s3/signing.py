"""Signature version 4 of requests to S3, pure: keys, region and the time come in, headers or a query go out.

Bodies are not part of the signature (``UNSIGNED-PAYLOAD``): their CRC-32 is in a header, and headers are signed.
Reference: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SAFE = "-_.~"
# Of the headers that are not Amazon's: a gateway that drops a condition is refused rather than overwriting.
_ALSO_SIGNED = frozenset({"content-type", "content-md5", "if-match", "if-none-match"})


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def query_text(query: Iterable[tuple[str, str]]) -> str:
    """Return the canonical query string, which is also the one to send."""
    return "&".join(f"{name}={value}" for name, value in sorted((quote(n, SAFE), quote(v, SAFE)) for n, v in query))


class Signer:
    """Signs for one region.

    Parameters
    ----------
    clock:
        Seconds since 1970.
    """

    def __init__(self, region: str, *, clock: Callable[[], float] = time.time) -> None:
        self.region = region
        self._clock = clock
        self._second = -1
        self._stamp = ""
        self._derived: tuple[str, str, bytes] = ("", "", b"")  # secret, day, key

    def sign(self, keys: Keys, method: str, host: str, path: str, query: str, headers: dict[str, str]) -> None:
        """Add to `headers` (whose names are lower case) what makes the service believe the request.

        `path` and `query` are encoded as they are sent.
        """
        stamp = self._now()
        headers["x-amz-content-sha256"] = UNSIGNED
        headers["x-amz-date"] = stamp
        if keys.token is not None:
            headers["x-amz-security-token"] = keys.token
        signed = {name: value for name, value in headers.items() if name[:6] == "x-amz-" or name in _ALSO_SIGNED}
        signed["host"] = host
        names, text = _canonical(signed)
        signature = self._signature(keys, stamp, f"{method}\n{path}\n{query}\n{text}\n{names}\n{UNSIGNED}")
        headers["authorization"] = (
            f"{ALGORITHM} Credential={keys.access_key}/{self._scope(stamp)}, "
            f"SignedHeaders={names}, Signature={signature}"
        )

    def presigned_query(
        self, keys: Keys, method: str, host: str, path: str, headers: Mapping[str, str], seconds: int
    ) -> str:
        """Return the query of a URL by which anybody may send this request, with these headers, for so long."""
        stamp = self._now()
        names, text = _canonical({**headers, "host": host})
        query = [
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", f"{keys.access_key}/{self._scope(stamp)}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(seconds)),
            ("X-Amz-SignedHeaders", names),
        ]
        if keys.token is not None:
            query.append(("X-Amz-Security-Token", keys.token))
        sent = query_text(query)
        signature = self._signature(keys, stamp, f"{method}\n{path}\n{sent}\n{text}\n{names}\n{UNSIGNED}")
        return f"{sent}&X-Amz-Signature={signature}"

    def _now(self) -> str:
        second = int(self._clock())
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        return self._stamp

    def _scope(self, stamp: str) -> str:
        return f"{stamp[:8]}/{self.region}/s3/aws4_request"

    def _signature(self, keys: Keys, stamp: str, request: str) -> str:
        text = f"{ALGORITHM}\n{stamp}\n{self._scope(stamp)}\n{sha256(request.encode()).hexdigest()}"
        return hmac.digest(self._key(keys.secret_key, stamp[:8]), text.encode(), "sha256").hex()

    def _key(self, secret: str, day: str) -> bytes:
        if self._derived[0] != secret or self._derived[1] != day:
            key = f"AWS4{secret}".encode()
            for part in (day, self.region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived = (secret, day, key)
        return self._derived[2]


def _canonical(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the names of the signed headers, and their lines."""
    items = sorted(headers.items())
    lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in items])
    return ";".join([name for name, _ in items]), lines
