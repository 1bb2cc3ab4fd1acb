"""What a table's configuration says about itself. Source: Delta protocol and "Delta table properties reference"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buffetstore.errors import InvalidInputError, UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_UNITS = {"millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_UNITS["week"] = 7 * _UNITS["day"]
_PART = re.compile(r"(\d+)\s*([a-z]+?)s?(?:\s+|$)")
_INTERVAL = re.compile(r"(?:interval\s+)?((?:\d+\s*[a-z]+\s*)+)")

LOG_RETENTION = "delta.logRetentionDuration"
FILE_RETENTION = "delta.deletedFileRetentionDuration"
TRANSACTION_RETENTION = "delta.setTransactionRetentionDuration"
CHECKPOINT_INTERVAL = "delta.checkpointInterval"
LOG_CLEANUP = "delta.enableExpiredLogCleanup"
CONSTRAINT = "delta.constraints."
INDEXED_COLUMNS = "delta.dataSkippingNumIndexedCols"
STATISTICS_COLUMNS = "delta.dataSkippingStatsColumns"
SCHEMA_VERSIONS = "buffetstore.schemaVersions"
"""Our own: which versions of its contract a table takes, as `version:fingerprint`, by comma."""


def milliseconds(interval: str) -> int:
    """Return the length of an interval such as `interval 7 days` or `interval 1 hour 30 minutes`.

    Raises
    ------
    InvalidInputError
        It is not one: months and years have no fixed length.
    """
    text = interval.strip().lower()
    if _INTERVAL.fullmatch(text) is None:
        raise InvalidInputError(f"{interval!r} is no interval: write 'interval 7 days'")
    total = 0
    for count, unit in _PART.findall(text.removeprefix("interval").strip()):
        if unit not in _UNITS:
            raise InvalidInputError(f"{interval!r} has the unit {unit!r}: known are {', '.join(_UNITS)}")
        total += int(count) * _UNITS[unit]
    return total


@dataclass(frozen=True, slots=True)
class Properties:
    """Typed properties, with the protocol's defaults; durations are in milliseconds."""

    configuration: Mapping[str, str]

    @property
    def checkpoint_interval(self) -> int:
        """Commits from one checkpoint to the next."""
        text = self.configuration.get(CHECKPOINT_INTERVAL, "100")
        if not text.isdecimal() or int(text) < 1:
            raise InvalidInputError(f"{CHECKPOINT_INTERVAL} is {text!r}: it must be a positive number")
        return int(text)

    @property
    def log_retention(self) -> int:
        """How long entries are kept although a checkpoint has come after them."""
        return milliseconds(self.configuration.get(LOG_RETENTION, "interval 30 days"))

    @property
    def deleted_file_retention(self) -> int:
        """How long files are kept that the newest version does not have any more."""
        return milliseconds(self.configuration.get(FILE_RETENTION, "interval 1 week"))

    @property
    def transaction_retention(self) -> int | None:
        """How long idempotency keys are known; None is for ever."""
        text = self.configuration.get(TRANSACTION_RETENTION)
        return None if text is None else milliseconds(text)

    @property
    def cleans_log(self) -> bool:
        """Whether entries older than `log_retention` are deleted."""
        return self.configuration.get(LOG_CLEANUP, "true").lower() == "true"


def check_properties(configuration: Mapping[str, str]) -> None:
    """Refuse what the table could not keep, before it is in the log for ever.

    Raises
    ------
    InvalidInputError
        A property of Delta's whose name is not known or whose value cannot be read.
    UnsupportedFeatureError
        It turns on something that is not written.
    """
    for name, value in configuration.items():
        if name.startswith("delta.") and not name.startswith(CONSTRAINT):
            _check_property(name, value)


def changed_configuration(
    held: Mapping[str, str], properties: Mapping[str, Any], unset: Collection[str]
) -> dict[str, str]:
    """Return the configuration with these properties set and those of `unset` taken away.

    Raises
    ------
    InvalidInputError, UnsupportedFeatureError
    """
    both = sorted(set(properties) & set(unset))
    if both:
        raise InvalidInputError(f"property {both[0]!r} is to be set and to be unset")
    for name in (*properties, *unset):
        if name.startswith(CONSTRAINT):
            raise InvalidInputError(f"{name} is a constraint: use add_constraint and drop_constraint")
        if not name or name.startswith("delta.columnMapping."):
            raise InvalidInputError(f"property {name!r} cannot be set or unset")
    wrong = [name for name, value in properties.items() if not isinstance(value, str)]
    if wrong:
        raise InvalidInputError(f"property {wrong[0]!r} is {properties[wrong[0]]!r}: properties are texts")
    check_properties(properties)
    return {name: value for name, value in {**held, **properties}.items() if name not in unset}


