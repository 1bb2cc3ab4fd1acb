"""Commits that change what a table says about itself, planned anew where others came first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffetstore.errors import CommitConflictError
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.features import check_writable
from buffetstore.tables.readers import check_read_by
from buffetstore.tables.writable import MAX_PLANS, WritableTable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.tables.actions import Metadata, Protocol
    from buffetstore.tables.operations.write import Writer
    from buffetstore.tables.snapshot import Snapshot


class DeclaringTable(WritableTable):
    """A table whose metadata can be changed."""

    @property
    def writer(self) -> Writer:
        """What writes and reads this table's data files."""
        return self._writer

    async def declare(
        self, attempt: Callable[[Snapshot], Awaitable[Proposal | None]], *, rewrites: bool = False
    ) -> int:
        """Commit a change of metadata that is decided on the newest version. Return the version that has it.

        Parameters
        ----------
        attempt:
            Makes the commit of a version (see `declaration`), None where there is nothing to change; it is asked again
            whenever another commit came first, and may refuse by raising, which leaves the table as it is.
        rewrites:
            The commit replaces data files. Those that it adds are the caller's while it is tried again, and after.

        Raises
        ------
        CommitConflictError, CommitUnknownError
        """

        async def keep() -> None:
            """Leave the files of the last plan to the caller."""

        return await self._declare(attempt, removes=rewrites, after_last_conflict=keep if rewrites else None)

    async def _declare(
        self,
        attempt: Callable[[Snapshot], Awaitable[Proposal | None]],
        *,
        removes: bool = False,
        after_last_conflict: Callable[[], Awaitable[None]] | None = None,
    ) -> int:
        """Commit what `attempt` makes of the newest version, and make it again where others changed that.

        Files of a plan that lost are kept for the next where `after_last_conflict` deletes them in the end.
        """
        head = self._head
        self._check_writable(removes=removes)
        async with head.lock:
            for _ in range(MAX_PLANS):
                snapshot = await head.refresh()
                self._check_writable(removes=removes)
                proposal = await attempt(snapshot)
                if proposal is None:
                    return snapshot.version
                try:
                    committed = await head.commit(snapshot, proposal, keep_on_conflict=after_last_conflict is not None)
                except CommitConflictError:
                    continue
                return committed.snapshot.version
            if after_last_conflict is not None:
                await after_last_conflict()
        raise CommitConflictError(
            f"table {self.path!r} was changed by others during each of {MAX_PLANS} plans; try again when fewer write",
            key=self.path,
        )


def declaration(
    operation: str, snapshot: Snapshot, metadata: Metadata, protocol: Protocol | None = None, **details: Any
) -> Proposal:
    """Return the commit that changes the metadata, and the protocol where it must."""
    raised = protocol if protocol is not None else snapshot.protocol
    check_writable(raised, metadata, snapshot.schema, snapshot.path)
    check_read_by(raised, metadata, snapshot.path)
    first = (raised,) if raised != snapshot.protocol else ()
    return Proposal(operation, metadata=metadata, first_actions=first, **details)
