"""The object store contract on S3."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from buffetstore.errors import (
    ConfigurationError,
    InvalidInputError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Capabilities,
    Checksum,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    ObjectVersion,
    PutMode,
    Upload,
)
from buffetstore.objects.checksums import checksum
from buffetstore.objects.keys import checked_key
from buffetstore.objects.ranges import read_ranges
from buffetstore.objects.s3.connection import S3Connection
from buffetstore.objects.s3.errors import Call, entry_error, understood
from buffetstore.objects.s3.listing import Lister
from buffetstore.objects.s3.options import S3Options
from buffetstore.objects.s3.reader import Reader
from buffetstore.objects.s3.signing import query_text
from buffetstore.objects.s3.transfer import checked, crc32, described, encrypted, quoted, written
from buffetstore.objects.s3.upload import Multipart, S3Upload, condition_of
from buffetstore.objects.s3.xml import deletion, failures_of, fields_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from buffetstore.objects.pool import PoolStats

DELETE_BATCH = 1000
COPY_BYTES = 5 * 1024**3  # the largest object that one CopyObject takes
COPY_PART_BYTES = 1024**3
LONGEST_URL_SECONDS = 7 * 24 * 3600


class S3Store(ObjectStore):
    """A bucket, or a prefix of one, in S3 or a store that speaks its protocol.

    `version` is the ETag, which the service derives from the bytes: writing the same bytes again gives the same
    version, and A, B, A looks unchanged. Whoever replaces objects under `Update` puts a unique token in their bytes.

    A copy under a condition is done inside the service as a multipart copy whose completion has the condition,
    because services that ignore the condition of a CopyObject are common.
    """

    def __init__(self, bucket: str, prefix: str = "", options: S3Options | None = None) -> None:
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._url = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._options = options if options is not None else S3Options()
        self._connection = S3Connection(bucket, self._url, self._options)
        self._reader = Reader(self._connection)
        self._lister = Lister(self._connection, self._prefix, self._options.page_size)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        secret_key: str | SecretStr | None = None,
        session_token: str | SecretStr | None = None,
        **options: Any,
    ) -> Self:
        """Return the store of ``s3://bucket/prefix``; `options` are those of `S3Options`.

        Raises
        ------
        ConfigurationError
            The URL names no bucket, or an option is unknown.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
            raise ConfigurationError(f"{parts.scheme}://{parts.hostname or ''}: an S3 URL is s3://bucket/prefix")
        try:
            chosen = S3Options(secret_key=_plain(secret_key), session_token=_plain(session_token), **options)
        except TypeError as error:
            raise ConfigurationError(f"{url}: {error}; the options are {', '.join(S3Options.__slots__)}") from None
        return cls(parts.netloc, parts.path, chosen)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        kept = self._options.conditional != "none"
        return Capabilities(
            conditional_create=kept,
            conditional_update=kept,
            unique_versions=False,
            signed_urls=True,
            object_versions=True,
        )

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now, and how many requests wait."""
        return self._connection.pool_stats()

    async def warm_up(self, connections: int) -> None:
        """Open so many connections now, and find the keys."""
        await self._connection.warm_up(connections)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        name = self._name(key)
        self._refuse_unkept(mode, key)
        data = data if isinstance(data, bytes) else memoryview(data).cast("B")
        crc = await crc32(data)
        headers = described(attributes, self._options) | condition_of(mode) | checked(crc)
        call = Call("put_object", self._url, key, mode, write=True)
        answer = await self._connection.ask(call, "PUT", name, headers=headers, data=data)
        etag = answer.headers.get("etag")
        return written(etag, answer.headers, call, len(data), attributes, Checksum("crc32", crc))

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        name = self._name(key)
        self._refuse_unkept(mode, key)
        return S3Upload(
            key,
            Multipart(self._connection, self._options, key, name, mode, attributes),
            put=partial(self.put, key, mode=mode, attributes=attributes),
            refuse=partial(self._refuse_unkept, mode, key, multipart=True),
        )

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,
        if_match: str | None = None,
        head: bool = False,
    ) -> GetResult:
        name = self._name(key)
        if head:
            return GetResult(await self._reader.head(key, name, if_match), _nothing(), range=(0, 0))
        return await self._reader.get(key, name, range, if_match)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await read_ranges(self, key, ranges, if_match)

    async def delete(self, keys: Sequence[str]) -> None:
        names = [self._name(key) for key in keys]
        if len(names) == 1:
            await self._connection.ask(Call("delete_object", self._url, keys[0], write=True), "DELETE", names[0])
            return
        for at in range(0, len(names), DELETE_BATCH):
            body = deletion(names[at : at + DELETE_BATCH])
            # The one checksum that every service takes here; it guards against faults, not against people.
            md5 = checksum("md5", body).value
            call = Call("delete_objects", self._url, write=True)
            headers = {"content-md5": md5, "content-type": "application/xml"}
            answer = await self._connection.ask(call, "POST", query=[("delete", "")], headers=headers, data=body)
            with understood(call):
                failures = failures_of(answer.body)
            for name, code, message in failures:
                if code != "NoSuchKey":
                    raise entry_error(call, code, message, name[len(self._prefix) :])

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        async for page in self._lister.pages(prefix, after=after):
            for meta in page.objects:
                yield meta

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        async for page in self._lister.pages(prefix, delimiter="/"):
            objects += page.objects
            prefixes += page.prefixes
        return Listing(objects, prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        self._name(target)
        self._refuse_unkept(mode, target, multipart=True)
        original = await self._reader.head(source, self._name(source))
        return await self._copy(original, target, mode, "")

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,
    ) -> str:
        name = self._name(key)
        if method not in {"GET", "PUT"}:
            raise InvalidInputError(f"method is {method!r}: it is 'GET' or 'PUT'", key=key)
        if not 1 <= expires_seconds <= LONGEST_URL_SECONDS:
            raise InvalidInputError(
                f"expires_seconds is {expires_seconds}: it must be between 1 and {LONGEST_URL_SECONDS}", key=key
            )
        headers = {"content-type": content_type} if content_type is not None and method == "PUT" else {}
        return await self._connection.presigned(method, name, headers, expires_seconds)

    async def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        async for page in self._lister.versions(prefix):
            for version in page.versions:
                yield version

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        return await self._reader.get_version(key, self._name(key), version_id, range)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        original = await self._reader.head_version(key, self._name(key), version_id)
        return await self._copy(original, key, OVERWRITE, f"?{query_text([('versionId', version_id)])}")

    async def aclose(self) -> None:
        await self._connection.aclose()

    def _name(self, key: str) -> str:
        name = self._prefix + checked_key(key)
        return checked_key(name) if self._prefix else name

    async def _copy(self, original: ObjectMeta, target: str, mode: PutMode, version: str) -> ObjectMeta:
        """Copy the bytes of `original`, of one version of it if the query `version` is given, to `target`."""
        name = self._name(target)
        attributes = original.attributes or DEFAULT_ATTRIBUTES
        if original.size == 0:
            return await self.put(target, b"", mode=mode, attributes=attributes)
        source = {
            "x-amz-copy-source": quote(f"/{self._connection.bucket}/{self._name(original.key)}") + version,
            "x-amz-copy-source-if-match": quoted(original.version),
        }
        try:
            if mode.kind == "overwrite" and original.size <= COPY_BYTES:
                return await self._copy_at_once(original, target, name, source)
            multipart = Multipart(self._connection, self._options, target, name, mode, attributes)
            return await multipart.copied(source, original.size, COPY_PART_BYTES)
        except PreconditionFailedError as error:
            if mode.kind == "update":
                raise
            raise UnavailableError(
                f"{original.key!r} in {self._url} was replaced while it was copied", key=original.key
            ) from error

    async def _copy_at_once(self, original: ObjectMeta, target: str, name: str, source: dict[str, str]) -> ObjectMeta:
        attributes = original.attributes or DEFAULT_ATTRIBUTES
        headers = source | encrypted(self._options)
        if attributes.storage_class is not None:
            headers["x-amz-storage-class"] = attributes.storage_class
        call = Call("copy_object", self._url, target, write=True)
        answer = await self._connection.ask(call, "PUT", name, headers=headers)
        with understood(call):
            etag = fields_of(answer.body).get("ETag")
        return written(etag, answer.headers, call, original.size, attributes)

    def _refuse_unkept(self, mode: PutMode, key: str, *, multipart: bool = False) -> None:
        kept = self._options.conditional
        if mode.kind != "overwrite" and (kept == "none" or (multipart and kept != "all")):
            raise UnsupportedOperationError(
                f"{self._url} does not keep conditions (conditional={kept!r}), so {mode.kind} of {key!r} is refused",
                key=key,
            )


def _plain(secret: str | SecretStr | None) -> str | None:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


async def _nothing() -> AsyncIterator[Data]:
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk
