"""What a table says about itself: constraints and properties. Each change is one commit of metadata."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from buffetstore.errors import ConstraintViolationError, InvalidInputError
from buffetstore.expressions import ALWAYS, Or
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.constraints import PREFIX, check_rows, compiled_check, violation, with_constraints
from buffetstore.tables.declaring import declaration
from buffetstore.tables.features import protocol_for
from buffetstore.tables.properties import changed_configuration
from buffetstore.tables.reading import read_tables
from buffetstore.tables.schema_changes import SchemaChangeMethods

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from buffetstore.expressions import Expression
    from buffetstore.tables.actions import Metadata, Protocol
    from buffetstore.tables.conflicts import Proposal
    from buffetstore.tables.constraints import Check
    from buffetstore.tables.snapshot import Snapshot


class DeclarationMethods(SchemaChangeMethods):
    """Constraints, properties and columns of a table."""

    async def add_constraint(self, name: str, predicate: Expression | str) -> int:
        """Make every writer refuse rows of which the predicate is not true. Return the new version.

        See `add_constraints`.
        """
        return await self.add_constraints({name: predicate})

    async def add_constraints(self, constraints: Mapping[str, Expression | str]) -> int:
        """Declare CHECK constraints in one commit, after holding the stored rows to them. Return the new version.

        Every engine that writes to the table holds its rows to them from then on (`delta.constraints.<name>`). A
        predicate is an expression, or SQL of comparisons, IN, BETWEEN, IS NULL, AND, OR and NOT. It must be true:
        where null is allowed, say so (`n IS NULL OR n >= 0`). The table then needs writer version 3, which
        deltalake, Polars and Spark write, and DuckDB (1.5) does not.

        Raises
        ------
        InvalidInputError
            A constraint of this name is there, or the predicate is not read alike by all engines.
        ConstraintViolationError
            Stored rows break it; nothing was changed.
        CommitConflictError, CommitUnknownError
        """

        async def attempt(snapshot: Snapshot) -> Proposal:
            schema, held = snapshot.schema, snapshot.metadata.configuration
            checks = await in_thread(
                lambda: [compiled_check(name, predicate, schema) for name, predicate in constraints.items()]
            )
            _check_new([check.name for check in checks], held, self.path)
            await self._hold_stored(snapshot, checks)
            metadata = replace(
                snapshot.metadata, configuration={**held, **{PREFIX + check.name: check.sql for check in checks}}
            )
            # Rows that come meanwhile were not held to it.
            return declaration("ADD CONSTRAINT", snapshot, metadata, with_constraints(snapshot.protocol), reads=ALWAYS)

        return await self._declare(attempt) if constraints else self.version

    async def drop_constraint(self, name: str) -> int:
        """Let rows pass that break this constraint. Return the new version; the protocol stays as it is.

        Raises
        ------
        InvalidInputError
            There is no such constraint.
        CommitConflictError, CommitUnknownError
        """

        async def attempt(snapshot: Snapshot) -> Proposal:
            held = snapshot.metadata.configuration
            found = [key for key in held if key.casefold() == (PREFIX + name).casefold()]
            if not found:
                names = ", ".join(sorted(key.removeprefix(PREFIX) for key in held if key.startswith(PREFIX)))
                raise InvalidInputError(f"table {self.path!r} has no constraint {name!r}: there are {names or 'none'}")
            rest = {key: value for key, value in held.items() if key not in found}
            return declaration("DROP CONSTRAINT", snapshot, replace(snapshot.metadata, configuration=rest))

        return await self._declare(attempt)

    async def set_properties(self, properties: Mapping[str, str], *, unset: Collection[str] = ()) -> int:
        """Set table properties, and take some back, in one commit. Return the new version.

        Delta's own properties (`delta.*`) are checked; all other names are the caller's. A property that is set as it
        is already is no change, and where nothing changes nothing is committed.

        Raises
        ------
        InvalidInputError
            A value that the property cannot have, a `delta.*` name that is not known, or a name in both arguments.
        UnsupportedFeatureError
            The property turns on something that is not written (column mapping, deletion vectors, ...), or that an
            engine named in `buffetstore.readableBy` does not read.
        CommitConflictError, CommitUnknownError
        """

        async def attempt(snapshot: Snapshot) -> Proposal | None:
            held = snapshot.metadata.configuration
            wanted = changed_configuration(held, properties, unset)
            if wanted == held:
                return None
            metadata = replace(snapshot.metadata, configuration=wanted)
            return declaration("SET TBLPROPERTIES", snapshot, metadata, _raised(snapshot, metadata))

        return await self._declare(attempt)

    async def _hold_stored(self, snapshot: Snapshot, checks: list[Check]) -> None:
        """Hold the stored rows to the checks, of those files that may break one."""
        broken = Or(tuple(violation(check.holds) for check in checks if check.holds is not None))
        files = await in_thread(snapshot.prune, broken)
        read = read_tables(self.store, snapshot, files, formatter=self._formatter)
        async with aclosing(read) as tables:
            async for table in tables:
                try:
                    await in_thread(check_rows, table, checks, self.path)
                except ConstraintViolationError as error:
                    raise ConstraintViolationError(
                        f"{error}; delete or mend the stored rows that break it, then declare it",
                        key=self.path,
                        constraint=error.constraint,
                        rows=error.rows,
                    ) from error


def _check_new(names: list[str], held: Mapping[str, str], table: str) -> None:
    there = {key.removeprefix(PREFIX).lower() for key in held if key.startswith(PREFIX)}
    twice = [name for name in names if name in there or names.count(name) > 1]
    if twice:
        raise InvalidInputError(f"table {table!r} has a constraint {twice[0]!r} already: drop it first")


def _raised(snapshot: Snapshot, metadata: Metadata) -> Protocol:
    """Return the protocol that serves the metadata: what it is, or raised by as little as that needs."""
    wanted, protocol = protocol_for(metadata.configuration, snapshot.schema), snapshot.protocol
    if protocol.min_writer_version >= 7:
        features = ("changeDataFeed",) if wanted.min_writer_version >= 4 else ()
        return replace(protocol, writer_features=tuple(dict.fromkeys((*protocol.writer_features, *features))))
    return replace(protocol, min_writer_version=max(protocol.min_writer_version, wanted.min_writer_version))
