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
import pyarrow.compute as pc

from buffetstore.errors import StorageError
from buffetstore.expressions import ALWAYS
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, ordered, unhurried
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.file_actions import each_file, removed, texts
from buffetstore.tables.log import join
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
        files = snapshot.files
        keys = await in_thread(texts, _keys(files))
        missing = files.filter(pa.array([key not in self._written for key in keys], pa.bool_()))
        stamps = missing["modification_time"].cast(pa.int64()).to_numpy()
        calls = (
            partial(self._rewrite, snapshot, file, int(stamp))
            for file, stamp in zip(each_file(missing), stamps, strict=True)
        )
        sizes = (int(size) * _ARROW_BYTES for size in missing["size"].to_numpy())
        async with aclosing(ordered(calls, sizes, bytes_in_flight=self.bytes_in_flight)) as done:
            async for _ in done:
                pass
        await self.discard(self._written.keys() - set(keys))
        adds = [add for key in keys if (add := self._written[key]) is not None]
        gone = await in_thread(removed, files, data_change=False)
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

    async def _rewrite(self, snapshot: Snapshot, file: Mapping[str, Any], stamp: int) -> None:
        key = f"{file['path']}\0{file['deletion_vector'] or ''}"
        rows = await read_file(self.writer.store, snapshot, file, formatter=self.writer.formatter)
        if not rows.num_rows:
            self._written[key] = None
            return
        changed = await in_thread(self.change, rows)
        part = self.writer.replacing(snapshot, file, changed)
        if keeps_revisions(snapshot.metadata):
            part = replace(part, tags={**version_tag(file["commit_version"]), **part.tags})
        (add,) = await self.writer.write_parts(snapshot, [part])
        # The rows were there before: the file stands where theirs stood.
        self._written[key] = replace(add, data_change=False, modification_time=stamp)


def _keys(files: pa.Table) -> pa.ChunkedArray:
    """Return what names each file's rows: a file that lost other rows is another one."""
    return pc.binary_join_element_wise(files["path"], pc.fill_null(files["deletion_vector"], ""), "\0")
