"""The commit of a migration: judged and planned on the newest version, its files brought up beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from buffetstore.resilience.threads import in_thread
from buffetstore.storage.gate import adopted_versions, check_follows, check_same, first_adoption, mode_in
from buffetstore.storage.migration import Migration, MigrationResult
from buffetstore.storage.portable_rules import portable_rules
from buffetstore.tables.constraints import PREFIX
from buffetstore.tables.declaring import declaration
from buffetstore.tables.features import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffetstore.schemas import Contract
    from buffetstore.storage.known_schemas import KnownSchemas
    from buffetstore.tables import DeltaTable, Metadata, Snapshot
    from buffetstore.tables.conflicts import Proposal


async def migrated(
    known: KnownSchemas,
    table: DeltaTable,
    target: Contract,
    *,
    reason: str,
    by: str | None,
    progress: Callable[[int, int], None] | None,
) -> MigrationResult:
    """Bring the table to the target version; see `StoredSchemas.migrate`."""
    mark = await known.mark(target)
    snapshot = await table.refresh()
    if adopted_versions(snapshot.metadata.configuration) == {target.version: mark}:
        return MigrationResult(snapshot.version)
    migration = Migration(table.writer, table.path, target, mark, await _history(known, snapshot, target), progress)
    await migration.take_up()
    await migration.stage(snapshot)  # others may write to the table meanwhile
    planned = snapshot

    async def attempt(newest: Snapshot) -> Proposal | None:
        nonlocal planned
        planned = newest
        migration.history = await _history(known, newest, target)
        changes = await migration.changes(newest)
        metadata = await in_thread(_metadata, newest, migration)
        check_writable(newest.protocol, metadata, migration.schema(newest), newest.path)
        await known.register(target, reason=reason or "migration", by=by)
        told = json.dumps({"schemaVersion": target.version, "schemaFingerprint": mark, "reason": reason})
        return declaration("REPLACE COLUMNS", newest, metadata, user_metadata=told, **changes)

    version = await table.declare(attempt, rewrites=True)
    await migration.forget()
    return migration.result(version, planned)


async def _history(known: KnownSchemas, snapshot: Snapshot, target: Contract) -> Sequence[Contract]:
    """Return the versions that rows of the table have, which the target may follow."""
    configuration = snapshot.metadata.configuration
    adopted = adopted_versions(configuration)
    if not adopted:  # older than gates: its rows have versions of this program
        return known.earlier(target)
    found = await known.history(target.data_type, adopted)
    same = next((each for each in found if each.version == target.version), None)
    if same is not None:
        await in_thread(check_same, target, await known.mark(target), same, adopted[target.version])
    await in_thread(check_follows, target, [each for each in found if each is not same], mode_in(configuration))
    return found


def _metadata(snapshot: Snapshot, migration: Migration) -> Metadata:
    """Return what the table says of itself from then on."""
    configuration = snapshot.metadata.configuration
    # Constraints that were exported of the versions that go, and those of the one that comes.
    ours = {f"{PREFIX}{name}" for each in migration.history for name in portable_rules(each).checks}
    held = {name: value for name, value in configuration.items() if name not in ours}
    if len(held) < len(configuration):
        checks = portable_rules(migration.target).checks
        held |= {f"{PREFIX}{name}": sql for name, sql in checks.items()}
    return migration.metadata(snapshot, held | first_adoption(migration.target, migration.mark, mode_in(configuration)))
