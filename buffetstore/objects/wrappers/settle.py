"""Settling a write whose answer was lost: was it ours that landed?"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from buffetstore.errors import ConflictError, DeadlineExceededError, NotFoundError, StorageError, UnavailableError
from buffetstore.resilience.concurrency import unhurried
from buffetstore.resilience.retry import Retries
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.objects.base import Attributes, Data, ObjectMeta, ObjectStore, PutMode

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

    async def settled(self, retries: Retries) -> ObjectMeta:
        """Return the metadata of our object, or raise why it is not there; `ambiguous` where that cannot be known.

        Under a condition it is carried on when the caller is cancelled, for at most `settle_seconds`: what was sent may
        land after a caller has gone on that does not know of it, and would then be taken for somebody else's.
        """
        if self._mode.kind == "overwrite" or not retries.policy.settle_seconds:
            return await self._settled(retries)
        settling = asyncio.ensure_future(self._settled(retries))
        try:
            return await asyncio.shield(settling)
        except asyncio.CancelledError:
            with suppress(StorageError, TimeoutError, asyncio.CancelledError):
                await unhurried(asyncio.wait_for(settling, retries.policy.settle_seconds))
            raise

    async def _settled(self, retries: Retries) -> ObjectMeta:
        try:
            return await retries.call(self._attempt, self._key, writes=True)
        except ConflictError:
            raise
        except StorageError as error:
            if not self._unclear:
                raise
            error.ambiguous = True
            found = await self._found_after(error, retries)
            if found is None:
                raise
            return found

    async def _found_after(self, error: StorageError, retries: Retries) -> ObjectMeta | None:
        """Return our object if it can be had by one more try after `error`."""
        policy = retries.policy
        if isinstance(error, DeadlineExceededError) and policy.call_seconds is not None:
            # Cut, so that nobody has tried again yet. Reading back alone would be no fence: the cut one may still land.
            if not policy.settle_seconds:
                return None
            seconds = policy.settle_seconds
            bounded = replace(policy, call_seconds=seconds, deadline_seconds=seconds)
            return await self._unless_unreadable(self._attempt, Retries(bounded, retries.hook, retries.budget))
        # A service that was given up on is asked once more; one that refuses (the upload is over) has answered.
        once = replace(policy, attempts=1 if error.transient else policy.attempts)
        return await self._unless_unreadable(self._ours, Retries(once, retries.hook, retries.budget))

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
            except asyncio.CancelledError:
                self._unclear = True
                raise
        found = await self._ours()
        if found is None:
            # An Update of ours may have landed and been replaced before we looked; a created object stays.
            self._conflict.ambiguous = self._mode.kind == "update"
            raise self._conflict
        return found

    async def _unless_unreadable(
        self, look: Callable[[], Awaitable[ObjectMeta | None]], retries: Retries
    ) -> ObjectMeta | None:
        try:
            return await retries.call(look, self._key)
        except ConflictError:
            raise
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
