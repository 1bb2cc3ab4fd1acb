"""A store with a second one to read from while the first is unavailable."""

# ruff: noqa: ARG002, D102 - what is refused takes its arguments all the same

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from buffetstore.errors import UnsupportedOperationError
from buffetstore.monitoring.events import Hook, no_hook
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    Capabilities,
    Data,
    ObjectMeta,
    ObjectStore,
    PutMode,
    Upload,
)
from buffetstore.objects.wrappers.failover import FailoverStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal


class FallbackStore(FailoverStore):
    """For reading alone: what `primary` cannot answer now (`UnavailableError`), `fallback` does.

    Whoever reads learns who answered: the hook is told `objects.fallback`, a result's `answered_by` is the URL of the
    store it is from, and versions of the fallback are marked (`other-1:...`). An answer of the fallback is as old as
    the copy is, also when it says that something is not there. Writes are refused, as a decision that was made on
    what a copy says must not change the original: write to the primary itself.

    Parameters
    ----------
    primary, fallback:
        For example a bucket, and its copy in another region or a folder (`copy_store` makes one). Both are closed with
        this store.
    hook:
        Told of each answer that is the fallback's, with the primary's error.
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "get", "get_ranges", "list_objects", "list_prefixes", "list_versions", "get_version", "aclose"}
    )

    def __init__(self, primary: ObjectStore, fallback: ObjectStore, *, hook: Hook = no_hook) -> None:
        super().__init__(primary, fallback, hook=hook)

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, conditional_create=False, conditional_update=False)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        raise self._read_only("put", key)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        raise self._read_only("start_upload", key)

    async def delete(self, keys: Sequence[str]) -> None:
        raise self._read_only("delete", keys[0] if keys else "")

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        raise self._read_only("copy", target)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        raise self._read_only("restore_version", key)

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,
    ) -> str:
        if method != "GET":
            raise self._read_only("signed_url for PUT", key)
        return await self.inner.signed_url(
            key, method=method, expires_seconds=expires_seconds, content_type=content_type
        )

    def _read_only(self, operation: str, key: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{operation} of {key!r}: a store with a fallback is for reading; write to {self.url} itself", key=key
        )
