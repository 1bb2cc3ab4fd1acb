from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from buffetstore.errors import ConfigurationError, UnknownDataTypeError
from buffetstore.schemas import MarketData, Record, SchemaManager, Timestamp, contract_of
from buffetstore.schemas.plugins import GROUP, Plugins
from buffetstore.schemas.registry import Registry


class Weather(Record, data_type="weather", version="1.0.0", key=("station", "timestamp")):
    station: str
    timestamp: Timestamp


class WeatherV110(Weather, version="1.1.0"):
    wind: float | None = None


VERSIONS = (Weather, WeatherV110)
NEITHER = 5


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=GROUP)


def registry(*points: EntryPoint, models: tuple[type[Record], ...] = ()) -> Registry:
    return Registry(models, plugins=Plugins(points))


def test_every_version_is_there_when_its_type_is_asked_for() -> None:
    found = registry(point("weather", f"{__name__}:VERSIONS"))
    assert found.data_types() == ["weather"]
    assert found.versions("weather") == ["1.0.0", "1.1.0"]
    assert found.get("weather") is contract_of(WeatherV110)


def test_a_broken_one_is_named_and_leaves_the_others() -> None:
    found = registry(point("weather", f"{__name__}:Weather"), point("tides", "nowhere.to_be:Found"))
    assert found.data_types() == ["tides", "weather"], "names are known without loading"
    assert found.get("weather").model is Weather
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"entry point 'tides' = 'nowhere.to_be:Found' .*No module named"):
            found.get("tides")


@pytest.mark.parametrize(
    ("name", "attribute", "words"),
    [
        ("weather", "NEITHER", "no record class"),
        ("weather", "Missing", "AttributeError"),
        ("tides", "Weather", "whose data type is 'weather'"),
    ],
)
def test_one_that_is_something_else_is_refused(name: str, attribute: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        registry(point(name, f"{__name__}:{attribute}")).get(name)


def test_a_class_given_stands_before_a_package() -> None:
    class Own(Weather):
        pass

    assert registry(point("weather", "nowhere.to_be:Found"), models=(Own,)).get("weather").model is Own


def test_the_manager_looks_at_what_is_installed() -> None:
    manager = SchemaManager()
    assert "weather" not in manager.data_types()
    with pytest.raises(UnknownDataTypeError, match="weather"):
        manager.contract("weather")
    assert manager.contract("market_data").model is MarketData


async def test_an_unknown_type_does_not_hold_the_loop() -> None:
    with pytest.raises(UnknownDataTypeError):
        SchemaManager().contract("tides")
