"""A table written anew in another version of its contract, by one commit.

Every data file is read, its rows are brought to the new version, written, read back and compared: as many rows, and the
same checksum over the columns that do not change. What was written for a file is noted below ``metadata/migrations/``,
so that a run that breaks off is taken up by the next one; readers see nothing of it before the commit. Files that
others add meanwhile are brought up before it, and a commit that changes more is planned anew.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptFileError, InvalidInputError, NotFoundError
from buffetstore.expressions import ALWAYS
from buffetstore.objects.base import Attributes
from buffetstore.objects.helpers import delete_prefix, get_bytes, get_many, head, list_all
from buffetstore.query.conversion import VERSION
from buffetstore.query.ordering import sort_rows
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, gather, ordered
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.change import counterparts
from buffetstore.schemas.changes import is_upcast
from buffetstore.schemas.evolution import upcast
from buffetstore.schemas.stored import canonical_json
from buffetstore.schemas.widening import numbers_of
from buffetstore.storage.layout import time_bucket_layout
from buffetstore.tables.actions import AddFile
from buffetstore.tables.file_actions import each_file, removed
from buffetstore.tables.log import join
from buffetstore.tables.reading import read_file
from buffetstore.tables.revision_order import REVISIONS, keeps_revisions, version_tag
from buffetstore.tables.row_checksum import row_checksum
from buffetstore.tables.schema import schema_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from buffetstore.schemas import Contract
    from buffetstore.tables import DataPart, Metadata, Snapshot
    from buffetstore.tables.operations.write import Writer

ROOT = "metadata/migrations"
_ARROW_BYTES = 6  # of rows for each byte of a Parquet file, roughly
_JSON = Attributes(content_type="application/json")


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What a migration did.

    Parameters
    ----------
    table_version:
        The version of the table that has it.
    files_read, files_written, rows:
        Data files that were brought up, those that took their place, and the rows in them.
    files_resumed:
        Of those that were read, how many an earlier run had done.
    """

    table_version: int
    files_read: int = 0
    files_written: int = 0
    rows: int = 0
    files_resumed: int = 0


