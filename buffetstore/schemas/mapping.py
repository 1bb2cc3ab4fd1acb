"""How a source's columns become a contract's fields: one object for the API and the command line."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from datetime import date as Day  # noqa: N812 `date` is a parameter
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pyarrow as pa

from buffetstore.errors import MappingError
from buffetstore.schemas.values import UnfitValueError, converter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping as Fields

    from buffetstore.schemas.contract import Contract

PRICE = pa.decimal128(18, 8)
_DATE = "date"


@dataclass(frozen=True, slots=True)
class Mapping:
    """What to make of a source that does not speak the contract's names.

    Parameters
    ----------
    columns:
        Field -> source column: ``{'price': 'Close'}``. A column that is mapped is not used under its own name as well.
    constants:
        Field -> value for every row: ``{'data_source': 'yahoo'}``. A row that says otherwise is an error.
    symbol:
        The constant of the contract's symbol column.
    tz:
        The IANA zone of times that do not say theirs.
    scale:
        What one unit of the source is worth, a power of ten: ``Decimal('0.0001')`` for 1/10,000 dollar. One for every
        price field (decimal(18,8)), or a dict per decimal field. Applied to columns and to what a file's name says.
    header:
        The names of a headerless source's columns, in order.
    file_pattern:
        A regular expression that finds fields in a file's name by named groups; the group `date` is the day of
        `milliseconds`. It is tried on the name of an archive's member, then on the file's, then on the whole path.
    upper:
        The groups of `file_pattern` that are written in capitals: a file called ``aapl.csv`` is about AAPL.
    index:
        The field, or fields of a multi-index, that the index of a pandas frame is.
    milliseconds:
        The source column that holds milliseconds since midnight of `date` (in `tz`), which become the event time.
    date:
        The day of `milliseconds`.

    Raises
    ------
    MappingError
        The mapping contradicts itself, or names a zone that does not exist.
    """

    columns: Fields[str, str] = field(default_factory=dict)
    constants: Fields[str, Any] = field(default_factory=dict)
    symbol: str | None = None
    tz: str | None = None
    scale: Decimal | Fields[str, Decimal] | None = None
    header: tuple[str, ...] = ()
    file_pattern: str | None = None
    upper: tuple[str, ...] = ()
    index: str | tuple[str, ...] | None = None
    milliseconds: str | None = None
    date: Day | None = None
    from_name: Fields[str, str] = field(default_factory=dict)
    """What `for_file` found in the file's name."""

    def __post_init__(self) -> None:
        _check_zone(self.tz)
        twice = sorted(self.columns.keys() & (self.constants.keys() | self.from_name.keys()))
        if twice:
            raise MappingError(f"field {twice[0]!r} is mapped to a column and set to a constant; choose one")
        if len(set(self.header)) < len(self.header):
            raise MappingError(f"header {', '.join(self.header)} has a name twice")
        groups = _groups(self.file_pattern)
        for name in self.upper:
            if name not in groups:
                raise MappingError(f"upper names {name!r}, which is no group of file_pattern {self.file_pattern!r}")
        for number in [self.scale] if isinstance(self.scale, Decimal | None) else self.scale.values():
            power_of_ten(number)

    @classmethod
    def from_options(
        cls,
        *,
        map: Iterable[str] = (),  # noqa: A002 the name of the option
        set: Iterable[str] = (),  # noqa: A002
        scale: str | None = None,
        base: Mapping | None = None,
        **others: Any,
    ) -> Mapping:
        """Return the mapping that command-line options state.

        Parameters
        ----------
        map:
            ``'Close=price'``: source column, field.
        set:
            ``'data_source=yahoo'``: field, value.
        scale:
            ``'0.0001'`` for every price, or ``'bid=0.01,ask=0.01'``.
        base:
            What holds where the options say nothing.
        others:
            The other parameters of `Mapping`.
        """
        base = base or cls()
        columns = {target: source for source, target in (_pair("--map", item) for item in map)}
        constants = dict(_pair("--set", item) for item in set)
        given = {name: value for name, value in {**others, "scale": _scale(scale)}.items() if value not in (None, ())}
        return replace(
            base,
            columns={name: source for name, source in base.columns.items() if name not in constants} | columns,
            constants={name: value for name, value in base.constants.items() if name not in columns} | constants,
            **given,
        )

    @property
    def index_fields(self) -> tuple[str, ...]:
        """The fields that a pandas index is."""
        return (self.index,) if isinstance(self.index, str) else self.index or ()

    def day(self) -> Day:
        """Return the day of `milliseconds`.

        Raises
        ------
        MappingError
            It, or the zone whose midnight it starts at, is not stated.
        """
        if self.date is None or self.tz is None:
            raise MappingError(
                f"milliseconds={self.milliseconds!r} counts from midnight: state date= (or a group 'date' in "
                "file_pattern) and tz="
            )
        return self.date

    def for_file(self, *names: str) -> Mapping:
        """Return the mapping with what the file's name says: the first of these that matches `file_pattern`.

        Raises
        ------
        MappingError
            None of them matches.
        """
        if self.file_pattern is None:
            return self
        found = next(filter(None, (re.search(self.file_pattern, name) for name in names)), None)
        if found is None:
            shown = " nor ".join(map(repr, dict.fromkeys(names)))
            raise MappingError(f"file name {shown} does not match file_pattern {self.file_pattern!r}")
        said = {
            group: text.upper() if group in self.upper else text
            for group, text in found.groupdict().items()
            if text is not None
        }
        day = said.pop(_DATE, None)
        return replace(self, from_name=said, date=self.date if day is None else _day(day, found.string))

    def shift(self, name: str, kind: pa.DataType) -> int:
        """Return the power of ten by which the field's source values are multiplied."""
        if isinstance(self.scale, Decimal):
            return power_of_ten(self.scale) if kind == PRICE else 0
        number = (self.scale or {}).get(name)
        if number is None:
            return 0
        if not pa.types.is_decimal(kind):
            raise MappingError(f"scale is stated for {name!r}, which is {kind}; only decimals can be scaled")
        power = power_of_ten(number)
        if not 0 <= kind.scale + power <= kind.precision:
            raise MappingError(f"scale {number} of {name!r} does not fit its {kind.scale} decimal places")
        return power

    def values(self, contract: Contract) -> dict[str, Any]:
        """Return field -> value of all constants, each in the field's type.

        Raises
        ------
        MappingError
            A constant is no field of the contract, or does not fit it.
        """
        given = {name: (value, False) for name, value in self.constants.items()}
        given |= {name: (value, True) for name, value in self.from_name.items()}
        if self.symbol is not None:
            given[contract.symbol or "symbol"] = (self.symbol, False)
        return {name: self._constant(contract, name, value, scaled) for name, (value, scaled) in given.items()}

    def _constant(self, contract: Contract, name: str, value: Any, scaled: bool) -> Any:
        check_field(contract, name)
        kind = contract.schema.field(name).type
        power = self.shift(name, kind) if scaled else 0
        read_as = pa.decimal128(kind.precision, kind.scale + power) if power else kind
        try:
            found = converter(read_as, self.tz)(value)
        except UnfitValueError as error:
            raise MappingError(f"constant {name}: {error}") from error
        return found.scaleb(power) if power and found is not None else found

    def check(self, contract: Contract) -> None:
        """Raise MappingError for the first field that the contract does not have."""
        per_field = self.scale if isinstance(self.scale, dict) else {}
        for name in (*self.columns, *self.index_fields, *per_field):
            check_field(contract, name)