def _check_property(name: str, value: str) -> None:
    refused = _REFUSED.get(name)
    if refused is not None or name.startswith("delta.feature."):
        feature, off = refused or (name.removeprefix("delta.feature."), "")
        if value.lower() != off:
            raise UnsupportedFeatureError(f"{name} = {value!r} needs {feature}, which is not written")
        return
    check = _KNOWN.get(name)
    if check is None:
        raise InvalidInputError(
            f"{name} is no property of Delta tables that is known here: names of your own do not begin with 'delta.'"
        )
    try:
        check(value)
    except ValueError as error:
        reason = str(error) if isinstance(error, InvalidInputError) else f"it must be {error}"
        raise InvalidInputError(f"{name} is {value!r}: {reason}") from error


def _one_of(*allowed: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value.lower() not in {each.lower() for each in allowed}:
            raise ValueError(" or ".join(allowed))

    return check


def _number_from(least: int) -> Callable[[str], None]:
    def check(value: str) -> None:
        if re.fullmatch(r"-?\d{1,9}", value) is None or int(value) < least:
            raise ValueError("a positive number" if least == 1 else f"a number from {least}")

    return check


def _text(value: str) -> None:
    if not value.strip():
        raise ValueError("a text that is not empty")


def _size(value: str) -> None:
    if re.fullmatch(r"\d+\s*([kmgt]b?|b)?", value.strip().lower()) is None:
        raise ValueError("a size in bytes, such as 134217728 or 128mb")


_truth = _one_of("true", "false")
_interval: Callable[[str], object] = milliseconds
_KNOWN: Mapping[str, Callable[[str], object]] = {
    "delta.appendOnly": _truth,
    "delta.autoOptimize.autoCompact": _one_of("true", "false", "auto"),
    "delta.autoOptimize.optimizeWrite": _truth,
    "delta.checkpoint.writeStatsAsJson": _truth,
    "delta.checkpoint.writeStatsAsStruct": _truth,
    CHECKPOINT_INTERVAL: _number_from(1),
    INDEXED_COLUMNS: _number_from(-1),
    STATISTICS_COLUMNS: _text,
    FILE_RETENTION: _interval,
    "delta.enableChangeDataFeed": _truth,
    LOG_CLEANUP: _truth,
    "delta.isolationLevel": _one_of("Serializable", "WriteSerializable", "SnapshotIsolation"),
    LOG_RETENTION: _interval,
    "delta.randomizeFilePrefixes": _truth,
    "delta.randomPrefixLength": _number_from(1),
    TRANSACTION_RETENTION: _interval,
    "delta.targetFileSize": _size,
    "delta.tuneFileSizesForRewrites": _truth,
}
# What each of them needs, and the value at which it needs nothing.
_REFUSED: Mapping[str, tuple[str, str]] = {
    "delta.checkpointPolicy": ("v2Checkpoint", "classic"),
    "delta.columnMapping.mode": ("columnMapping", "none"),
    "delta.compatibility.symlinkFormatManifest.enabled": ("symlink manifests", "false"),
    "delta.enableDeletionVectors": ("deletionVectors", "false"),
    "delta.enableIcebergCompatV1": ("icebergCompatV1", "false"),
    "delta.enableIcebergCompatV2": ("icebergCompatV2", "false"),
    "delta.enableInCommitTimestamps": ("inCommitTimestamp", "false"),
    "delta.enableRowTracking": ("rowTracking", "false"),
    "delta.enableTypeWidening": ("typeWidening", "false"),
    "delta.minReaderVersion": ("the protocol to be raised by hand", ""),
    "delta.minWriterVersion": ("the protocol to be raised by hand", ""),
    "delta.universalFormat.enabledFormats": ("Iceberg or Hudi metadata", ""),
}