@dataclass(slots=True)
class Migration:
    """One table on its way to another version.

    Parameters
    ----------
    target:
        The version that all rows will have.
    mark:
        Its fingerprint.
    history:
        The versions that rows have now.
    progress:
        Told how many files are done, of how many.
    """

    writer: Writer
    path: str
    target: Contract
    mark: str
    history: Sequence[Contract]
    progress: Callable[[int, int], None] | None = None
    bytes_in_flight: int = BYTES_IN_FLIGHT
    resumed: int = 0
    _done: dict[str, tuple[AddFile, ...]] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        newer = [each.version for each in self.history if numbers_of(each.version) > numbers_of(self.target.version)]
        if newer:
            raise InvalidInputError(
                f"{self.target.data_type} has rows of {', '.join(newer)}, which {self.target.version} is older than: "
                "migrate to a newer version"
            )

    @property
    def prefix(self) -> str:
        """Where what is done is noted."""
        return f"{ROOT}/{self.path}/{self.target.version}-{self.mark[:16]}/"

    async def take_up(self) -> None:
        """Find what an earlier run has done; files of it that are gone since are written again."""
        notes = [found.key for found in await list_all(self.writer.store, self.prefix)]
        for told in await get_many(self.writer.store, notes):
            note = json.loads(told)
            adds = tuple(AddFile.from_json(add) for add in note["adds"])
            if all(await gather([partial(self._is_there, add) for add in adds])):
                self._done[note["source"]], self._rows[note["source"]] = adds, note["rows"]
        self.resumed = len(self._done)

    async def _is_there(self, add: AddFile) -> bool:
        try:
            return (await head(self.writer.store, join(self.path, add.path))).size == add.size
        except NotFoundError:
            return False

    async def stage(self, snapshot: Snapshot) -> None:
        """Bring up every file of the snapshot that is not yet, a few at a time."""
        stamps = snapshot.files["modification_time"].cast(pa.int64()).to_numpy()
        every = zip(each_file(snapshot.files), stamps.tolist(), strict=True)
        files = [(file, stamp) for file, stamp in every if _key(file) not in self._done]
        total, count = snapshot.files.num_rows, snapshot.files.num_rows - len(files)
        calls = [partial(self._bring_up, snapshot, file, stamp) for file, stamp in files]
        sizes = [int(file["size"]) * _ARROW_BYTES for file, _ in files]
        async with aclosing(ordered(calls, sizes, bytes_in_flight=self.bytes_in_flight)) as done:
            async for _ in done:
                count += 1
                if self.progress is not None:
                    self.progress(count, total)

    async def changes(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the files of the commit that takes the place of the snapshot's, all of them brought up."""
        await self.stage(snapshot)
        keys = [_key(file) for file in each_file(snapshot.files)]
        adds = tuple(add for key in keys for add in self._done[key])
        gone = await in_thread(removed, snapshot.files, data_change=False)
        metrics = {"numAddedFiles": len(adds), "numRemovedFiles": len(keys)}
        return {"adds": adds, "removes": gone, "reads": ALWAYS, "metrics": metrics}

    def result(self, version: int, snapshot: Snapshot) -> MigrationResult:
        """Return what was done for the rows of a snapshot."""
        keys = [_key(file) for file in each_file(snapshot.files)]
        written = sum(len(self._done[key]) for key in keys)
        return MigrationResult(version, len(keys), written, sum(self._rows[key] for key in keys), self.resumed)

    async def forget(self) -> None:
        """Delete the notes, which are of no use once the commit is made."""
        await delete_prefix(self.writer.store, self.prefix)

    async def _bring_up(self, snapshot: Snapshot, file: Mapping[str, Any], stamp: int) -> None:
        rows = await read_file(self.writer.store, snapshot, file, formatter=self.writer.formatter)
        adds: tuple[AddFile, ...] = ()
        if rows.num_rows:
            made = await in_thread(self.converted, rows)
            parts = await in_thread(self._parts, snapshot, file, made)
            if keeps_revisions(snapshot.metadata):
                parts = [replace(part, tags={**version_tag(file["commit_version"]), **part.tags}) for part in parts]
            written = await self.writer.write_parts(snapshot, parts)
            # The rows were there before: the files stand where theirs stood.
            adds = tuple(replace(add, data_change=False, modification_time=stamp) for add in written)
            await self._verify(rows, adds, file["path"])
        note = {"source": _key(file), "rows": rows.num_rows, "adds": [add.to_json()["add"] for add in adds]}
        name = sha256(_key(file).encode()).hexdigest()
        await self.writer.store.put(f"{self.prefix}{name}.json", canonical_json(note), attributes=_JSON)
        self._done[_key(file)], self._rows[_key(file)] = adds, rows.num_rows

    def converted(self, rows: pa.Table) -> pa.Table:
        """Return rows of whatever versions as rows of the target, and columns that no version knows behind."""
        known = {each.version: each for each in self.history}
        newest = max(self.history, key=lambda each: numbers_of(each.version))
        foreign = self._foreign(rows.schema)
        stated = rows[VERSION] if VERSION in rows.column_names else pa.chunked_array([pa.nulls(rows.num_rows)])
        versions = stated.cast(pa.string())
        parts = []
        for version in pc.unique(versions).to_pylist():
            # A row of no known version was written by others, to the columns that are there.
            own = rows.filter(pc.is_in(versions, value_set=pa.array([version], pa.string())))
            writer = known.get(version, newest)
            made = upcast(
                own.select([name for name in own.column_names if name in writer.schema.names]), writer, self.target
            )
            for name in foreign:
                made = made.append_column(rows.schema.field(name), own[name])
            parts.append(made)
        return sort_rows(pa.concat_tables(parts), self.target.key)

    def _foreign(self, schema: pa.Schema) -> list[str]:
        known = {name for each in (*self.history, self.target) for name in each.schema.names}
        return [name for name in schema.names if name not in known]

    def schema(self, snapshot: Snapshot) -> pa.Schema:
        """Return the columns of the table once it is migrated."""
        foreign = [snapshot.schema.field(name) for name in self._foreign(snapshot.schema)]
        return pa.schema([*self.target.schema, *foreign])

    def metadata(self, snapshot: Snapshot, configuration: Mapping[str, str]) -> Metadata:
        """Return what the table says of itself once it is migrated, besides what is given."""
        told = {"buffetstore.key": ",".join(self.target.key), REVISIONS: self.target.revisions}
        return replace(
            snapshot.metadata,
            schema_string=schema_to_json(self.schema(snapshot)),
            partition_columns=self.target.partition_by,
            configuration={**configuration, **told},
        )

    def _parts(self, snapshot: Snapshot, file: Mapping[str, Any], rows: pa.Table) -> Sequence[DataPart]:
        if all(self._lies_alike(each) for each in self.history):
            return [self.writer.replacing(snapshot, file, rows)]
        return time_bucket_layout(self.target)(rows)

    def _lies_alike(self, old: Contract) -> bool:
        """Tell whether files of the old version lie where those of the new one do."""
        sources = counterparts(old.fields, self.target.fields)
        times = sources.get(self.target.event_time)
        same_time = times is not None and times.name == old.event_time
        return same_time and old.partition_by == self.target.partition_by

    async def _verify(self, rows: pa.Table, adds: Sequence[AddFile], source: str) -> None:
        """Read back what was written, and hold it to what it was made of."""
        columns = self._unchanged(rows.schema)
        before = await in_thread(row_checksum, rows.select(columns))
        count, after = 0, 0
        for add in adds:
            key = join(self.path, add.path)
            data = await get_bytes(self.writer.store, key)
            found = await self.writer.formatter.adecode(data, columns or None)
            count += found.num_rows
            after += await in_thread(row_checksum, found.select(columns))
        if count != rows.num_rows or after % 2**64 != before:
            raise CorruptFileError(
                f"what was written for data file {source!r} of {self.path!r} is not what is in it ({count} of "
                f"{rows.num_rows} rows; columns {', '.join(columns)}): the table was left as it is, run it again",
                key=join(self.path, source),
            )

    def _unchanged(self, schema: pa.Schema) -> list[str]:
        """Return the columns that no version's rows change in."""
        found = []
        for spec in self.target.fields:
            if spec.name == VERSION or spec.name in self.target.partition_by or spec.name not in schema.names:
                continue
            sources = [counterparts(each.fields, self.target.fields).get(spec.name) for each in self.history]
            same = all(each is not None and (each.name, each.type) == (spec.name, spec.type) for each in sources)
            steps = any(is_upcast(spec.name, each, self.target) for each in self.history)
            if same and not steps and spec.default is None and schema.field(spec.name).type == spec.type:
                found.append(spec.name)
        return found


def _key(file: Mapping[str, Any]) -> str:
    """Return what names a file's rows: a file that lost other rows is another one."""
    return f"{file['path']}\0{file['deletion_vector'] or ''}"
