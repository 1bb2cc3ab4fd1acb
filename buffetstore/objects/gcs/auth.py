"""Tokens for Google Cloud Storage, from gcloud-aio-auth without its own retries and background tasks."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from gcloud.aio.auth import Token
from gcloud.aio.auth.token import Type

from buffetstore.errors import AuthenticationError, StorageError, UnavailableError
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import Callable

STORAGE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
PLATFORM_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_REFRESH_SHARE = 0.9  # of a token's life; the rest covers requests that are under way
_TIMEOUT_SECONDS = 10


class Credentials:
    """Bearer tokens, refreshed when due, by one request for all who wait.

    Parameters
    ----------
    session:
        Sends the requests for tokens.
    service_file:
        A key file of a service account, a workload-identity configuration, or an authorised user's file; without one,
        GOOGLE_APPLICATION_CREDENTIALS, gcloud's application-default login and the metadata server, in this order.
    service_account_email:
        The service account to impersonate with these credentials.
    scope:
        What the token is for.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        service_file: str | None = None,
        service_account_email: str | None = None,
        scope: str = STORAGE_SCOPE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._service_file = service_file
        self._principal = service_account_email
        self._scope = PLATFORM_SCOPE if service_account_email else scope
        self._clock = clock
        self._source: Token | None = None
        self._token = ""
        self._header = ""
        self._due = 0.0
        self._lock = asyncio.Lock()

    @property
    def header(self) -> str:
        """The `Authorization` header while the token is good; empty where there is none."""
        return self._header if self._clock() < self._due else ""

    async def fresh_header(self) -> str:
        """Return the `Authorization` header; see `get`."""
        await self.get()
        return self._header

    async def get(self) -> str:
        """Return a token that is good for a while.

        Raises
        ------
        AuthenticationError
            There are no credentials, or they are refused.
        UnavailableError
            The token service did not answer.
        """
        if not self.header:
            async with self._lock:
                if not self.header:
                    await self._refresh()
        return self._token

    def forget(self) -> None:
        """Ask for a new token next time: the service refused this one."""
        self._header = ""

    async def _refresh(self) -> None:
        try:
            if self._source is None:
                self._source = await in_disk_thread(self._open)
            answer = await self._source.refresh(timeout=_TIMEOUT_SECONDS)
        except StorageError:
            raise
        except Exception as error:
            raise refused(error) from error
        self._token, self._header = answer.value, f"Bearer {answer.value}"
        self._due = self._clock() + answer.expires_in * _REFRESH_SHARE

    def _open(self) -> Token:
        if self._service_file is not None:
            _check_file(self._service_file)
        return Token(
            service_file=self._service_file,
            session=self._session,  # type: ignore[arg-type]  # typed for requests too
            scopes=[self._scope],
            target_principal=self._principal,
        )


def _check_file(path: str) -> None:
    """Raise unless the file can hold credentials: gcloud-aio-auth takes a broken one for none and asks elsewhere."""
    try:
        kind = json.loads(Path(path).read_text(encoding="utf-8")).get("type")
    except (OSError, ValueError, AttributeError) as error:
        raise AuthenticationError(f"the credentials file {path!r} cannot be read: {type(error).__name__}") from error
    if kind not in {each.value for each in Type}:
        raise AuthenticationError(f"the credentials file {path!r} has the unknown type {kind!r}")


class StaticToken:
    """A token that the caller has made; refusing it is final."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.header = f"Bearer {token}"

    async def fresh_header(self) -> str:
        """Return the `Authorization` header."""
        return self.header

    async def get(self) -> str:
        """Return the token."""
        return self._token

    def forget(self) -> None:
        """Keep the token: there is no other."""


def refused(error: Exception) -> StorageError:
    """Return our error for whatever gcloud-aio-auth raised; its text may hold no secret, so only its kind is told."""
    mend = "log in with `gcloud auth application-default login`, or give a service account's key file"
    if isinstance(error, aiohttp.ClientResponseError):
        if error.status >= 500 or error.status == 429:
            return UnavailableError(f"the token service answered {error.status}")
        return AuthenticationError(f"the token service refused the credentials ({error.status}): {mend}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        # Without any credentials the last resort is the metadata server, which exists only on Google's machines.
        return AuthenticationError(f"no credentials were found, and {error.host} is not reachable: {mend}")
    if isinstance(error, aiohttp.ClientError | TimeoutError | OSError) and not isinstance(error, FileNotFoundError):
        return UnavailableError(f"the token service did not answer: {type(error).__name__}")
    return AuthenticationError(f"the credentials cannot be used ({type(error).__name__}): {mend}")
