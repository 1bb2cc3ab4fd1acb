"""Objects in Google Cloud Storage, over gcloud-aio-storage's API root and tokens and one pooled aiohttp session.

gcloud-aio-storage does what it does right (metadata, listing, deletion, rewriting). Reads with a generation, streams,
checksums and chunks it has not, so they are requests of our own in the same session. Nothing here retries, but for a
resumable upload that goes on from the byte that the service has.
"""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from buffetstore.errors import (
    BucketNotFoundError,
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
)
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
from buffetstore.objects.gcs.client import ClientOptions, GCSClient, Purpose
from buffetstore.objects.gcs.downloads import ObjectReader
from buffetstore.objects.gcs.signing import UrlSigner
from buffetstore.objects.gcs.uploads import (
    UPLOAD_CHUNK_BYTES,
    ObjectWriter,
    ResumableUpload,
    condition,
    generation,
    object_meta,
    views_of,
)
from buffetstore.objects.keys import checked_key
from buffetstore.objects.ranges import read_ranges
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Literal

    from buffetstore.objects.pool import PoolStats


T = TypeVar("T")

_DELETES_AT_ONCE = 32
_LISTED = "name,size,generation,updated,crc32c"
_CONSISTENT_READS = 3


class GCSStore(ObjectStore):
    """The objects of one bucket. A version is an object's generation.

    Without an `api_root` it is Google's service with Google's credentials. With one and no credentials given, requests
    carry none, as emulators want it.

    Parameters
    ----------
    bucket:
        The bucket's name.
    api_root:
        Where the service is, such as an emulator's `http://127.0.0.1:4443`.
    token:
        A bearer token, used as it is.
    service_file:
        The file of a service account, an authorised user or a workload identity. Without it:
        GOOGLE_APPLICATION_CREDENTIALS, gcloud's application-default login, the metadata server. A service account's
        key signs URLs, too.
    service_account_email:
        A service account to impersonate with these credentials; IAM signs URLs for it.
    max_connections:
        Connections open at once; further requests wait for one.
    timeout_seconds:
        Longest silence of the service, not of a whole transfer.
    kms_key:
        The Cloud KMS key that new objects are encrypted with, as its resource name.
    page_size:
        Objects asked for in one page of a listing, at most 1000.
    chunk_bytes:
        Size of the chunks of large uploads, a multiple of 256 KiB.

    Raises
    ------
    ConfigurationError
        A setting is out of its range.
    """

    def __init__(
        self,
        bucket: str,
        *,
        api_root: str | None = None,
        token: str | None = None,
        service_file: str | None = None,
        service_account_email: str | None = None,
        max_connections: int = 50,
        timeout_seconds: float = 60.0,
        kms_key: str | None = None,
        page_size: int = 1000,
        chunk_bytes: int = UPLOAD_CHUNK_BYTES,
    ) -> None:
        _check(bucket, api_root, max_connections, timeout_seconds, page_size, chunk_bytes)
        self._bucket = bucket
        self._page_size = page_size
        self._kms_key = kms_key
        options = ClientOptions(
            api_root, token, service_file, service_account_email, max_connections, float(timeout_seconds)
        )
        self._client = GCSClient(bucket, options)
        self._reader = ObjectReader(self._client)
        self._capabilities = Capabilities(signed_urls=bool(service_file or service_account_email), object_versions=True)
        self._signer = UrlSigner(bucket, self._client, options)
        self._writer = ObjectWriter(self._client, chunk_bytes=chunk_bytes, kms_key=kms_key)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the store of `gs://bucket`; the options are the constructor's.

        Raises
        ------
        ConfigurationError
            The URL is of another kind, or has a path: that is a prefix, which `open_store` and `PrefixStore` know.
        """
        scheme, _, bucket = url.partition("://")
        if scheme != "gs" or "/" in bucket.rstrip("/"):
            raise ConfigurationError(f"{url!r} is not gs://bucket")
        return cls(bucket.rstrip("/"), **options)

    @property
    def url(self) -> str:
        return f"gs://{self._bucket}"

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""
        return self._client.pool.stats()

    async def warm_up(self, connections: int) -> None:
        """Open so many connections now, token included."""
        await self._client.warm_up(connections)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        return await self._writer.put(checked_key(key), await views_of(data), mode, attributes)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        return ResumableUpload(self._writer, checked_key(key), mode, attributes)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        checked_key(key)
        if head:
            return GetResult(await self._head(key, if_match), _nothing(), range=(0, 0))
        return await self._reader.get(key, range, if_match)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await read_ranges(self, key, ranges, if_match)

    async def delete(self, keys: Sequence[str]) -> None:
        wanted = {checked_key(key) for key in keys}

        async def remove(key: str) -> None:
            async with self._client.storage(Purpose("delete", key, writes=True)) as storage:
                await storage.delete(self._bucket, key, timeout=self._client.timeout)

        async def absent(key: str) -> None:
            try:
                await remove(key)
            except BucketNotFoundError:
                raise
            except NotFoundError:
                return

        await gather([partial(absent, key) for key in wanted], limit=_DELETES_AT_ONCE)

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        async for page in self._pages(prefix, {"startOffset": after} if after else {}, f"items({_LISTED})"):
            for item in page.get("items", []):
                meta = object_meta(item, with_attributes=False)
                if meta.key > after:  # startOffset itself belongs to the answer
                    yield meta

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        async for page in self._pages(prefix, {"delimiter": "/"}, f"prefixes,items({_LISTED})"):
            objects += [object_meta(item, with_attributes=False) for item in page.get("items", [])]
            prefixes += page.get("prefixes", [])
        return Listing(objects, prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        checked_key(source)
        purpose = Purpose("copy", checked_key(target), mode, writes=True, source=source)
        try:
            return await self._rewrite(purpose, source, target, condition(mode))
        except NotFoundError as error:
            error.key = source  # the target need not be there
            raise

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,
    ) -> str:
        return await self._signer.signed_url(checked_key(key), method, expires_seconds, content_type)

    async def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        found: list[ObjectVersion] = []  # of one key, oldest first as the service lists them
        async for page in self._pages(prefix, {"versions": "true"}, f"items({_LISTED},timeDeleted)"):
            for item in page.get("items", []):
                meta = object_meta(item, with_attributes=False)
                if found and found[0].meta.key != meta.key:
                    for version in reversed(found):
                        yield version
                    found = []
                found.append(ObjectVersion(meta, meta.version, is_current="timeDeleted" not in item))
        for version in reversed(found):
            yield version

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        return await self._reader.get(checked_key(key), range, version=version_id)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        purpose = Purpose("restore", checked_key(key), writes=True)
        return await self._rewrite(purpose, key, key, {"sourceGeneration": generation(version_id)})

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _rewrite(self, purpose: Purpose, source: str, target: str, params: dict[str, str]) -> ObjectMeta:
        encrypted = {"destinationKmsKeyName": self._kms_key} if self._kms_key else {}
        async with self._client.storage(purpose) as storage:
            answer = await storage.copy(
                self._bucket,
                source,
                self._bucket,
                new_name=target,
                params=params | encrypted,
                timeout=self._client.timeout,
            )
            return object_meta(answer["resource"])

    async def _head(self, key: str, if_match: str | None) -> ObjectMeta:
        async with self._client.storage(Purpose("read", key)) as storage:
            resource = await storage.download_metadata(
                self._bucket,
                key,
                timeout=self._client.timeout,
            )
            meta = object_meta(resource)
        if if_match not in {None, meta.version}:
            raise PreconditionFailedError(f"{key!r} has version {meta.version}, not {if_match}", key=key)
        return meta

    async def _pages(self, prefix: str, query: dict[str, str], fields: str) -> AsyncIterator[dict[str, Any]]:
        params = {
            "prefix": prefix,
            "maxResults": str(self._page_size),
            "fields": f"nextPageToken,{fields}",
            **query,
        }
        while True:
            async with self._client.storage(Purpose(f"list {prefix!r}")) as storage:
                page = await storage.list_objects(
                    self._bucket,
                    params=dict(params),
                    timeout=self._client.timeout,
                )
            yield page
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]


def _check(
    bucket: str,
    api_root: str | None,
    max_connections: int,
    timeout_seconds: float,
    page_size: int,
    chunk_bytes: int,
) -> None:
    wrong = []
    if not bucket or "/" in bucket:
        wrong.append(f"bucket {bucket!r} is not a bucket's name")
    if api_root is not None and not api_root.startswith(("http://", "https://")):
        wrong.append(f"api_root {api_root!r} must start with http:// or https://")
    if max_connections < 1:
        wrong.append(f"max_connections {max_connections} must be at least 1")
    if not timeout_seconds > 0:
        wrong.append(f"timeout_seconds {timeout_seconds} must be above 0")
    if not 1 <= page_size <= 1000:
        wrong.append(f"page_size {page_size} must be in 1..1000")
    if chunk_bytes < 1 or chunk_bytes % (256 * 1024):
        wrong.append(f"chunk_bytes {chunk_bytes} must be a multiple of 262144")
    if wrong:
        raise ConfigurationError("; ".join(wrong))


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in list[bytes]():
        yield chunk
