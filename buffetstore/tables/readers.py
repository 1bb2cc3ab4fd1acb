"""Which engines a table promises to be readable by, and what would break the promise.

`buffetstore.readableBy` in a table's configuration names them: `deltalake,polars,duckdb,spark`. A declaration that
needs a reader feature which one of them does not read rightly is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.errors import InvalidInputError, UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.tables.actions import Metadata, Protocol

READABLE_BY = "buffetstore.readableBy"
# What each engine reads rightly. For all but Spark a test reads such a table; deltalake's `to_pyarrow_table` gives
# nulls for the columns of a mapped table and refuses deletion vectors. Spark's are those of Delta Lake 4.
READ_FEATURES: Mapping[str, frozenset[str]] = {
    "deltalake": frozenset({"timestampNtz"}),
    "polars": frozenset({"timestampNtz"}),
    "duckdb": frozenset({"timestampNtz"}),
    "spark": frozenset(
        {"columnMapping", "deletionVectors", "timestampNtz", "typeWidening", "v2Checkpoint", "vacuumProtocolCheck"}
    ),
}


def readable_by(configuration: Mapping[str, str]) -> tuple[str, ...]:
    """Return the engines that the table promises.

    Raises
    ------
    InvalidInputError
        One of them is not known.
    """
    names = [name.strip().lower() for name in configuration.get(READABLE_BY, "").split(",")]
    engines = tuple(dict.fromkeys(name for name in names if name))
    unknown = [name for name in engines if name not in READ_FEATURES]
    if unknown:
        raise InvalidInputError(f"{READABLE_BY} names {unknown[0]!r}: known are {', '.join(READ_FEATURES)}")
    return engines


def check_read_by(protocol: Protocol, metadata: Metadata, table: str) -> None:
    """Raise `UnsupportedFeatureError` when an engine that the table promises would not read it rightly."""
    needed = set(protocol.reader_features)
    if protocol.min_reader_version == 2:
        needed.add("columnMapping")
    for engine in readable_by(metadata.configuration):
        unread = sorted(needed - READ_FEATURES[engine])
        if unread:
            raise UnsupportedFeatureError(
                f"table {table!r} promises to be read by {engine} ({READABLE_BY}), which does not read "
                f"{', '.join(unread)} rightly; take {engine} out of the promise first",
                key=table,
            )
