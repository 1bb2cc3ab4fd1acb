"""Data types that installed packages bring along, by entry point; loaded when they are asked for.

::

    [project.entry-points."buffetstore.data_types"]
    weather = "my_package.types:Weather"

The name is the data type. What it points to is a record class, or a list or tuple of them: one for each version.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from buffetstore.errors import ConfigurationError
from buffetstore.schemas.record import Record, contract_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

GROUP = "buffetstore.data_types"
# Here and not later: to look them up reads the disk, and contracts are asked for on the event loop.
INSTALLED = tuple(entry_points(group=GROUP))


class Plugins:
    """The entry points that have not been loaded yet.

    Parameters
    ----------
    found:
        Entry points; by default those of the group ``buffetstore.data_types``.
    """

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self._found = INSTALLED if found is None else tuple(found)
        self._waiting: dict[str, list[EntryPoint]] | None = None

    def names(self) -> set[str]:
        """Return the data types that entry points would bring."""
        return set(self._by_name())

    def take(self, data_type: str) -> list[type[Record]]:
        """Load the data type's entry points, once.

        Raises
        ------
        ConfigurationError
            One cannot be loaded, or is something else than its name says; the message names it and its package.
        """
        models = [model for point in self._by_name().get(data_type, ()) for model in _loaded(point)]
        self._by_name().pop(data_type, None)
        return models

    def _by_name(self) -> dict[str, list[EntryPoint]]:
        if self._waiting is None:
            self._waiting = {}
            for point in self._found:
                self._waiting.setdefault(point.name, []).append(point)
        return self._waiting


def _loaded(point: EntryPoint) -> list[type[Record]]:
    try:
        found = point.load()
    except Exception as error:  # a foreign module may raise anything
        raise ConfigurationError(f"{_place(point)} cannot be loaded: {type(error).__name__}: {error}") from error
    models: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    for model in models:
        if not isinstance(model, type) or not issubclass(model, Record):
            raise ConfigurationError(f"{_place(point)} is {model!r}, no record class and no list of them")
        stated = contract_of(model).data_type
        if stated != point.name:
            raise ConfigurationError(
                f"{_place(point)} is {model.__qualname__}, whose data type is {stated!r}; name the entry point so"
            )
    return models


def _place(point: EntryPoint) -> str:
    package = f" of the package {point.dist.name} {point.dist.version}" if point.dist is not None else ""
    return f"entry point {point.name!r} = {point.value!r}{package} (group {GROUP})"
