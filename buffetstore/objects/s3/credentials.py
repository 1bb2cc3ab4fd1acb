"""What botocore knows: keys from its chain, the region and the endpoint of its configuration. Nothing is sent by it
but what its providers of keys ask (STS, instance roles, single sign-on), in a thread.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import botocore.session
from botocore import exceptions as boto
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import RefreshableCredentials

from buffetstore.errors import AuthenticationError, ConfigurationError, UnavailableError
from buffetstore.objects.s3.signing import Keys
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.credentials import Credentials

_ASKED_EVERY_SECONDS = 1.0
_MEND = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
_NO_KEYS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.RefreshWithMFAUnsupportedError,
    boto.ClientError,  # STS refuses
)
_NO_ANSWER = (boto.HTTPClientError, boto.ConnectionError, boto.ResponseStreamingError)


class Configured(NamedTuple):
    """Where botocore's configuration (environment and profile) says that the service is."""

    region: str | None
    endpoint_url: str | None


async def configured(url: str) -> Configured:
    """Return what the configuration says; `url` is the store's, for errors."""
    return await in_disk_thread(_configured, url)


class ChainedKeys:
    """What botocore's chain finds, asked again when keys are about to expire.

    Parameters
    ----------
    url:
        The store's, for errors.
    clock:
        Monotonic seconds.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._found: Credentials | None = None
        self._keys: Keys | None = None
        self._due = 0.0
        self._asking: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def get(self) -> Keys:
        """Return keys that are good for a while.

        Raises
        ------
        AuthenticationError
            There are none, or they are refused.
        UnavailableError
            The service that gives them did not answer.
        ConfigurationError
            The profile is not there, or malformed.
        """
        if self._keys is not None and self._clock() < self._due:
            return self._keys
        async with self._lock():
            if self._keys is None or self._clock() >= self._due:
                return await self._ask()
            return self._keys

    async def renew(self, refused: Keys) -> bool:
        """Ask the chain again, from its beginning, unless that was done meanwhile; return whether keys are others."""
        async with self._lock():
            if self._keys == refused:
                self._found = None
                await self._ask()
        return self._keys != refused

    async def _ask(self) -> Keys:
        keys, is_lasting = await in_disk_thread(self._looked_up)
        self._keys, self._due = keys, self._clock() + (_ASKED_EVERY_SECONDS if is_lasting else 0.0)
        return keys

    def _looked_up(self) -> tuple[Keys, bool]:
        with _mapped(self._url):
            if self._found is None:
                self._found = botocore.session.get_session().get_credentials()
                if self._found is None:
                    raise boto.NoCredentialsError
            frozen = self._found.get_frozen_credentials()
            expires = isinstance(self._found, RefreshableCredentials) and self._found.refresh_needed()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token), not expires

    def _lock(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking[0] is not loop:  # a lock belongs to the loop that waited for it
            self._asking = (loop, asyncio.Lock())
        return self._asking[1]


class StaticKeys:
    """Keys that the caller gave; refusing them is final."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def get(self) -> Keys:
        """Return the keys."""
        return self._keys

    async def renew(self, refused: Keys) -> bool:
        """Return whether there are others than those `refused`."""
        return self._keys != refused


def _configured(url: str) -> Configured:
    with _mapped(url):
        session = botocore.session.get_session()
        endpoint = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "s3").provide()
        return Configured(session.get_config_variable("region"), endpoint)


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    try:
        yield
    except _NO_KEYS as error:
        raise AuthenticationError(f"{url}: {error}: {_MEND}") from error
    except _NO_ANSWER as error:
        raise UnavailableError(f"{url}: the service that gives keys did not answer: {error}") from error
    except (boto.BotoCoreError, OSError) as error:
        raise ConfigurationError(f"{url}: {error}") from error
