"""What commits said of themselves, kept when their log entries are cleaned up: who wrote what, from what, and when.

`<table>/_buffetstore/history/<first>-<last>.json.gz`, versions in 20 digits, is written once and has at most 10,000
commits, one JSON document a line. The first line tells `format_version` (1), `table_id` (that of the table's metadata
when it was written) and `sha256` (of all further bytes). A further line is a commit: `version`, `committed` (in
microseconds since 1970 in UTC: what time travel went by), `commitInfo` (as in the log; null where there was none).
Ranges may overlap where two processes cleaned up at once, or one was killed: what they say of a version is the same.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from buffetstore.errors import AlreadyExistsError, CorruptFileError, NotFoundError, UnsupportedFeatureError
from buffetstore.objects.base import CREATE, OVERWRITE, Attributes
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, ordered
from buffetstore.resilience.threads import give_way, in_thread
from buffetstore.tables.log import commit_info, join

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

    from buffetstore.objects.base import ObjectMeta, ObjectStore

FOLDER: Final = "_buffetstore/history/"
FORMAT_VERSION: Final = 1
MOST_COMMITS: Final = 10_000  # in an object
_MOST_BYTES = 16 * 1024 * 1024  # of its text, before which another is begun
_LINES = 500  # at a time, after which others may run
_PIECE = 256 * 1024  # bytes that are unpacked at a time
_NAME = re.compile(r"(\d{20})-(\d{20})\.json\.gz")
_GZIP = Attributes(content_type="application/gzip")
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class KeptCommit:
    """A commit whose log entry may be gone; `info` is the body of its `commitInfo`."""

    version: int
    committed_at: datetime
    info: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Object:
    first: int
    last: int
    key: str


async def keep_history(
    store: ObjectStore, path: str, table_id: str, commits: Mapping[int, ObjectMeta], times: Mapping[int, datetime]
) -> None:
    """Keep what these commits say of themselves: what is there already is left, unless it is damaged.

    Entries that somebody else has deleted meanwhile are left out; so is what is wrong with one that is damaged.
    """
    lines: list[bytes] = []
    versions: list[int] = []
    held = 0
    chosen = sorted(commits)
    calls = [partial(_line, store, commits[version], version, times[version]) for version in chosen]
    sizes = [commits[version].size for version in chosen]
    async with aclosing(ordered(calls, sizes, bytes_in_flight=BYTES_IN_FLIGHT // 8)) as told:
        at = 0
        async for line in told:
            if line is not None:
                lines.append(line)
                versions.append(chosen[at])
                held += len(line)
            at += 1
            if lines and (at == len(chosen) or len(lines) == MOST_COMMITS or held >= _MOST_BYTES):
                await _put(store, path, table_id, versions, lines)
                lines, versions, held = [], [], 0


async def _line(store: ObjectStore, meta: ObjectMeta, version: int, moment: datetime) -> bytes | None:
    try:
        data = await get_bytes(store, meta.key)
    except NotFoundError:
        return None
    return await in_thread(_told, data, version, moment)


def _told(data: bytes, version: int, moment: datetime) -> bytes:
    try:
        info = commit_info(data)
    except (ValueError, AttributeError):
        info = None
    told = {"version": version, "committed": (moment - _EPOCH) // _MICROSECOND, "commitInfo": info}
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


async def _put(store: ObjectStore, path: str, table_id: str, versions: Sequence[int], lines: Sequence[bytes]) -> None:
    key = join(path, f"{FOLDER}{versions[0]:020}-{versions[-1]:020}.json.gz")
    data = await in_thread(_rendered, table_id, lines)
    mode = CREATE if store.capabilities.conditional_create else OVERWRITE
    try:
        await store.put(key, data, mode=mode, attributes=_GZIP)
    except AlreadyExistsError:  # by whoever did not come to delete the entries, or by a table that was here before
        try:
            there, _ = await in_thread(_parsed, await get_bytes(store, key), key)
        except CorruptFileError:
            there = ""
        if there != table_id:
            await store.put(key, data, mode=OVERWRITE, attributes=_GZIP)


def _rendered(table_id: str, lines: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    head = {"format_version": FORMAT_VERSION, "table_id": table_id, "sha256": digest.hexdigest()}
    packer = zlib.compressobj(wbits=31)  # a gzip file without a time: the same commits are the same bytes
    packed = [packer.compress(json.dumps(head).encode() + b"\n")]
    for at in range(0, len(lines), _LINES):
        packed.append(packer.compress(b"".join(lines[at : at + _LINES])))
        give_way()
    return b"".join([*packed, packer.flush()])


async def kept_commits(
    store: ObjectStore, path: str, table_id: str, newest: int, oldest: int
) -> AsyncGenerator[KeptCommit, None]:
    """Yield the commits that were kept, each once, from the version `newest` down to `oldest`.

    Memory has one object's commits, or those of several that overlap.

    Raises
    ------
    CorruptFileError
        An object is damaged; it is named.
    UnsupportedFeatureError
        It is of a newer format.
    """
    prefix = join(path, FOLDER)
    named = [(meta.key, _NAME.fullmatch(meta.key[len(prefix) :])) async for meta in store.list_objects(prefix)]
    found = [_Object(int(name[1]), int(name[2]), key) for key, name in named if name is not None]
    for objects in _overlapping([each for each in found if each.first <= newest and each.last >= oldest]):
        told: dict[int, KeptCommit] = {}
        for each in objects:
            its_table, commits = await in_thread(_parsed, await get_bytes(store, each.key), each.key)
            told |= {commit.version: commit for commit in commits if its_table == table_id}
        for version in sorted(told, reverse=True):
            if oldest <= version <= newest:
                yield told[version]


def _overlapping(objects: Sequence[_Object]) -> Iterator[list[_Object]]:
    """Yield the objects, newest first, together where their ranges overlap."""
    run: list[_Object] = []
    for each in sorted(objects, key=lambda held: held.last, reverse=True):
        if run and each.last < min(held.first for held in run):
            yield run
            run = []
        run.append(each)
    if run:
        yield run


def _parsed(data: bytes, key: str) -> tuple[str, list[KeptCommit]]:
    try:
        head, _, body = _unpacked(data).partition(b"\n")
        told = json.loads(head)
        known = told["format_version"]
        if isinstance(known, int) and known > FORMAT_VERSION:
            raise UnsupportedFeatureError(
                f"{key!r} has format_version {known}, newer than {FORMAT_VERSION}: update buffetstore", key=key
            )
        if told["sha256"] != hashlib.sha256(body).hexdigest():
            raise ValueError("its checksum is another")  # noqa: TRY301 - told as all that is wrong with it
        return told["table_id"], list(_commits(body))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, EOFError, zlib.error) as error:
        raise CorruptFileError(
            f"{key!r}, which keeps what commits said whose log entries were cleaned up, is damaged: {error}; restore "
            "it from a backup, or delete it and go without",
            key=key,
        ) from error


def _unpacked(data: bytes) -> bytes:
    pieces = []
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while piece := file.read(_PIECE):
            pieces.append(piece)
            give_way()
    return b"".join(pieces)


def _commits(body: bytes) -> Iterator[KeptCommit]:
    lines = iter(body.splitlines())
    while some := list(islice(lines, _LINES)):
        for line in some:
            told = json.loads(line)
            moment = _EPOCH + told["committed"] * _MICROSECOND
            yield KeptCommit(int(told["version"]), moment, told["commitInfo"])
        give_way()
