"""Which data types there are, and which versions of each."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from buffetstore.errors import ConfigurationError, UnknownDataTypeError, UnknownSchemaVersionError
from buffetstore.schemas.changes import diff
from buffetstore.schemas.forecasts import Forecast, ForecastV100
from buffetstore.schemas.market_data import MarketData, MarketDataV100, MarketDataV110
from buffetstore.schemas.options_data import OptionsData, OptionsDataV100
from buffetstore.schemas.plugins import Plugins
from buffetstore.schemas.quality_results import QualityResult
from buffetstore.schemas.record import Record, contract_of
from buffetstore.schemas.stored import fingerprint
from buffetstore.schemas.ticks import Quote, Trade
from buffetstore.schemas.types import canonical_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buffetstore.schemas.contract import Contract

BUILT_IN: tuple[type[Record], ...] = (
    MarketDataV100,
    MarketDataV110,
    MarketData,
    ForecastV100,
    Forecast,
    OptionsDataV100,
    OptionsData,
    Trade,
    Quote,
    QualityResult,
)


class Registry:
    """Contracts by data type and version: of the classes given, and of installed packages when they are asked for."""

    def __init__(self, models: Iterable[type[Record]] = BUILT_IN, *, plugins: Plugins | None = None) -> None:
        self._contracts: dict[str, dict[str, Contract]] = {}
        self._found: set[tuple[str, str]] = set()
        self._plugins = Plugins([])
        for model in models:
            self.add(model)
        self._plugins = plugins or Plugins()

    def add(self, model: Any) -> Contract:
        """Register a record class. A subclass of the class that holds its data type and version takes its place.

        Raises
        ------
        ConfigurationError
            Another class holds that data type and version.
        """
        if not isinstance(model, type) or not issubclass(model, Record):
            raise ConfigurationError(f"{model!r} is no record class: class Weather(Record, data_type='weather', ...)")
        contract = contract_of(model)
        versions = self._contracts.setdefault(contract.data_type, {})
        held = versions.get(contract.version)
        if held is not None:
            _check_place(held, contract)
        versions[contract.version] = contract
        self._found.discard((contract.data_type, contract.version))
        return contract

    def add_stored(self, contract: Contract, *, found: bool = False) -> Contract:
        """Register a contract that was loaded from its document; the class that it was written by keeps its place.

        Parameters
        ----------
        found:
            It was met in a store, not chosen: it is not the newest by default where others were.

        Returns
        -------
        What is registered from now on.

        Raises
        ------
        ConfigurationError
            Another contract holds that data type and version.
        """
        self._load(contract.data_type)
        versions = self._contracts.setdefault(contract.data_type, {})
        if contract.version not in versions and found:
            self._found.add((contract.data_type, contract.version))
        held = versions.setdefault(contract.version, contract)
        if fingerprint(held) != fingerprint(contract):
            raise _conflict(held, contract)
        if not found:
            self._found.discard((contract.data_type, contract.version))
        return held

    def get(self, data_type: str, version: str | None = None) -> Contract:
        """Return a contract, by default the newest that was chosen, else found; 'v1.2.0' is '1.2.0'.

        Raises
        ------
        UnknownDataTypeError, UnknownSchemaVersionError
            The message lists what is known and says what is nearest.
        """
        self._load(data_type)
        versions = self._contracts.get(data_type)
        if versions is None:
            known = self.data_types()
            raise UnknownDataTypeError(
                f"unknown data type {data_type!r}{_nearest(data_type, known)}; known are {', '.join(known)}"
            )
        if version is None:
            return versions[self._newest(data_type)]
        contract = versions.get(canonical_version(version))
        if contract is None:
            known = self.versions(data_type)
            raise UnknownSchemaVersionError(
                f"{data_type} has no schema version {version!r}{_nearest(str(version), known)}; "
                f"known are {', '.join(known)}"
            )
        return contract

    def data_types(self) -> list[str]:
        """Return the names of all data types, sorted; those of packages are not loaded for it."""
        return sorted(self._contracts.keys() | self._plugins.names())

    def versions(self, data_type: str) -> list[str]:
        """Return the versions of a data type, oldest first."""
        self._load(data_type)
        if data_type not in self._contracts:
            self.get(data_type)
        return sorted(self._contracts[data_type], key=lambda version: tuple(map(int, version.split("."))))

    def _newest(self, data_type: str) -> str:
        """Return the newest version that is no mere find: what is written must not hang on what has been read."""
        known = self.versions(data_type)
        return next((each for each in reversed(known) if (data_type, each) not in self._found), known[-1])

    def _load(self, data_type: str) -> None:
        """Add what installed packages bring of a data type that no class was given for."""
        if data_type not in self._contracts:
            for model in self._plugins.take(data_type):
                self.add(model)


def _check_place(held: Contract, contract: Contract) -> None:
    """Refuse a class that may not take the place of what holds its data type and version."""
    assert contract.model is not None, "it was compiled from its class"
    if held.model is None:
        if fingerprint(held) != fingerprint(contract):
            raise _conflict(held, contract)
    elif not issubclass(contract.model, held.model):
        raise ConfigurationError(
            f"{contract.data_type} {contract.version} is {held.model.__qualname__}: {contract.model.__qualname__} must "
            "subclass it to take its place, or state another data_type or version"
        )


def _conflict(held: Contract, contract: Contract) -> ConfigurationError:
    differing = "; ".join(map(str, diff(held, contract)[:3])) or "other columns' order"
    return ConfigurationError(
        f"{contract.data_type} {contract.version} is already registered and demands something else: {differing}; a "
        "version never changes: register a new one"
    )


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(str(name), known, n=1)
    return f", did you mean {near[0]!r}?" if near else ""
