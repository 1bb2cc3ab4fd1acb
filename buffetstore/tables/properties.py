"""What a table's configuration says about itself. Source: Delta protocol and "Delta table properties reference"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_UNITS["week"] = 7 * _UNITS["day"]
_PART = re.compile(r"(\d+)\s*([a-z]+?)s?(?:\s+|$)")
_INTERVAL = re.compile(r"(?:interval\s+)?((?:\d+\s*[a-z]+\s*)+)")

LOG_RETENTION = "delta.logRetentionDuration"
FILE_RETENTION = "delta.deletedFileRetentionDuration"
TRANSACTION_RETENTION = "delta.setTransactionRetentionDuration"
CHECKPOINT_INTERVAL = "delta.checkpointInterval"
LOG_CLEANUP = "delta.enableExpiredLogCleanup"


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
    """Raise `InvalidInputError` for a property whose value cannot be read, before it is in the log for ever."""
    known = Properties(configuration)
    for name in ("checkpoint_interval", "log_retention", "deleted_file_retention", "transaction_retention"):
        getattr(known, name)
