"""Keys that wrap data keys: each object has a data key of its own, which is stored beside it, wrapped."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretBytes

from buffetstore.errors import ConfigurationError, TamperedError, WrongKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key that only the holder of the key `key_id`, in this `version`, can unwrap."""

    key_id: str
    version: str
    blob: bytes


class KeyProvider(Protocol):
    """Whoever holds the keys: a key management service, or a keyring."""

    @property
    def current_key_id(self) -> str:
        """The key by which `wrap` wraps."""

    async def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Wrap a data key by the current key.

        Parameters
        ----------
        context:
            Authenticated, not hidden: what `unwrap` must be given again.
        """

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the data key.

        Raises
        ------
        WrongKeyError
            The key is not held, or another one has its name.
        TamperedError
            The key is held, but the blob does not authenticate, or was wrapped with another context.
        """


class StaticKeys:
    """A keyring in this process: names and AES-256 keys. To rotate, add a key and make it the current one.

    Parameters
    ----------
    keys:
        32 bytes for each name: `os.urandom(32)`, kept where secrets are kept. Names are printable ASCII.
    current:
        The key for new objects; may be left out where there is only one.

    Raises
    ------
    ConfigurationError
        A key does not have 32 bytes, a name is malformed, or `current` is none of them.

    Examples
    --------
    >>> import asyncio
    >>> keys = StaticKeys({"2024": bytes(32)})
    >>> wrapped = asyncio.run(keys.wrap(b"d" * 32, b"of this object"))
    >>> asyncio.run(keys.unwrap(wrapped, b"of this object")) == b"d" * 32
    True
    >>> keys
    StaticKeys(['2024'], current='2024')
    """

    def __init__(self, keys: Mapping[str, bytes | SecretBytes], current: str | None = None) -> None:
        self._keys: dict[str, tuple[str, AESGCM]] = {}
        for name, given in keys.items():
            key = given.get_secret_value() if isinstance(given, SecretBytes) else bytes(given)
            if len(key) != KEY_BYTES:
                raise ConfigurationError(f"the key {name!r} has {len(key)} bytes: an AES-256 key has {KEY_BYTES}")
            if not (0 < len(name) <= 200 and name.isascii() and name.isprintable() and " " not in name):
                raise ConfigurationError(f"{name!r} is no name of a key: up to 200 printable ASCII letters, no spaces")
            self._keys[name] = (_fingerprint(key), AESGCM(key))
        if current is None and len(self._keys) == 1:
            current = next(iter(self._keys))
        if current not in self._keys:
            held = ", ".join(sorted(self._keys)) or "none"
            raise ConfigurationError(f"the current key {current!r} is none of those given: {held}")
        self._current = current

    @property
    def current_key_id(self) -> str:
        """The key by which `wrap` wraps."""
        return self._current

    async def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Wrap a data key by the current key."""
        version, cipher = self._keys[self._current]
        nonce = os.urandom(_NONCE_BYTES)
        return WrappedKey(self._current, version, nonce + cipher.encrypt(nonce, data_key, context))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the data key; `WrongKeyError` or `TamperedError` as `KeyProvider` says."""
        held = self._keys.get(wrapped.key_id)
        if held is None:
            names = ", ".join(sorted(self._keys))
            raise WrongKeyError(f"it is encrypted with the key {wrapped.key_id!r}, held are {names}: add that key")
        version, cipher = held
        if version != wrapped.version:
            raise WrongKeyError(
                f"it is encrypted with a key {wrapped.key_id!r} whose fingerprint is {wrapped.version}, the one held "
                f"has {version}: the name is the same, the key is another"
            )
        try:
            return cipher.decrypt(wrapped.blob[:_NONCE_BYTES], wrapped.blob[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise TamperedError(
                "its data key does not authenticate: it was changed, or moved from another key"
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._keys)}, current={self._current!r})"


def _fingerprint(key: bytes) -> str:
    """Tell keys of one name apart; says nothing about the key."""
    return hashlib.sha256(b"buffetstore key fingerprint\0" + key).hexdigest()[:16]
