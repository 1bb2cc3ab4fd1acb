"""Who asks: requests signed by the account's key, by a shared access signature, by a token, or by nobody."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from azure.core.exceptions import AzureError, ClientAuthenticationError

from buffetstore.caching.single_flight import SingleFlight
from buffetstore.errors import AuthenticationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buffetstore.objects.azure.options import AzureOptions, Place

TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105 - what a token is asked for
_EARLY_SECONDS = 300.0  # a token is replaced so long before its end
_SIGNED = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)


@dataclass(slots=True)
class Request:
    """What is about to be sent; `path` is as it goes into the URL, `headers` have lower case names."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: dict[str, str] = field(default_factory=dict)


class Authorization(Protocol):
    """Adds what proves who asks."""

    @property
    def query(self) -> str:
        """What is added to every URL."""

    async def sign(self, request: Request) -> None:
        """Add to the headers of one request."""

    def refused(self) -> None:
        """Forget what the service did not accept."""


class Anonymous:
    """Nobody, or whoever holds a shared access signature."""

    def __init__(self, sas_token: str = "") -> None:
        self.query = sas_token.lstrip("?")

    async def sign(self, request: Request) -> None:
        """Add nothing."""

    def refused(self) -> None:
        """Have nothing to forget."""


class SharedKey:
    """Signs each request with the account's key.

    https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    """

    query = ""

    def __init__(self, account: str, key: str, *, clock: Callable[[], float] = time.time) -> None:
        self.account = account
        self.key = key
        self._secret = base64.b64decode(key)
        self._clock = clock

    async def sign(self, request: Request) -> None:
        """Add the date and the signature."""
        request.headers["x-ms-date"] = formatdate(self._clock(), usegmt=True)
        digest = hmac.digest(self._secret, self.string_to_sign(request).encode(), hashlib.sha256)
        request.headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"

    def refused(self) -> None:
        """Keep the key: there is no other."""

    def string_to_sign(self, request: Request) -> str:
        """Return what the service signs too, to compare."""
        headers = request.headers
        length = headers.get("content-length")
        plain = [headers.get(name, "") if name != "content-length" or length != "0" else "" for name in _SIGNED]
        ours = sorted((name for name in headers if name.startswith("x-ms-")), key=_collated)
        resource = f"/{self.account}{request.path}"
        return "\n".join(
            [
                request.method,
                *plain,
                *(f"{name}:{headers[name]}" for name in ours),
                resource,
                *(f"{name.lower()}:{value}" for name, value in sorted(request.query.items())),
            ]
        )


def _collated(name: str) -> str:
    # The service sorts as words are, where hyphens count for nothing and an underscore precedes digits.
    return name.replace("-", "").replace("_", " ")


class TokenCredential:
    """Bearer tokens of a credential of azure-identity, or of anything that has its `get_token`."""

    query = ""

    def __init__(self, credential: Any, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._url = url
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._asking: SingleFlight[str] = SingleFlight()

    async def sign(self, request: Request) -> None:
        """Add a token that will last for minutes yet."""
        token = self._token if self._clock() < self._until else await self._asking.run(self._url, self._ask)
        request.headers["Authorization"] = f"Bearer {token}"

    def refused(self) -> None:
        """Ask for a new token next time."""
        self._until = 0.0

    async def _ask(self) -> str:
        name = type(self._credential).__name__
        try:
            answer = await self._credential.get_token(TOKEN_SCOPE)
        except ClientAuthenticationError as error:
            raise AuthenticationError(f"{self._url}: {name} gives no token: {error.message}") from error
        except (AzureError, OSError) as error:
            raise UnavailableError(f"{self._url}: {name} gives no token now: {error}") from error
        self._token, self._until = answer.token, float(answer.expires_on) - _EARLY_SECONDS
        return self._token


def authorization(place: Place, options: AzureOptions) -> Authorization:
    """Return what the options say about who asks."""
    if options.account_key is not None:
        return SharedKey(place.account, options.account_key.get_secret_value())
    if options.credential is not None:
        return TokenCredential(options.credential, place.url)
    return Anonymous(options.sas_token.get_secret_value() if options.sas_token is not None else "")
