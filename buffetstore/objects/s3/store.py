"""The object store contract on S3."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from buffetstore.errors import (
    BucketNotFoundError,
    ConfigurationError,
    InvalidInputError,
    InvalidRangeError,
    NotFoundError,
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
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    PutMode,
    Upload,
)
from buffetstore.objects.keys import checked_key
from buffetstore.objects.ranges import checked_range, coalesce, cut, resolve_range
from buffetstore.objects.s3.connection import S3Connection, S3Options
from buffetstore.objects.s3.errors import Call, entry_error
from buffetstore.objects.s3.transfer import described, outgoing, quoted, received, stream, written
from buffetstore.objects.s3.upload import Multipart, S3Upload, condition_of
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from buffetstore.objects.pool import PoolStats

DELETE_BATCH = 1000
COPY_BYTES = 5 * 1024**3  # the largest object that one CopyObject takes
COPY_PART_BYTES = 1024**3


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
        self._bucket_seen = False

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
        return Capabilities(conditional_create=kept, conditional_update=kept)

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""
        return self._connection.pool_stats()

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        name = self._name(key)
        self._refuse_unkept(mode, key)
        data = data if isinstance(data, bytes) else memoryview(data).cast("B")
        parameters = described(attributes) | condition_of(mode) | await outgoing(data)
        call = Call("put_object", self._url, key, mode, write=True)
        answer = await self._call(call, Key=name, **parameters)
        return written(answer, key, len(data), attributes, call)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        name = self._name(key)
        self._refuse_unkept(mode, key)
        return S3Upload(
            key,
            Multipart(self._connection, key, name, mode, attributes),
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
        parameters = {"Key": self._name(key)} | ({} if if_match is None else {"IfMatch": quoted(if_match)})
        if head:
            meta, _ = received(await self._head(key, parameters), key)
            return GetResult(meta, _nothing(), range=(0, 0))
        if range is None:
            parameters["ChecksumMode"] = "ENABLED"
        else:
            parameters["Range"] = _range_header(range, key)
        call = Call("get_object", self._url, key)
        answer = await self._call(call, **parameters)
        raw = answer["Body"].raw_stream

        async def aclose() -> None:
            raw.close()  # after the last byte the connection is back in the pool already

        meta, sent = received(answer, key)
        wanted = resolve_range(range, meta.size, key)
        if wanted != (sent or (0, meta.size)):
            raw.close()
            raise UnsupportedOperationError(f"{call.where}: asked for bytes {wanted}, got {sent or 'all'}", key=key)
        return GetResult(meta, stream(answer, wanted[1] - wanted[0], call), range=wanted, aclose=aclose)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        if not ranges:
            await self.get(key, if_match=if_match, head=True)
            return []
        for start, end in ranges:
            if start < 0 or end <= start:
                raise InvalidRangeError(f"range {start}..{end} of {key!r} is empty or malformed", key=key)
        joined = coalesce(ranges)

        async def read(span: tuple[int, int]) -> tuple[ObjectMeta, bytes]:
            async with await self.get(key, range=ByteRange(*span), if_match=if_match) as result:
                return result.meta, await result.read()

        metas, bodies = zip(*await gather([partial(read, span) for span in joined]), strict=True)
        if len({meta.version for meta in metas}) > 1:
            raise UnavailableError(f"{key!r} in {self._url} was replaced while it was read", key=key)
        return cut([checked_range(start, end, metas[0].size, key) for start, end in ranges], joined, bodies)

    async def delete(self, keys: Sequence[str]) -> None:
        names = [self._name(key) for key in keys]
        if len(names) == 1:
            await self._call(Call("delete_object", self._url, keys[0], write=True), Key=names[0])
            return
        for at in range(0, len(names), DELETE_BATCH):
            batch = names[at : at + DELETE_BATCH]
            call = Call("delete_objects", self._url, write=True)
            answer = await self._call(call, Delete={"Objects": [{"Key": name} for name in batch], "Quiet": True})
            for fault in answer.get("Errors", []):
                if fault.get("Code") != "NoSuchKey":
                    raise entry_error(call, fault, fault.get("Key", "")[len(self._prefix) :])

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        async for page in self._pages(prefix, after=after):
            for meta in self._metas(page):
                yield meta

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        async for page in self._pages(prefix, Delimiter="/"):
            objects += self._metas(page)
            prefixes += [common["Prefix"][len(self._prefix) :] for common in page.get("CommonPrefixes", [])]
        return Listing(objects, prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        name = self._name(target)
        self._refuse_unkept(mode, target, multipart=True)
        original = (await self.get(source, head=True)).meta
        attributes = original.attributes or DEFAULT_ATTRIBUTES
        if original.size == 0:
            return await self.put(target, b"", mode=mode, attributes=attributes)
        place, condition = {"Bucket": self._connection.bucket, "Key": self._name(source)}, quoted(original.version)
        try:
            if mode.kind == "overwrite" and original.size <= COPY_BYTES:
                call = Call("copy_object", self._url, target, write=True)
                answer = await self._call(call, Key=name, CopySource=place, CopySourceIfMatch=condition)
                return written(answer, target, original.size, attributes, call)
            multipart = Multipart(self._connection, target, name, mode, attributes)
            return await multipart.copied(place, original.size, COPY_PART_BYTES, condition)
        except PreconditionFailedError as error:
            if mode.kind == "update":
                raise
            raise UnavailableError(f"{source!r} in {self._url} was replaced while it was copied", key=source) from error

    async def aclose(self) -> None:
        await self._connection.aclose()

    def _name(self, key: str) -> str:
        return checked_key(self._prefix + checked_key(key))

    async def _call(self, call: Call, **parameters: Any) -> dict[str, Any]:
        answer = await self._connection.call(
            call.operation, key=call.key, mode=call.mode, write=call.write, **parameters
        )
        self._bucket_seen = True
        return answer

    async def _head(self, key: str, parameters: dict[str, str]) -> dict[str, Any]:
        try:
            return await self._call(Call("head_object", self._url, key), **parameters)
        except NotFoundError:
            # The answer to a HEAD has no body that would tell a missing bucket from a missing key.
            if not self._bucket_seen:
                try:
                    await self._call(Call("head_bucket", self._url))
                except NotFoundError as error:
                    raise BucketNotFoundError(f"there is no bucket of {self._url}: create it", key=key) from error
            raise

    async def _pages(self, prefix: str, *, after: str = "", **parameters: str) -> AsyncIterator[dict[str, Any]]:
        parameters |= {"Prefix": self._prefix + prefix} | ({"StartAfter": self._prefix + after} if after else {})
        while True:
            page = await self._call(Call("list_objects_v2", self._url), **parameters)
            yield page
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def _metas(self, page: dict[str, Any]) -> list[ObjectMeta]:
        # Consoles make folders by empty objects whose key ends with a slash: no key of ours can.
        return [
            ObjectMeta(
                entry["Key"][len(self._prefix) :], entry["Size"], entry["ETag"].strip('"'), entry["LastModified"]
            )
            for entry in page.get("Contents", [])
            if not entry["Key"].endswith("/")
        ]

    def _refuse_unkept(self, mode: PutMode, key: str, *, multipart: bool = False) -> None:
        kept = self._options.conditional
        if mode.kind != "overwrite" and (kept == "none" or (multipart and kept != "all")):
            raise UnsupportedOperationError(
                f"{self._url} does not keep conditions (conditional={kept!r}), so {mode.kind} of {key!r} is refused",
                key=key,
            )


def _range_header(asked: ByteRange, key: str) -> str:
    start, end = asked.start, asked.end
    if (start < 0 and end is not None) or (start >= 0 and end is not None and end <= start):
        raise InvalidRangeError(f"range {start}..{end} of {key!r} is empty or malformed", key=key)
    return f"bytes={start}" if start < 0 else f"bytes={start}-{'' if end is None else end - 1}"


def _plain(secret: str | SecretStr | None) -> str | None:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


async def _nothing() -> AsyncIterator[Data]:
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk
