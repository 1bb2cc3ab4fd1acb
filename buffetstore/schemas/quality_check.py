"""What every quality check states, and what its parameters may be."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from buffetstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

Columns: TypeAlias = tuple[str, ...]

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCheck:
    """What every check states.

    Parameters
    ----------
    name:
        How results and metrics call it; made of its kind and what it looks at unless given.
    severity:
        Whether a failure makes the report fail (`error`) or is only told (`warning`).
    bound:
        The share that may fail, 0 to 1.
    on_write:
        Judge every batch as it is stored, too, by its own rows alone.
    """

    name: str = ""
    severity: Literal["error", "warning"] = "error"
    bound: float | None = None
    on_write: bool = False

    kind: ClassVar[str] = ""
    judges_batches: ClassVar[bool] = False
    """Whether a batch alone can be judged, so that `on_write` has a meaning."""
    told_by: ClassVar[Columns] = ()
    """The parameters that tell it from other checks of its kind."""
    columns: ClassVar[Columns] = ()
    """The parameters that name a column."""
    numbers: ClassVar[Columns] = ()
    """The parameters that name a column of numbers."""

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(str(self.name)):
            raise wrong(self, "name", self.name, "at most 80 letters, digits and _ . : -")
        if self.severity not in {"error", "warning"}:
            raise wrong(self, "severity", self.severity, "'error' or 'warning'")
        if self.bound is not None and not (is_number(self.bound) and 0 <= self.bound <= 1):
            raise wrong(self, "bound", self.bound, "a share from 0 to 1, or None")
        if self.on_write and not self.judges_batches:
            raise ConfigurationError(f"{type(self).__name__}(on_write=True): one batch alone does not tell {self.kind}")

    @property
    def label(self) -> str:
        """What results and metrics call it."""
        return self.name or "_".join([self.kind, *(getattr(self, field) for field in self.told_by)])

    def reads(self) -> Iterator[tuple[str, Literal["any", "number"]]]:
        """Yield the columns that it looks at, beside the key, and of what kind they have to be."""
        for field in self.columns:
            yield getattr(self, field), "any"
        for field in self.numbers:
            yield getattr(self, field), "number"
        for column in getattr(self, "by", ()):
            yield column, "any"


def wrong(check: QualityCheck, field: str, value: Any, wanted: str) -> ConfigurationError:
    """Return what to raise for a parameter that cannot be."""
    return ConfigurationError(f"{type(check).__name__}({field}={value!r}): {field} is {wanted}")


def is_number(value: Any) -> bool:
    """Tell whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Tell whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_positive(check: QualityCheck, field: str, value: Any) -> None:
    """Refuse what is no number above 0."""
    if not (is_number(value) and value > 0):
        raise wrong(check, field, value, "a number above 0")


def check_window(check: QualityCheck, window: Any, least: Any) -> None:
    """Refuse a window that cannot be, or that never has enough in it."""
    if not (is_whole(window) and 1 <= window <= 10_000):
        raise wrong(check, "window", window, "a whole number from 1 to 10,000")
    if not (is_whole(least) and 1 <= least <= window):
        raise wrong(check, "least", least, f"a whole number from 1 to the window's {window}")


def check_calendar(check: QualityCheck, calendar: Any) -> None:
    """Refuse what names no calendar."""
    if calendar is not None and not (isinstance(calendar, str) and calendar):
        raise wrong(check, "calendar", calendar, "an exchange's MIC such as 'XNAS', or '24/7'")


def check_columns(check: QualityCheck, names: Any) -> None:
    """Refuse what names no columns."""
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise wrong(check, "columns", names, "names, as a tuple")
