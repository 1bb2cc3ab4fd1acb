"""How a column of an older version becomes the newer version's, where no cast does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Upcast:
    """A step that reads rows of older versions as the class that declares it::

        upcasts: ClassVar[tuple[Upcast, ...]] = (
            Upcast("dollars", "price", before="2.0.0", function=lambda old: pc.divide(old["price"], 100)),
        )

    Parameters
    ----------
    name:
        A subclass's step of the same name takes the place of this one.
    field:
        The field that it makes.
    before:
        The version from which on the column is right as it is; rows of older versions take the step.
    function:
        Takes the table of old rows (the columns of their own version, and what earlier steps made of them) and returns
        the column; its values are fitted to the field's type as the values of any source are.
    """

    name: str
    field: str
    before: str
    function: Callable[[pa.Table], Any]
