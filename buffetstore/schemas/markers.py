"""What an annotation says of a column beside its type: unit, sensitivity, the names that it had before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from buffetstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit that a column's numbers are in: ``Annotated[Price, Unit("USD")]``."""

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigurationError(f"Unit({self.name!r}) names no unit: write Unit('USD'), Unit('percent')")


class Sensitivity(StrEnum):
    """Who may see a column: ``Annotated[str, Sensitivity.CONFIDENTIAL]``, or ``Sensitivity("confidential")``.

    Values of confidential and secret columns are left out of messages.
    """

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    SECRET = "secret"  # noqa: S105 - the word, not one

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ConfigurationError(f"sensitivity {value!r} is none of {', '.join(cls)}")

    @property
    def is_withheld(self) -> bool:
        """Whether messages leave the value out."""
        return self in {Sensitivity.CONFIDENTIAL, Sensitivity.SECRET}


@dataclass(frozen=True, slots=True, init=False)
class Aliases:
    """Names that a column had in earlier versions, for old files: ``Annotated[Price, Aliases("last")]``."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        if not names or not all(names):
            raise ConfigurationError(f"Aliases{names!r} names no column: write Aliases('px_last')")
        object.__setattr__(self, "names", names)
