"""URLs by which anybody may read or write one blob for a while (shared access signatures)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import fromstring

from azure.storage.blob import UserDelegationKey, generate_blob_sas
from yarl import URL

from buffetstore.errors import InvalidInputError, UnsupportedOperationError
from buffetstore.objects.azure.auth import SharedKey, TokenCredential
from buffetstore.objects.azure.errors import Call, mapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.objects.azure.client import AzureClient

LONGEST_SECONDS = 7 * 24 * 3600  # of a key that the service gives to the holder of a token
_KEY_FIELDS = {
    "SignedOid": "signed_oid",
    "SignedTid": "signed_tid",
    "SignedStart": "signed_start",
    "SignedExpiry": "signed_expiry",
    "SignedService": "signed_service",
    "SignedVersion": "signed_version",
    "Value": "value",
}


class UrlSigner:
    """Signs with the account's key, or with a key that the service gives to the holder of a token."""

    def __init__(self, client: AzureClient, *, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._key: UserDelegationKey | None = None
        self._key_until = 0.0

    @property
    def is_able(self) -> bool:
        """Whether there is something to sign with."""
        return isinstance(self._client.auth, SharedKey | TokenCredential)

    async def url(self, key: str, method: str, seconds: int) -> str:
        """Return the signed URL of one blob."""
        if not 0 < seconds <= LONGEST_SECONDS:
            raise InvalidInputError(f"expires_seconds is {seconds}: it is 1 to {LONGEST_SECONDS}, seven days", key=key)
        if method not in {"GET", "PUT"}:
            raise InvalidInputError(f"method is {method!r}: it is 'GET' or 'PUT'", key=key)
        place, now = self._client.place, self._clock()
        query = generate_blob_sas(
            place.account,
            place.container,
            key,
            permission="r" if method == "GET" else "cw",
            expiry=_moment(now + seconds),
            protocol="https" if place.endpoint.startswith("https:") else "https,http",
            **await self._signed_by(now, seconds),
        )
        return str(URL(f"{self._client.url(self._client.path(key))}?{query}", encoded=True))

    async def _signed_by(self, now: float, seconds: int) -> dict[str, Any]:
        auth = self._client.auth
        if isinstance(auth, SharedKey):
            return {"account_key": auth.key}
        if not isinstance(auth, TokenCredential):
            raise UnsupportedOperationError(
                f"{self._client.place.url} has nothing to sign URLs with: give account_key or credential"
            )
        if self._key is None or self._key_until < now + seconds:
            self._key, self._key_until = await self._delegated(now), now + LONGEST_SECONDS
        return {"user_delegation_key": self._key}

    async def _delegated(self, now: float) -> UserDelegationKey:
        call = Call("get_user_delegation_key", self._client.place.url)
        # From a little earlier, as clocks differ.
        start, expiry = (f"{_moment(at):%Y-%m-%dT%H:%M:%SZ}" for at in (now - 300, now + LONGEST_SECONDS - 300))
        body = f"<KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>".encode()
        query = {"restype": "service", "comp": "userdelegationkey"}
        path = self._client.path(container=False)
        _, answer = await self._client.request(call, "POST", path, query=query, data=body)
        with mapped(call):
            root = fromstring(answer)  # noqa: S314 - of the service that gives the key
            key = UserDelegationKey()  # type: ignore[no-untyped-call]
            for element, name in _KEY_FIELDS.items():
                setattr(key, name, root.findtext(element))
            if not key.value:
                raise ValueError("no key in the answer")
            return key


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)
