"""Renaming, dropping and widening columns by writing every data file anew: what every engine reads.

Files are read and written a few at a time, so memory does not grow with the table. Files that were written stay for the
next plan where another commit came in between, so that each file is rewritten once however many others write.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import StorageError
from buffetstore.expressions import ALWAYS
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, ordered, unhurried
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.file_table import listed
from buffetstore.tables.log import join
from buffetstore.tables.operations.write import removals
from buffetstore.tables.reading import read_file
from buffetstore.tables.revision_order import keeps_revisions, version_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buffetstore.tables.actions import AddFile, Metadata
    from buffetstore.tables.operations.write import Writer
    from buffetstore.tables.snapshot import Snapshot

# Arrow bytes of rows for each byte of a Parquet file, roughly.
_ARROW_BYTES = 6


@dataclass(slots=True)
class Reshape:
    """One change of every row of a table, and the files that were written for it so far.

    Parameters
    ----------
    change:
        Rows of the table as it is to rows of the table as it will be.
    """

    writer: Writer
    path: str
    change: Callable[[pa.Table], pa.Table]
    bytes_in_flight: int = BYTES_IN_FLIGHT
    _schema_string: str = ""
    _written: dict[str, AddFile | None] = field(default_factory=dict)

    async def propose(self, operation: str, snapshot: Snapshot, metadata: Metadata) -> Proposal:
        """Return the commit that puts the changed files and the metadata in the place of what is there."""
        if self._schema_string != snapshot.metadata.schema_string:
            await self.discard()
            self._schema_string = snapshot.metadata.schema_string
        files = await listed(snapshot.files)
        versions = snapshot.files["commit_version"].to_pylist()
        stamps = snapshot.files["modification_time"].cast(pa.int64()).to_pylist()
        missing = [at for at, file in enumerate(files) if self._key(file) not in self._written]
        calls = [partial(self._rewrite, snapshot, files[at], versions[at], stamps[at]) for at in missing]
        sizes = [files[at]["size"] * _ARROW_BYTES for at in missing]
        async with aclosing(ordered(calls, sizes, bytes_in_flight=self.bytes_in_flight)) as done:
            async for _ in done:
                pass
        living = {self._key(file) for file in files}
        await self.discard({key for key in self._written if key not in living})
        adds = [add for file in files if (add := self._written[self._key(file)]) is not None]
        gone = tuple(replace(remove, data_change=False) for remove in removals(files))
        metrics = {"numAddedFiles": len(adds), "numRemovedFiles": len(gone)}
        return Proposal(operation, tuple(adds), gone, metadata, reads=ALWAYS, metrics=metrics)

    async def discard(self, keys: set[str] | None = None) -> None:
        """Delete files that were written and will not be committed."""
        chosen = set(self._written) if keys is None else keys
        found = [self._written.pop(key) for key in chosen]
        paths = [join(self.path, add.path) for add in found if add is not None]
        if paths:
            with suppress(StorageError):
                await unhurried(self.writer.store.delete(paths))

    @staticmethod
    def _key(file: Mapping[str, Any]) -> str:
        return f"{file['path']}\0{file['deletion_vector']}"

    async def _rewrite(self, snapshot: Snapshot, file: Mapping[str, Any], version: int | None, stamp: int) -> None:
        rows = await read_file(self.writer.store, snapshot, file, formatter=self.writer.formatter)
        if not rows.num_rows:
            self._written[self._key(file)] = None
            return
        changed = await in_thread(self.change, rows)
        part = self.writer.replacing(snapshot, file, changed)
        if keeps_revisions(snapshot.metadata):
            part = replace(part, tags={**version_tag(version), **part.tags})
        (add,) = await self.writer.write_parts(snapshot, [part])
        # The rows were there before: the file stands where theirs stood.
        self._written[self._key(file)] = replace(add, data_change=False, modification_time=stamp)
