"""Operations on a store, each with what may be true after it: the judges of `ObjectStoreFaultContract`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from buffetstore.errors import AlreadyExistsError, ConflictError, NotFoundError, PreconditionFailedError, StorageError
from buffetstore.objects.base import CREATE, OVERWRITE, Attributes, ByteRange, PutMode, Update
from buffetstore.objects.helpers import get_bytes, list_all
from buffetstore.testing.http_faults import HttpFault

if TYPE_CHECKING:
    from buffetstore.objects.base import Data, ObjectMeta, ObjectStore

BODY = bytes(range(256)) * 1200
OLD = b"what was there before"
RIVAL = b"somebody else's"
KEY = "dir/key.bin"
LISTED = [f"list/{number:02}" for number in range(25)]  # more than a page, where the server's pages are small

FAULTS: dict[str, HttpFault] = {
    "503 before": HttpFault("status"),
    "503 after apply": HttpFault("status", when="after"),
    "reset before": HttpFault("reset"),
    "reset after apply": HttpFault("reset", when="after"),
    "truncated body": HttpFault("truncate", when="after"),
    "flipped bit": HttpFault("flip"),
    "stall": HttpFault("stall"),
    "stall after apply": HttpFault("stall", when="after"),
    "429 with Retry-After": HttpFault("status", status=429, retry_after=1),
}


Flips = Literal["request", "answer", "answer's form", "nothing"]


class Case(ABC):
    """One operation. A wrong answer is an `AssertionError` of `check`."""

    name: ClassVar[str]
    capability: ClassVar[str | None] = None
    stages: ClassVar[bool] = False  # it takes several requests, any of which may be struck
    flips: ClassVar[Flips] = "request"  # where the wrong bit is
    conflict: ClassVar[type[ConflictError] | None] = None  # what must be answered instead of success

    @abstractmethod
    async def prepare(self, store: ObjectStore) -> None:
        """Set the scene, without faults."""

    @abstractmethod
    async def run(self, store: ObjectStore) -> Any:
        """Do it, with faults."""

    @abstractmethod
    async def check(self, store: ObjectStore, answer: Any, error: StorageError | None) -> None:
        """Look, without faults, whether what was answered is so."""


async def found(store: ObjectStore, key: str = KEY) -> bytes | None:
    """Return what the key holds, None for nothing; a listing must agree."""
    listed = [meta.key for meta in await list_all(store, key)]
    try:
        body = await get_bytes(store, key)
    except NotFoundError:
        assert listed == [], "it is listed but not there"
        return None
    assert listed == [key], f"it is there, but the listing says {listed}"
    return body


class Put(Case):
    """A write of all the bytes; what is true depends on who else has written."""

    name = "put overwrite"
    before: ClassVar[bytes | None] = OLD

    def __init__(self, data: bytes = BODY) -> None:
        self.data = data
        self.mode: PutMode = OVERWRITE

    async def prepare(self, store: ObjectStore) -> None:
        if self.before is not None:
            await store.put(KEY, self.before)

    async def run(self, store: ObjectStore) -> ObjectMeta:
        return await store.put(KEY, self.data, mode=self.mode)

    async def check(self, store: ObjectStore, answer: ObjectMeta | None, error: StorageError | None) -> None:
        body = await found(store)
        if error is None:
            assert self.conflict is None, "a lost write was told to have been made"
            assert body == self.data, "success was told, but the bytes are others"
            assert answer is not None
            assert (answer.key, answer.size) == (KEY, len(self.data))
            assert await get_bytes(store, KEY, if_match=answer.version) == self.data, "the version is another's"
        elif isinstance(error, ConflictError):
            assert self.conflict is not None, f"{type(error).__name__} of its own write was told"
            assert isinstance(error, self.conflict), f"{type(error).__name__} was told of a lost write"
            assert body == self.before, "what was there before is gone"
        elif error.ambiguous and self.conflict is None:
            assert body in {self.data, self.before}, "half an object is there"
        else:
            assert body == self.before, "it failed for certain, but something was written"


class PutCreate(Put):
    """A put-if-absent of an absent key."""

    name = "put create"
    capability = "conditional_create"
    before: ClassVar[bytes | None] = None

    async def prepare(self, store: ObjectStore) -> None:
        await super().prepare(store)
        self.mode = CREATE


class PutCreateTaken(PutCreate):
    """A put-if-absent that must be lost."""

    name = "put create, taken"
    before = RIVAL
    conflict = AlreadyExistsError


class PutUpdate(Put):
    """A compare-and-swap of the current version."""

    name = "put update"
    capability = "conditional_update"

    async def prepare(self, store: ObjectStore) -> None:
        self.mode = Update((await store.put(KEY, OLD)).version)


class PutUpdateStale(PutUpdate):
    """A compare-and-swap that must be lost."""

    name = "put update, stale"
    before = RIVAL
    conflict = PreconditionFailedError

    async def prepare(self, store: ObjectStore) -> None:
        await super().prepare(store)
        await store.put(KEY, RIVAL)


class Uploading(Put):
    """A write in parts; nothing of it may be seen before it is complete."""

    name = "upload"
    stages = True

    async def run(self, store: ObjectStore) -> ObjectMeta:
        attributes = Attributes(content_type="text/csv")
        async with await store.start_upload(KEY, mode=self.mode, attributes=attributes) as upload:
            view, half = memoryview(self.data), len(self.data) // 2
            await upload.write(view[:half])
            await upload.write(view[half:])
            return await upload.complete()


class UploadCreate(Uploading):
    """An upload that creates."""

    name = "upload create"
    capability = "conditional_create"
    before: ClassVar[bytes | None] = None

    async def prepare(self, store: ObjectStore) -> None:
        await super().prepare(store)
        self.mode = CREATE


class UploadCreateTaken(UploadCreate):
    """An upload that must not create."""

    name = "upload create, taken"
    before = RIVAL
    conflict = AlreadyExistsError


class Get(Case):
    """A read of all the bytes at once."""

    name = "get"
    flips: ClassVar[Flips] = "answer"
    expected: ClassVar[Data] = BODY

    async def prepare(self, store: ObjectStore) -> None:
        await store.put(KEY, BODY)

    async def run(self, store: ObjectStore) -> Data:
        return await get_bytes(store, KEY)

    async def check(self, store: ObjectStore, answer: Data | None, error: StorageError | None) -> None:
        if error is None:
            assert answer == self.expected, "other bytes were read than were written"
        assert not isinstance(error, NotFoundError | ConflictError)
        assert await found(store) == BODY


class GetStreamed(Get):
    """A read piece by piece."""

    name = "get, streamed"

    async def run(self, store: ObjectStore) -> Data:
        async with await store.get(KEY) as result:
            return b"".join([bytes(chunk) async for chunk in result])


class GetRange(Get):
    """A range has no checksum of its own: a flipped bit in it is TLS's to find."""

    name = "get range"
    flips: ClassVar[Flips] = "nothing"
    expected = BODY[1000:200_000]

    async def run(self, store: ObjectStore) -> Data:
        return await get_bytes(store, KEY, range=ByteRange(1000, 200_000))


class ListObjects(Case):
    """A listing, struck in its first page or in a later one; the names in it have no checksum, its form is damaged."""

    name = "list"
    stages = True
    flips: ClassVar[Flips] = "answer's form"

    async def prepare(self, store: ObjectStore) -> None:
        for key in LISTED:
            await store.put(key, b"x")

    async def run(self, store: ObjectStore) -> list[str]:
        return [meta.key for meta in await list_all(store, "list/")]

    async def check(self, store: ObjectStore, answer: list[str] | None, error: StorageError | None) -> None:
        if error is None:
            assert answer == LISTED, f"the listing had {len(answer or [])} of {len(LISTED)} names"
        assert [meta.key for meta in await list_all(store, "list/")] == LISTED


class Delete(Case):
    """A delete of one object, beside which another must stay."""

    name = "delete"
    keys: ClassVar[list[str]] = [KEY]

    async def prepare(self, store: ObjectStore) -> None:
        for key in [*self.keys, "kept"]:
            await store.put(key, OLD)

    async def run(self, store: ObjectStore) -> None:
        await store.delete(self.keys)

    async def check(self, store: ObjectStore, answer: None, error: StorageError | None) -> None:  # noqa: ARG002
        bodies = [await found(store, key) for key in self.keys]
        assert set(bodies) <= {None, OLD}
        if error is None:
            assert set(bodies) == {None}, "success was told, but it is still there"
        assert await found(store, "kept") == OLD


class DeleteMany(Delete):
    """A delete of several objects."""

    name = "delete many"
    keys: ClassVar[list[str]] = [f"gone/{number}" for number in range(5)]


class Copy(Case):
    """A copy within the store."""

    name = "copy"
    flips: ClassVar[Flips] = "nothing"  # in an answer of a few words there is nothing to check it by

    async def prepare(self, store: ObjectStore) -> None:
        await store.put("source", BODY)

    async def run(self, store: ObjectStore) -> ObjectMeta:
        return await store.copy("source", KEY)

    async def check(self, store: ObjectStore, answer: ObjectMeta | None, error: StorageError | None) -> None:
        body = await found(store)
        assert body in {None, BODY}
        if error is None:
            assert body == BODY, "success was told, but there is no copy"
            assert answer is not None
            assert answer.size == len(BODY)
        elif not error.ambiguous:
            assert body is None, "it failed for certain, but something was written"


PLAIN: list[type[Case]] = [
    Put, PutCreate, PutCreateTaken, PutUpdate, PutUpdateStale, Get, GetStreamed, GetRange, ListObjects, Delete,
    DeleteMany, Copy,
]  # fmt: skip
UPLOADS: list[type[Put]] = [Uploading, UploadCreate, UploadCreateTaken]
CASES = {case.name: case for case in [*PLAIN, *UPLOADS]}