def check_field(contract: Contract, name: str) -> None:
    """Raise MappingError unless the contract has the field; the message names the nearest ones."""
    if name not in contract.schema.names:
        raise MappingError(
            f"{contract.data_type} {contract.version} has no field {name!r}{nearest(name, contract.schema.names)}; "
            f"fields are {', '.join(contract.schema.names)}"
        )


def check_column(field_name: str, column: str, exist: Iterable[str]) -> None:
    """Raise MappingError unless the source has the column; the message names the nearest ones and what exists."""
    known = list(exist)
    if column not in known:
        raise MappingError(
            f"field {field_name!r} is mapped to column {column!r}, which does not exist{nearest(column, known)}; "
            f"columns are {', '.join(known)}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``' (did you mean ...?)'`` with the most similar names, nothing when none is similar."""
    by_lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(by_lower[other]) for other in found)}?)" if found else ""


def power_of_ten(number: Decimal | None) -> int:
    """Return the exponent of a power of ten; 0 for None."""
    if number is None:
        return 0
    exponent = number.adjusted() if number.is_finite() else 0
    if number != Decimal(1).scaleb(exponent) or not -8 <= exponent <= 8:
        raise MappingError(f"scale {number!r} is no power of ten between 1e-8 and 1e8, e.g. Decimal('0.0001')")
    return exponent


def _groups(pattern: str | None) -> Fields[str, int]:
    try:
        return {} if pattern is None else re.compile(pattern).groupindex
    except (re.error, TypeError) as error:
        raise MappingError(f"file_pattern {pattern!r} is no regular expression: {error}") from error


def _check_zone(tz: str | None) -> None:
    if tz is None:
        return
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise MappingError(
            f"tz {tz!r} is no time zone{nearest(str(tz), available_timezones())}; use an IANA name, e.g. "
            "'America/New_York'"
        ) from None


def _pair(option: str, text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        example = "Close=price" if option == "--map" else "data_source=yahoo"
        raise MappingError(f"{option} {text!r} is not of the form {example}")
    return left, right


def _scale(text: str | None) -> Decimal | dict[str, Decimal] | None:
    if text is None:
        return None
    try:
        if "=" not in text:
            return Decimal(text)
        return {name: Decimal(number) for name, number in (_pair("--scale", item) for item in text.split(","))}
    except InvalidOperation:
        raise MappingError(f"--scale {text!r} is neither a number nor field=number,...") from None


def _day(text: str, name: str) -> Day:
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise MappingError(f"{text!r}, which file_pattern finds as the date of {name!r}, is no ISO date") from None
