"""The object store contract on Azure Blob Storage."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from buffetstore.errors import (
    BucketNotFoundError,
    ConfigurationError,
    InvalidInputError,
    InvalidKeyError,
    NotFoundError,
)
from buffetstore.objects.azure.client import AzureClient
from buffetstore.objects.azure.copies import copied
from buffetstore.objects.azure.downloads import Reader, nothing
from buffetstore.objects.azure.errors import Call
from buffetstore.objects.azure.listing import Lister
from buffetstore.objects.azure.options import AzureOptions, located
from buffetstore.objects.azure.signing import UrlSigner
from buffetstore.objects.azure.uploads import BlockUpload, Writer, owned
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Capabilities,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    ObjectVersion,
    PutMode,
    Upload,
)
from buffetstore.objects.keys import checked_key
from buffetstore.objects.ranges import read_ranges
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from buffetstore.objects.pool import PoolStats

_DELETES_AT_ONCE = 32


class AzureStore(ObjectStore):
    """The blobs of one container, in Blob Storage or ADLS Gen2. A version is an ETag, unique to each write.

    What is particular to the service:

    * Metadata names are identifiers of C#, so that a hyphen travels as an underscore and comes back as a hyphen.
    * Of several open large uploads of one key, the first to complete wins: the service then drops the other's blocks,
      whose completion raises a conflict, under `OVERWRITE` too.
    * A backslash in a key is a slash to the service: such keys are refused. Segments that end with a dot are advised
      against by its documentation.
    * A range counted from the end of an object takes two requests: its size is asked for first.
    * Writing by a signed URL needs the header ``x-ms-blob-type: BlockBlob``; its content type is not part of it.
    * Versions are there where the account keeps them (blob versioning), which a hierarchical namespace cannot.
    """

    def __init__(self, url: str, options: AzureOptions | None = None) -> None:
        place, options = located(url, options if options is not None else AzureOptions())
        self._client = AzureClient(place, options)
        self._reader = Reader(self._client)
        self._writer = Writer(self._client)
        self._lister = Lister(self._client)
        self._signer = UrlSigner(self._client)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the store of ``az://container`` or ``abfss://container@account...``; the options of `AzureOptions`.

        Raises
        ------
        ConfigurationError
            The URL is of another kind, or an option is unknown or malformed.
        """
        try:
            chosen = AzureOptions(**options)
        except TypeError as error:
            known = ", ".join(AzureOptions.__slots__)
            raise ConfigurationError(f"{url}: {error}; the options are {known}") from None
        return cls(url, chosen)

    @property
    def url(self) -> str:
        return self._client.place.url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(signed_urls=self._signer.is_able, object_versions=True)

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""
        return self._client.pool.stats()

    async def warm_up(self, connections: int) -> None:
        """Open so many connections now, and have the token that requests need."""
        await self._client.warm_up(connections)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        return await self._writer.put(_checked(key), await owned(data), mode, attributes)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        return BlockUpload(self._writer, _checked(key), mode, attributes)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        _checked(key)
        if head:
            return GetResult(await self._reader.head(key, if_match), nothing(), range=(0, 0))
        return await self._reader.get(key, range, if_match)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await read_ranges(self, key, ranges, if_match)

    async def delete(self, keys: Sequence[str]) -> None:
        async def remove(key: str) -> None:
            call = Call("delete_blob", self.url, key, write=True)
            headers = {"x-ms-delete-snapshots": "include"}
            try:
                await self._client.request(call, "DELETE", self._client.path(key), headers=headers)
            except BucketNotFoundError:
                raise
            except NotFoundError:
                return

        wanted = {_checked(key) for key in keys}
        await gather([partial(remove, key) for key in wanted], limit=_DELETES_AT_ONCE)

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        async for meta in self._lister.objects(prefix, after):
            yield meta

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        return await self._lister.level(prefix)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        original = await self._reader.head(_checked(source))
        return await copied(self._client, original, _checked(target), mode)

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,  # noqa: ARG002 - the service has no way to hold a writer to it
    ) -> str:
        _checked(key)
        if not self._signer.is_able:
            raise self._unsupported("signed_url without an account key or a token credential")
        return await self._signer.url(key, method, expires_seconds)

    async def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        async for version in self._lister.versions(prefix):
            yield version

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        return await self._reader.get(_checked(key), range, version_id=version_id)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        original = await self._reader.head(_checked(key), version_id=version_id)
        return await copied(self._client, original, key, OVERWRITE, version_id=version_id)

    async def aclose(self) -> None:
        await self._client.pool.aclose()


def _checked(key: str) -> str:
    if "\\" in key:
        raise InvalidKeyError(f"key {key!r} has a backslash, which the service takes for a slash", key=key)
    return checked_key(key)
