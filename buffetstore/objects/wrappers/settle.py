"""Settling a write whose answer was lost: was it ours that landed?"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from buffetstore.errors import ConflictError, NotFoundError, StorageError, UnavailableError
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.monitoring.events import Hook
    from buffetstore.objects.base import Attributes, Data, ObjectMeta, ObjectStore, PutMode
    from buffetstore.resilience.retry import RetryPolicy

TOKEN = "buffetstore-token"  # noqa: S105 - the name of a metadata entry, no secret
_INLINE_BYTES = 64 * 1024


def new_token() -> str:
    """Return what no other write has."""
    return secrets.token_hex(16)


def with_token(attributes: Attributes, token: str | None) -> Attributes:
    """Return the attributes with the token among the metadata."""
    if token is None:
        return attributes
    return replace(attributes, metadata={**attributes.metadata, TOKEN: token})


def without_token(meta: ObjectMeta) -> ObjectMeta:
    """Return what the caller stored, without our token."""
    attributes = meta.attributes
    if attributes is None or TOKEN not in attributes.metadata:
        return meta
    metadata = {name: value for name, value in attributes.metadata.items() if name != TOKEN}
    return replace(meta, attributes=replace(attributes, metadata=metadata))


class Digest:
    """Size and SHA-256 of a content."""

    def __init__(self) -> None:
        self._size = 0
        self._hash = hashlib.sha256()

    @classmethod
    async def of(cls, data: Data) -> Digest:
        """Return the digest of `data`."""
        digest = cls()
        await digest.add(data)
        return digest

    async def add(self, data: Data) -> None:
        """Take in more of the content, off the event loop where it is much."""
        self._size += len(data)
        if len(data) <= _INLINE_BYTES:
            self._hash.update(data)
        else:
            await in_thread(self._hash.update, data)

    @property
    def value(self) -> tuple[int, bytes]:
        """What is compared."""
        return self._size, self._hash.digest()


class Settlement:
    """One write under a condition, repeated with the same bytes until it is known who holds the key.

    Reading back alone is no fence: a delayed request can land after the read. A repeated one cannot be overtaken
    unseen, as the condition lets only one of them pass.

    Parameters
    ----------
    store, key, mode:
        What is written where, under which condition.
    token:
        What marks our object in its metadata; None compares the contents, which then must be like no other's.
    digest:
        Gives the digest of our content; asked for only without a token.
    write:
        One attempt.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        mode: PutMode,
        token: str | None,
        digest: Callable[[], Awaitable[Digest]],
        write: Callable[[], Awaitable[ObjectMeta]],
    ) -> None:
        self._store = store
        self._key = key
        self._mode = mode
        self._token = token
        self._digest = digest
        self._write = write
        self._unclear = False
        self._conflict: ConflictError | None = None

    async def settled(self, policy: RetryPolicy, hook: Hook) -> ObjectMeta:
        """Return the metadata of our object, or raise why it is not there; `ambiguous` where that cannot be known."""
        try:
            return await policy.call(self._attempt, hook=hook, subject=self._key)
        except ConflictError:
            raise
        except StorageError as error:
            if not self._unclear:
                raise
            error.ambiguous = True
            # A service that was given up on is asked once more; one that refuses (the upload is over) has answered.
            attempts = 1 if error.transient else policy.attempts
            found = await self._ours_if_readable(replace(policy, attempts=attempts), hook)
            if found is None:
                raise
            return found

    async def _attempt(self) -> ObjectMeta:
        if self._conflict is None:
            try:
                return await self._write()
            except ConflictError as error:
                if not self._unclear:
                    raise
                self._conflict = error  # from here on nothing of ours can land: what is left is to look
            except StorageError as error:
                self._unclear = self._unclear or error.ambiguous
                raise
        found = await self._ours()
        if found is None:
            # An Update of ours may have landed and been replaced before we looked; a created object stays.
            self._conflict.ambiguous = self._mode.kind == "update"
            raise self._conflict
        return found

    async def _ours_if_readable(self, policy: RetryPolicy, hook: Hook) -> ObjectMeta | None:
        try:
            return await policy.call(self._ours, hook=hook, subject=self._key)
        except StorageError:  # the write's own error is the one to raise
            return None

    async def _ours(self) -> ObjectMeta | None:
        """Return the object's metadata if the key holds what we wrote."""
        try:
            async with await self._store.get(self._key, head=self._token is not None) as result:
                if self._token is not None:
                    kept = result.meta.attributes
                    return result.meta if kept is not None and kept.metadata.get(TOKEN) == self._token else None
                ours = await self._digest()
                if result.meta.size != ours.value[0]:
                    return None
                theirs = Digest()
                async for chunk in result:
                    await theirs.add(chunk)
                if theirs.value[0] < result.meta.size:  # a cut body proves nothing
                    raise UnavailableError(f"the body of {self._key!r} ended early", key=self._key)
                return result.meta if theirs.value == ours.value else None
        except NotFoundError:
            return None
