"""Changes of columns that are there: renamed, dropped or widened, in one commit that replaces every data file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError, UnsupportedFeatureError
from buffetstore.expressions import columns_of
from buffetstore.tables.constraints import checks_of
from buffetstore.tables.declaring import DeclaringTable
from buffetstore.tables.features import check_writable, protocol_for
from buffetstore.tables.operations.reshape import Reshape
from buffetstore.tables.properties import STATISTICS_COLUMNS
from buffetstore.tables.schema import field_metadata, schema_from_json, schema_to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.tables.conflicts import Proposal
    from buffetstore.tables.snapshot import Snapshot

    Change = Callable[[pa.Table], pa.Table]

_KEY = "buffetstore.key"


class SchemaChangeMethods(DeclaringTable):
    """Columns renamed, dropped and widened by a rewrite, so that every engine reads the table afterwards as before.

    Earlier versions stay as they were. A column that the table's partitioning, key, constraints or settings mention is
    left alone. Column mapping, which renames without a rewrite, is not written: not every engine reads it rightly.
    """

    async def rename_column(self, name: str, to: str) -> int:
        """Give a column another name. Return the new version.

        Raises
        ------
        InvalidInputError
            There is no such column, there is one of the new name, or something mentions the column.
        CommitConflictError, CommitUnknownError
        """

        def renamed(fields: list[dict[str, Any]], at: int) -> None:
            taken = next((field["name"] for field in fields if field["name"].casefold() == to.casefold()), None)
            if not to or (taken is not None and taken != name):
                there = f"there is {taken!r}" if taken is not None else "a name is not empty"
                raise InvalidInputError(f"column {name!r} of {self.path!r} cannot be renamed to {to!r}: {there}")
            fields[at]["name"] = to

        def change(rows: pa.Table) -> pa.Table:
            return rows.rename_columns([to if each == name else each for each in rows.column_names])

        if name == to:
            self._position(self.snapshot, name)
            return self.version
        return await self._reshape("RENAME COLUMN", name, renamed, change)

    async def drop_column(self, name: str) -> int:
        """Drop a column and its values. Return the new version; earlier versions have it until they are vacuumed.

        Raises
        ------
        InvalidInputError
            There is no such column, it is the only one, or something mentions it.
        CommitConflictError, CommitUnknownError
        """

        def dropped(fields: list[dict[str, Any]], at: int) -> None:
            partitions = self.metadata.partition_columns
            if all(field["name"] == name or field["name"] in partitions for field in fields):
                raise InvalidInputError(f"column {name!r} of {self.path!r} cannot be dropped: it is the last one")
            del fields[at]

        return await self._reshape("DROP COLUMNS", name, dropped, lambda rows: rows.drop_columns([name]))

    async def widen_column(self, name: str, kind: pa.DataType) -> int:
        """Give a column a type that holds all values of its own. Return the new version.

        Whole numbers to wider ones, to decimals and (up to 32 bits) to double; float to double; decimals to more
        digits on either side of the point.

        Raises
        ------
        InvalidInputError
            There is no such column, the type does not hold all values of its own, or something mentions the column.
        UnsupportedFeatureError
            Delta does not have the type.
        CommitConflictError, CommitUnknownError
        """

        def widened(fields: list[dict[str, Any]], at: int) -> None:
            own = self.snapshot.schema.field(name).type
            if not wider(own, kind):
                raise InvalidInputError(
                    f"column {name!r} of {self.path!r} is {own}, whose values do not all fit {kind}: add a column"
                )
            found = json.loads(schema_to_json(pa.schema([(name, kind)])))
            fields[at]["type"] = found["fields"][0]["type"]

        def change(rows: pa.Table) -> pa.Table:
            at = rows.column_names.index(name)
            return rows.set_column(at, rows.schema.field(at).with_type(kind), pc.cast(rows[name], kind))

        if self.snapshot.schema.field(self._position(self.snapshot, name)).type == kind:
            return self.version
        return await self._reshape("CHANGE COLUMN", name, widened, change)

    async def _reshape(
        self, operation: str, name: str, edit: Callable[[list[dict[str, Any]], int], None], change: Change
    ) -> int:
        reshape = Reshape(self._writer, self.path, change)

        async def attempt(snapshot: Snapshot) -> Proposal:
            self._position(snapshot, name)
            _check_unmentioned(snapshot, name)
            body = json.loads(snapshot.metadata.schema_string)
            edit(body["fields"], [field["name"] for field in body["fields"]].index(name))
            schema_string = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
            metadata = replace(snapshot.metadata, schema_string=schema_string)
            schema = schema_from_json(schema_string)
            protocol_for(metadata.configuration, schema)  # refuses the names of a change feed
            check_writable(snapshot.protocol, metadata, schema, self.path)
            try:
                return await reshape.propose(operation, snapshot, metadata)
            except BaseException:
                await reshape.discard()
                raise

        return await self._declare(attempt, removes=True, after_last_conflict=reshape.discard)

    def _position(self, snapshot: Snapshot, name: str) -> int:
        if name not in snapshot.schema.names:
            raise InvalidInputError(
                f"table {self.path!r} has no column {name!r}: there are {', '.join(snapshot.schema.names)}"
            )
        return int(snapshot.schema.get_field_index(name))


def wider(own: pa.DataType, kind: pa.DataType) -> bool:
    """Return whether every value of the first type is one of the second."""
    if pa.types.is_integer(own) and pa.types.is_integer(kind):
        return bool(pa.types.is_signed_integer(kind) and kind.bit_width >= own.bit_width)
    if pa.types.is_integer(own) and pa.types.is_float64(kind):
        return bool(own.bit_width <= 32)
    if pa.types.is_float32(own):
        return bool(pa.types.is_float64(kind))
    if pa.types.is_decimal(kind) and (pa.types.is_integer(own) or pa.types.is_decimal(own)):
        digits, scale = (own.precision - own.scale, own.scale) if pa.types.is_decimal(own) else (_digits(own), 0)
        return bool(kind.scale >= scale and kind.precision - kind.scale >= digits)
    return False


def _digits(kind: pa.DataType) -> int:
    return len(str(2 ** (kind.bit_width - 1)))


def _check_unmentioned(snapshot: Snapshot, name: str) -> None:
    """Refuse to change a column that something else in the table's metadata is about."""
    metadata = snapshot.metadata
    mentions = [
        f"the constraint {check.name!r} ({check.sql})"
        for check in checks_of(snapshot.protocol, metadata)
        if check.holds is not None and name in columns_of(check.holds)
    ]
    if name in metadata.partition_columns:
        mentions.append(f"the partitioning by {', '.join(metadata.partition_columns)}")
    for setting in (_KEY, STATISTICS_COLUMNS):
        told = metadata.configuration.get(setting, "")
        if name in [each.strip().strip("`") for each in told.split(",")]:
            mentions.append(f"{setting} = {told!r}")
    if "delta.typeChanges" in field_metadata(snapshot.schema.field(name)):
        raise UnsupportedFeatureError(
            f"column {name!r} of {snapshot.path!r} has a history of types, which is not written", key=snapshot.path
        )
    if mentions:
        raise InvalidInputError(
            f"column {name!r} of {snapshot.path!r} cannot be changed while it is part of {'; '.join(mentions)}: change "
            "that first, or add a column of the new shape beside it"
        )
