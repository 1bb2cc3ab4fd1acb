"""`Record`: the base of every data type, built in or a user's own."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, get_args

import pyarrow as pa
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic_core import PydanticCustomError

from buffetstore.errors import ConfigurationError
from buffetstore.expressions import columns_of
from buffetstore.schemas.arrow import FieldSpec, Filled, fields_of, schema_of
from buffetstore.schemas.contract import Contract, Revisions, Rule, ServiceLevels
from buffetstore.schemas.custom import custom_of
from buffetstore.schemas.defaults import fill_value
from buffetstore.schemas.fill import Fill
from buffetstore.schemas.nanoseconds import REMAINDER, SUFFIX, split_fields, split_value
from buffetstore.schemas.quality import faults_of
from buffetstore.schemas.types import Timestamp, Version, canonical_version
from buffetstore.schemas.upcasts import Upcast
from buffetstore.schemas.values import UnfitValueError, converter, is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Record(BaseModel):
    """One row. Subclass it for a data type of your own::

        class Weather(Record, data_type="weather", version="1.0.0", key=("station", "timestamp"), symbol="station"):
            station: str
            timestamp: Timestamp
            celsius: Annotated[float, Field(ge=-90, le=60)]
            rules: ClassVar[tuple[Rule, ...]] = ()

    Class keywords state the contract: `data_type`, `version` and `key` once, and where the default does not fit
    `revisions`, `event_time`, `availability`, `symbol`, `category`, `partition_by`, `sort_by`, `owner`,
    `service_levels`, `quality` and `description` (see `Contract`); `@data_type(...)` states the same. A subclass
    inherits them, and every rule whose name it does not define again. A subclass without keywords is the same data
    type and version with other constraints, and takes its place when given to a `SchemaManager`.

    `created_at` and `version` are filled by the store where a row has none; `available_at` is when the fact could be
    known.

    Raises
    ------
    ConfigurationError
        At class creation, where a declaration cannot be kept; the message names class and field.
    """

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,  # columns go by the field's name, whatever aliases it has
        protected_namespaces=(),  # `model_name` is a word of forecasts
        arbitrary_types_allowed=True,  # so that our own error names the field
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules across columns."""
    fills: ClassVar[tuple[Fill, ...]] = ()
    """Steps that complete rows, in order, before they are checked."""
    upcasts: ClassVar[tuple[Upcast, ...]] = ()
    """How columns of older versions become this one's, where a cast does not do."""
    contract_facts: ClassVar[dict[str, Any]] = {}
    _contract: ClassVar[Contract | None] = None

    created_at: Annotated[Timestamp | None, Filled()] = None
    available_at: Timestamp | None = None
    version: Annotated[Version | None, Filled()] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leave the keywords to `__pydantic_init_subclass__`, which runs when the fields are known."""
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check the declaration while the author looks at it."""
        super().__pydantic_init_subclass__()
        cls.rules = tuple(_merged(cls, "rules"))
        cls.fills = tuple(_merged(cls, "fills"))
        cls.upcasts = tuple(_merged(cls, "upcasts"))
        _state(cls, kwargs)

    @model_validator(mode="before")
    @classmethod
    def _split_times(cls, data: Any) -> Any:
        """Split times in nanoseconds between a time's field and the one that keeps its nanoseconds."""
        pairs = _split_fields(cls)
        return _split(data, pairs) if pairs and isinstance(data, dict) else data

    @field_validator("*", mode="wrap")
    @classmethod
    def _as_column(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Take a value as its column does: the kernels' reading, for one row."""
        spec, convert = _converters(cls)[info.field_name or ""]
        try:
            value = fill_value(convert(value), spec)
        except UnfitValueError as error:
            raise PydanticCustomError(error.error_type, "{problem}", {"problem": str(error)}) from None
        return deepcopy(spec.default) if value is None and spec.default is not None else handler(value)


_FACTS = frozenset({"data_type", "version", "key", "revisions", "event_time", "availability", "symbol", "category"}) | {
    "partition_by",
    "sort_by",
    "owner",
    "service_levels",
    "quality",
    "description",
}


def _state(model: type[Record], facts: dict[str, Any]) -> None:
    """Add facts to what the class states, and compile the contract where all its types are known."""
    unknown = facts.keys() - _FACTS
    if unknown:
        raise ConfigurationError(
            f"class {model.__qualname__} has unknown keywords {sorted(unknown)}; known are {sorted(_FACTS)}"
        )
    model.contract_facts = {**model.contract_facts, **facts}
    model._contract = None  # noqa: SLF001 the class is of this module
    if model.contract_facts and model.__pydantic_fields_complete__:
        model._contract = _compile(model)  # noqa: SLF001


def contract_of(model: type[Record]) -> Contract:
    """Return the contract that the record class declares.

    Raises
    ------
    ConfigurationError
        The class states no `data_type`, or has annotations that cannot be resolved.
    """
    found = model.__dict__.get("_contract")
    if isinstance(found, Contract):
        return found
    if not model.__pydantic_fields_complete__:
        try:
            model.model_rebuild()
        except PydanticUndefinedAnnotation as error:
            raise ConfigurationError(
                f"class {model.__qualname__} has an annotation with the unknown name {error.name!r}; import it at run "
                "time, not under TYPE_CHECKING"
            ) from error
    model._contract = _compile(model)  # noqa: SLF001 the class is of this module
    return model._contract  # noqa: SLF001


@cache
def _converters(model: type[Record]) -> dict[str, tuple[FieldSpec, Callable[[Any], Any]]]:
    return {spec.name: (spec, converter(spec.type)) for spec in fields_of(model)}


@cache
def _split_fields(model: type[Record]) -> dict[str, str]:
    return split_fields(schema_of(model))


def _split(data: dict[str, Any], pairs: dict[str, str]) -> dict[str, Any]:
    for name, extra in pairs.items():
        value, found = split_value(data.get(name))
        if not found:
            continue
        given = data.get(extra)
        if not is_missing(given) and given != found:
            raise PydanticCustomError(
                "nanoseconds_conflict", "{problem}", {"problem": f"{extra} is {given}, the time itself has {found}"}
            )
        data = {**data, name: value, extra: found}
    return data


def _merged(model: type[Record], attribute: str) -> Iterable[Any]:
    """Return the class's own items and those it inherits, by name: the nearest definition wins, the oldest place."""
    found: dict[str, Any] = {}
    for base in reversed(model.__mro__):
        for item in base.__dict__.get(attribute, ()):
            found[item.name] = item
    return found.values()


def _compile(model: type[Record]) -> Contract:
    facts = {**model.contract_facts}
    name = model.__qualname__
    absent = [fact for fact in ("data_type", "version", "key") if not facts.get(fact)]
    if absent:
        raise ConfigurationError(
            f"class {name} states no {' and no '.join(absent)}: class {name}(Record, data_type='weather', "
            "version='1.0.0', key=('station', 'timestamp'))"
        )
    for fact in ("key", "partition_by", "sort_by"):
        if isinstance(facts.get(fact), str):
            facts[fact] = (facts[fact],)
        facts[fact] = tuple(facts.get(fact, ()))
    facts["version"] = canonical_version(facts["version"])
    if "symbol" not in facts:
        facts["symbol"] = "symbol" if "symbol" in model.model_fields else None
    facts["sort_by"] = facts["sort_by"] or facts["key"]
    if not facts.get("description"):
        facts["description"] = cleandoc(model.__dict__.get("__doc__") or "")
    contract = Contract(
        **{"category": facts["data_type"], **facts},
        model=model,
        schema=_schema(model),
        fields=tuple(sorted(fields_of(model), key=lambda spec: spec.name in Record.model_fields)),
        rules=model.rules,
        fills=model.fills,
        upcasts=model.upcasts,
        custom=custom_of(model),
    )
    check_declaration(contract, name)
    return contract


def _schema(model: type[Record]) -> pa.Schema:
    """Return the model's schema with what every record has behind what this one has."""
    schema = schema_of(model)
    return pa.schema(sorted(schema, key=lambda column: column.name in Record.model_fields))


def check_declaration(contract: Contract, name: str) -> None:
    """Refuse a contract that cannot be kept."""
    schema = contract.schema
    columns = {"key": contract.key, "event_time": (contract.event_time,), "partition_by": contract.partition_by}
    columns["sort_by"] = contract.sort_by
    if contract.symbol is not None:
        columns["symbol"] = (contract.symbol,)
    for rule in contract.rules:
        columns[f"rule {rule.name!r}"] = (rule.field, *sorted(columns_of(rule.holds)))
    for fact, names in columns.items():
        for column in names:
            if column not in schema.names and not (fact == "partition_by" and column == "date"):
                raise ConfigurationError(
                    f"class {name}: {fact} names {column!r}, which is no field; fields are {', '.join(schema.names)}"
                )
    for column in schema:
        if column.type == REMAINDER and column.name not in split_fields(schema).values():
            raise ConfigurationError(
                f"class {name}: {column.name!r} keeps Nanoseconds, but of no Timestamp field: name it "
                f"{contract.event_time + SUFFIX!r}"
            )
    for column in contract.key:
        _check_key_column(schema.field(column), name)
    _check_aliases(contract, name)
    for column in contract.sort_by:
        if pa.types.is_nested(schema.field(column).type):
            raise ConfigurationError(f"class {name}: sort_by names {column!r}, a nested column, which has no order")
    event_time = schema.field(contract.event_time)
    if not pa.types.is_timestamp(event_time.type) or event_time.nullable:
        raise ConfigurationError(
            f"class {name}: event_time {event_time.name!r} is {event_time.type}; it must be a required Timestamp"
        )
    if len(contract.version.split(".")) != 3 or not contract.version.replace(".", "").isdigit():
        raise ConfigurationError(f"class {name}: version {contract.version!r} is not of the form 1.2.0")
    if contract.revisions not in get_args(Revisions):
        raise ConfigurationError(
            f"class {name}: revisions {contract.revisions!r} is none of {', '.join(get_args(Revisions))}"
        )
    if contract.availability not in {"observed", "asserted"}:
        raise ConfigurationError(
            f"class {name}: availability {contract.availability!r} is neither 'observed' nor 'asserted'"
        )
    for fault in faults_of(contract.quality, schema):
        raise ConfigurationError(f"class {name}: {fault}")
    if not isinstance(contract.service_levels, ServiceLevels):
        raise ConfigurationError(
            f"class {name}: service_levels is {contract.service_levels!r}; write ServiceLevels(completeness=0.99)"
        )


def _check_key_column(column: pa.Field, name: str) -> None:
    if column.nullable:
        raise ConfigurationError(f"class {name}: key column {column.name!r} may be null; a key must be required")
    if pa.types.is_nested(column.type) or pa.types.is_floating(column.type):
        raise ConfigurationError(
            f"class {name}: key column {column.name!r} is {column.type}; a key must compare exactly "
            "(str, int, date, Timestamp, Decimal, bool)"
        )


def _check_aliases(contract: Contract, name: str) -> None:
    """Refuse two columns that answer to one name."""
    owners = {column: column for column in contract.schema.names}
    for spec in contract.fields:
        for alias in spec.aliases:
            holder = owners.setdefault(alias, spec.name)
            if holder != spec.name or alias == spec.name:
                raise ConfigurationError(
                    f"class {name}: {alias!r} is an alias of {spec.name!r} and a name of {holder!r}; a name means one "
                    "column"
                )


_AnyRecord = TypeVar("_AnyRecord", bound=Record)


def data_type(name: str, *, version: str, **facts: Any) -> Callable[[type[_AnyRecord]], type[_AnyRecord]]:
    """State a record class's contract by a decorator, with the words of `Record`'s class keywords.

    ::

        @data_type("trades", version="v1.0.0", key=("symbol", "timestamp"))
        class Trade(Record):
            symbol: Symbol
            timestamp: Timestamp

    Raises
    ------
    ConfigurationError
        What is decorated is no record class, or its declaration cannot be kept.
    """

    def state(model: type[_AnyRecord]) -> type[_AnyRecord]:
        if not issubclass(model, Record):
            raise ConfigurationError(
                f"@data_type({name!r}) stands on {model.__qualname__!r}, which is no record class: "
                "class Trade(Record): ..."
            )
        _state(model, {"data_type": name, "version": version, **facts})
        return model

    return state
