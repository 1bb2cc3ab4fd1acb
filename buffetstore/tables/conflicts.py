"""May a commit follow one that it did not know of? Pure decisions, after the fact, over what both changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.tables.actions import Protocol
from buffetstore.tables.constraints import same_checks
from buffetstore.tables.file_actions import adds_together, paths_of, write_entry
from buffetstore.tables.file_table import from_actions
from buffetstore.tables.log import Entry
from buffetstore.tables.log_columns import AddColumns, add_columns
from buffetstore.tables.properties import SCHEMA_VERSIONS
from buffetstore.tables.pruning import prune
from buffetstore.tables.schema import schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.expressions import Expression
    from buffetstore.objects.base import Data
    from buffetstore.tables.actions import Action, AddFile, CdcFile, CommitInfo, Metadata, RemoveFile, Txn
    from buffetstore.tables.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a writer wants to commit, and what it relied on.

    Parameters
    ----------
    operation:
        Delta's word for it: `WRITE`, `MERGE`, `DELETE`...
    adds, restores:
        Data files written for this commit, which go when it fails; and files of earlier versions, which never do.
    removes:
        Data files that go. Of these and of `restores` there may be as many as the table has: they are columns then
        (`buffetstore.tables.file_actions`), and not taken as values.
    cdc:
        Files written for this commit with the rows that it changes.
    reads:
        Rows that satisfy this were read: a file added meanwhile that may hold such a row is a conflict. None means
        that nothing was read (a blind append).
    txns:
        What makes the write known, so that it lands once.
    metrics:
        What `commitInfo` says was done: Delta's words for it.
    parameters:
        What `commitInfo` says was asked for.
    alone:
        Whatever else is committed meanwhile is a conflict.
    writes:
        How many appends these are; more than one where they are committed as a group.
    """

    operation: str
    adds: tuple[AddFile, ...] = ()
    removes: Sequence[RemoveFile] = ()
    metadata: Metadata | None = None
    first_actions: tuple[Action, ...] = ()
    txns: tuple[Txn, ...] = ()
    reads: Expression | None = None
    user_metadata: str | None = None
    metrics: Mapping[str, int] = field(default_factory=dict)
    writes: int = 1
    cdc: tuple[CdcFile, ...] = ()
    restores: Sequence[AddFile] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False

    @property
    def blind(self) -> bool:
        """Whether rows are added only, without having looked at the table's rows."""
        return self.reads is None and not (self.removes or self.restores or self.alone) and self.metadata is None

    @property
    def written(self) -> tuple[str, ...]:
        """The files that were written for this commit."""
        return (*(add.path for add in self.adds), *(cdc.path for cdc in self.cdc))

    def body(self, info: CommitInfo) -> Data:
        """Return the log entry of the commit; call it in a thread."""
        metadata = (self.metadata,) if self.metadata is not None else ()
        first = (info, *self.first_actions, *metadata, *self.txns)
        return write_entry(first, self.removes, adds_together(self.restores, self.adds), self.cdc)

    def entry(self, version: int, info: CommitInfo) -> Entry:
        """Return the same as a value, which need not be read again from its text; call it in a thread."""
        return Entry(
            version,
            info,
            protocol=next((each for each in self.first_actions if isinstance(each, Protocol)), None),
            metadata=self.metadata,
            adds=adds_together(self.restores, self.adds),
            removes=self.removes,
            txns=self.txns,
            cdcs=self.cdc,
        )


def conflict(proposal: Proposal, seen: Snapshot, winners: Sequence[Entry]) -> str | None:
    """Return why `proposal`, made on `seen`, may not follow the entries that came first; None when it may."""
    return next((reason for winner in winners if (reason := _conflict(proposal, seen, winner)) is not None), None)


def outgrown(proposal: Proposal, seen: Snapshot, head: Snapshot) -> str | None:
    """Return why a proposal made on `seen` does not belong in the later `head`; None when it does.

    It is for proposals that read no rows but those of the files that they replace.
    """
    if head is seen:
        return None
    if proposal.alone:
        return "something else was committed"
    if head.protocol != seen.protocol:
        return "the protocol was changed"
    if head.metadata != seen.metadata and not (proposal.blind and _still_fits(seen, head.metadata)):
        return "the table's metadata was changed"
    if proposal.removes and (gone := head.missing(paths_of(proposal.removes))) is not None:
        return f"data file {gone!r}, which was read, has been removed"
    return None


def _conflict(proposal: Proposal, seen: Snapshot, winner: Entry) -> str | None:
    if proposal.alone:
        return "something else was committed"
    if winner.protocol is not None and winner.protocol != seen.protocol:
        return "the protocol was changed"
    if winner.metadata is not None and not (proposal.blind and _still_fits(seen, winner.metadata)):
        return "the table's metadata was changed"
    ours_too = {txn.app_id for txn in proposal.txns} & {txn.app_id for txn in winner.txns}
    if ours_too:
        return f"application {min(ours_too)!r} committed something else"
    if (both := _first_common(winner.removes, proposal.removes)) is not None:
        return f"data file {both!r}, which was read, has been removed"
    if proposal.reads is not None and (added := _overlapping(proposal.reads, seen, winner)) is not None:
        return f"data file {added!r}, which may hold rows of the same keys, has been added"
    return None


def _still_fits(seen: Snapshot, metadata: Metadata) -> bool:
    """Return whether rows made for the schema that was seen belong in the table as it is now."""
    if metadata.partition_columns != seen.partition_columns or not same_checks(metadata, seen.metadata):
        return False
    # What the gate of governed tables let in then must be let in still; more may be.
    if not _schema_versions(seen.metadata) <= _schema_versions(metadata):
        return False
    now = schema_of(metadata)
    same = all(field.name in now.names and _holds(now.field(field.name), field) for field in seen.schema)
    known = set(seen.schema.names)
    return same and all(field.nullable for field in now if field.name not in known)


def _holds(now: pa.Field, then: pa.Field) -> bool:
    """Return whether the column takes what it took then."""
    return bool(now.type == then.type and (now.nullable or not then.nullable))


def _schema_versions(metadata: Metadata) -> set[str]:
    return set(filter(None, metadata.configuration.get(SCHEMA_VERSIONS, "").split(",")))


def _first_common(removes: Sequence[RemoveFile], others: Sequence[RemoveFile]) -> str | None:
    if not removes or not others:
        return None
    paths = paths_of(removes)
    both = paths.filter(pc.is_in(paths, value_set=paths_of(others)))
    return both[0].as_py() if len(both) else None


def _overlapping(reads: Expression, seen: Snapshot, winner: Entry) -> str | None:
    added = add_columns(winner.adds)
    changing = added.batch["data_change"].to_numpy(zero_copy_only=False)
    if not changing.any():
        return None
    files = from_actions(
        AddColumns(added.batch.filter(pa.array(changing)), added.statistics.filter(changing)),
        [winner.version] * int(changing.sum()),
        seen.schema,
        seen.partition_columns,
    )
    found = prune(files, reads)
    return found["path"][0].as_py() if found.num_rows else None
