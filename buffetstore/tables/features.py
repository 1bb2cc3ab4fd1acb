"""What we can read and what we can write; everything else is refused by name.

Source: Delta protocol, "Valid Feature Names in Table Features", "Reader / Writer Version Requirements".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.errors import InvalidInputError, UnsupportedFeatureError
from buffetstore.tables.actions import Protocol
from buffetstore.tables.constraints import PREFIX, checks_of, with_constraints
from buffetstore.tables.schema import field_metadata, mapping_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from buffetstore.tables.actions import Metadata

READABLE = frozenset(
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
MAPPINGS = {"none", "name", "id"}
# Supported as long as the table does not use them, which `_active` finds out.
WRITABLE = frozenset(
    {
        "appendOnly",
        "invariants",
        "checkConstraints",
        "changeDataFeed",
        "generatedColumns",
        "identityColumns",
        "allowColumnDefaults",
        "vacuumProtocolCheck",
    }
)
CHANGE_FEED = "delta.enableChangeDataFeed"
# The columns of a change feed, besides the table's own.
CHANGE_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")
MAX_READER_VERSION = 3
MAX_WRITER_VERSION = 7


def check_readable(protocol: Protocol, metadata: Metadata, table: str) -> None:
    """Raise `UnsupportedFeatureError` unless the table can be read rightly."""
    if protocol.min_reader_version > MAX_READER_VERSION:
        _refuse(table, "read", [f"reader version {protocol.min_reader_version}"])
    unknown = sorted(set(protocol.reader_features) - READABLE)
    if (mapping := mapping_of(metadata)) not in MAPPINGS:
        unknown.append(f"columnMapping mode {mapping}")
    if metadata.provider != "parquet":
        unknown.append(f"format {metadata.provider}")
    if unknown:
        _refuse(table, "read", unknown)


def check_writable(protocol: Protocol, metadata: Metadata, schema: pa.Schema, table: str) -> None:
    """Raise `UnsupportedFeatureError` unless the table can be written rightly."""
    check_readable(protocol, metadata, table)
    if protocol.min_writer_version > MAX_WRITER_VERSION:
        _refuse(table, "written", [f"writer version {protocol.min_writer_version}"])
    unknown = set(protocol.writer_features) - WRITABLE
    unknown.update(_active(protocol, metadata, schema))
    if unknown:
        _refuse(table, "written", sorted(unknown))


def is_append_only(metadata: Metadata) -> bool:
    """Return whether rows may be added only."""
    return metadata.configuration.get("delta.appendOnly", "false").lower() == "true"


def writes_changes(protocol: Protocol, metadata: Metadata) -> bool:
    """Return whether commits have to tell the rows that they change (`delta.enableChangeDataFeed`)."""
    version = protocol.min_writer_version
    known = "changeDataFeed" in protocol.writer_features if version >= MAX_WRITER_VERSION else version >= 4
    return known and _enabled(metadata.configuration)


def protocol_for(configuration: Mapping[str, str], schema: pa.Schema) -> Protocol:
    """Return the lowest protocol that serves a new table with this configuration and schema.

    Raises
    ------
    InvalidInputError
        The table is to have a change feed, and has a column whose name is one of the feed's own.
    """
    lowest = Protocol()
    if any(name.startswith(PREFIX) for name in configuration):
        lowest = with_constraints(lowest)
    if not _enabled(configuration):
        return lowest
    taken = [name for name in schema.names if name.lower() in CHANGE_COLUMNS]
    if taken:
        raise InvalidInputError(
            f"column {taken[0]!r}: a table with a change feed ({CHANGE_FEED}) cannot have this name"
        )
    return Protocol(1, 4)


def lacking(protocol: Protocol, other: Protocol) -> list[str]:
    """Return what `other` asks for and `protocol` does not."""
    found = [f"reader version {other.min_reader_version}"] * (other.min_reader_version > protocol.min_reader_version)
    found += [f"writer version {other.min_writer_version}"] * (other.min_writer_version > protocol.min_writer_version)
    held = {*protocol.reader_features, *protocol.writer_features}
    # Below version 7 features are implied by versions, which are all that can be compared.
    wanted = {*other.reader_features, *other.writer_features} if protocol.min_writer_version >= 7 else set()
    return found + sorted(wanted - held)


def _enabled(configuration: Mapping[str, str]) -> bool:
    return configuration.get(CHANGE_FEED, "false").lower() == "true"


def _active(protocol: Protocol, metadata: Metadata, schema: pa.Schema) -> Iterator[str]:
    if mapping_of(metadata) != "none":
        yield "columnMapping"
    for check in checks_of(protocol, metadata):
        if check.holds is None:
            yield f"the constraint {check.name!r} ({check.sql}: {check.fault})"
    for field in schema:
        held = field_metadata(field)
        if "delta.generationExpression" in held:
            yield "generatedColumns"
        if "CURRENT_DEFAULT" in held:
            yield "allowColumnDefaults"
        if any(name.startswith("delta.identity.") for name in held):
            yield "identityColumns"


def _refuse(table: str, verb: str, features: list[str]) -> None:
    raise UnsupportedFeatureError(
        f"table {table!r} cannot be {verb}: it needs {', '.join(features)}, which is not supported", key=table
    )
