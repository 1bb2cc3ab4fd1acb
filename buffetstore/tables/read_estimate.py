"""What reading data files will take, as far as it can be told without asking the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.formats.chunks import together
from buffetstore.formats.footer import contents_of
from buffetstore.tables.file_actions import each_file
from buffetstore.tables.reading import constants_of, wanted_of
from buffetstore.tables.row_group_index import footer_told
from buffetstore.tables.row_groups import UNKNOWN_WHOLE_BYTES, WHOLE_SHARE, is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.tables.row_groups import Wanted
    from buffetstore.tables.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ReadEstimate:
    """What reading some files takes, with nothing in memory.

    Parameters
    ----------
    files, bytes, requests:
        That are read; bytes are what requests bring, gaps between column chunks included.
    row_groups, row_groups_known:
        Row groups that are read of files whose footers are known, and how many there are in these.
    footers:
        Files whose footers have to be read before it is known what else: one round trip more, and a guess in `bytes`.
    """

    files: int = 0
    bytes: int = 0
    requests: int = 0
    row_groups: int = 0
    row_groups_known: int = 0
    footers: int = 0

    def __add__(self, other: ReadEstimate) -> ReadEstimate:
        return ReadEstimate(
            self.files + other.files,
            self.bytes + other.bytes,
            self.requests + other.requests,
            self.row_groups + other.row_groups,
            self.row_groups_known + other.row_groups_known,
            self.footers + other.footers,
        )


def estimate_reads(
    snapshot: Snapshot, files: pa.Table, columns: Sequence[str] | None, predicate: Expression | None
) -> ReadEstimate:
    """Return what `read_tables` would take; it parses footers, so call it in a thread."""
    wanted = wanted_of(snapshot, columns, predicate)
    found = ReadEstimate()
    for file in each_file(files):
        found += _estimate(snapshot, file, wanted)
        if file["deletion_vector"] is not None:
            found += ReadEstimate(requests=1)
    return found


def _estimate(snapshot: Snapshot, file: Mapping[str, Any], wanted: Wanted) -> ReadEstimate:
    size = file["size"]
    whole = ReadEstimate(1, size, 1)
    if is_whole(size, wanted):
        return whole
    metadata = footer_told(snapshot.row_groups, file)
    if metadata is None:
        if size <= UNKNOWN_WHOLE_BYTES:
            return whole
        return ReadEstimate(1, int(size * wanted.share), 2, footers=1)
    constants = constants_of(snapshot, file) if snapshot.partition_columns else None
    contents = contents_of(metadata, wanted.schema, wanted.stored, constants)
    groups = contents.groups(wanted.predicate)
    spans = together(contents.ranges(wanted.names, groups))
    read = sum(end - start for start, end in spans)
    every = metadata.num_row_groups
    if read > WHOLE_SHARE * size:
        return ReadEstimate(1, size, 1, every, every)
    return ReadEstimate(1, read, len(spans), len(groups), every)
