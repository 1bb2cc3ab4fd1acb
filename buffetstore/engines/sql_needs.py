"""What a SQL statement needs of the tables that it names: which columns, and which rows at most.

The statement is given as the tree that DuckDB parses it to. Only filters that hold for every row that can matter are
taken from it; DuckDB applies all of them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from buffetstore.expressions import ALWAYS, MIRRORED, And, Comparison, Expression, IsIn, Like, Operator, Or

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Tree: TypeAlias = Any

_COMPARED: dict[str, Operator] = {
    "COMPARE_EQUAL": "==",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
}
_JOINS = ("INNER", "LEFT", "RIGHT", "FULL", "OUTER")
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_TIMES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE")


class _Unknown:
    """A constant that is not looked into."""


UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class Need:
    """What is needed of one table.

    Parameters
    ----------
    columns:
        In the table's order.
    predicate:
        Rows of which it is not true change nothing.
    times:
        How often the statement names the table.
    """

    columns: tuple[str, ...]
    predicate: Expression
    times: int


def tables_named(tree: Tree) -> list[str]:
    """Return the tables that the statement names, each once, without what it defines itself (WITH)."""
    own = {entry["key"].lower() for entry in _common_tables(tree)}
    found = [node["table_name"] for node in _nodes(tree, "BASE_TABLE")]
    return list(dict.fromkeys(name for name in found if name.lower() not in own))


def needs(tree: Tree, schemas: Mapping[str, pa.Schema], parameters: Mapping[str, Any]) -> dict[str, Need]:
    """Return what the statement needs of each table.

    Parameters
    ----------
    schemas:
        Of each table that it names.
    parameters:
        The values of its parameters by their identifiers.
    """
    columns = {name: _columns(tree, name, schema) for name, schema in schemas.items()}
    found: dict[str, list[Expression]] = {name: [] for name in schemas}
    own = {entry["key"].lower() for entry in _common_tables(tree)}
    for select in _nodes(tree, "SELECT_NODE"):
        for name, predicate in _filters(select, schemas, parameters, own):
            found[name].append(predicate)
    times = {name: sum(node["table_name"] == name for node in _nodes(tree, "BASE_TABLE")) for name in schemas}
    return {
        # A reference outside of a SELECT's FROM, or one without a filter, needs every row.
        name: Need(columns[name], _either(found[name], times[name]), times[name])
        for name in schemas
    }


def _either(predicates: list[Expression], times: int) -> Expression:
    if len(predicates) < times or any(each == ALWAYS for each in predicates):
        return ALWAYS
    return predicates[0] if len(predicates) == 1 else Or(tuple(predicates))


def _filters(
    select: Tree, schemas: Mapping[str, pa.Schema], parameters: Mapping[str, Any], own: set[str]
) -> Iterator[tuple[str, Expression]]:
    """Yield for each table in the FROM of a SELECT what its WHERE asks of it."""
    relations = list(_relations(select.get("from_table"), plain=True))
    conjuncts = list(_conjuncts(select.get("where_clause")))
    for table, plain in relations:
        name = table.get("table_name")
        if table["type"] != "BASE_TABLE" or name not in schemas or name.lower() in own:
            continue
        if not plain or table.get("column_name_alias") or table.get("sample") or select.get("sample"):
            yield name, ALWAYS
            continue
        shown = table["alias"] or name
        scope = _Scope(shown, len(relations) == 1, schemas[name], parameters)
        parts = [part for conjunct in conjuncts if (part := scope.predicate(conjunct)) is not None]
        yield name, And(tuple(parts)) if parts else ALWAYS


def _relations(tree: Tree, *, plain: bool) -> Iterator[tuple[Tree, bool]]:
    """Yield what stands in a FROM, and whether fewer rows of it are only rows less in the outcome."""
    if not isinstance(tree, dict) or tree.get("type") == "EMPTY":
        return
    if tree["type"] == "JOIN":
        # In ASOF and POSITIONAL joins other rows take the places of those that are left out.
        same = plain and tree["ref_type"] in {"REGULAR", "CROSS"} and tree["join_type"] in _JOINS
        yield from _relations(tree["left"], plain=same)
        yield from _relations(tree["right"], plain=same)
    else:
        yield tree, plain


def _conjuncts(tree: Tree) -> Iterator[Tree]:
    if not isinstance(tree, dict):
        return
    if tree.get("type") == "CONJUNCTION_AND":
        for child in tree["children"]:
            yield from _conjuncts(child)
    else:
        yield tree


@dataclass(frozen=True, slots=True)
class _Scope:
    """One table in a SELECT: its name there, and whether it stands alone, so that columns need no name before them."""

    alias: str
    alone: bool
    schema: pa.Schema
    parameters: Mapping[str, Any]

    def predicate(self, tree: Tree) -> Expression | None:
        """Return what a condition asks of this table, where null does not satisfy it; None where that is unclear."""
        kind = tree.get("type")
        if kind in _COMPARED:
            op = _COMPARED[kind]
            found = self._compared(tree["left"], op, tree["right"])
            return found if found is not None else self._compared(tree["right"], MIRRORED[op], tree["left"])
        if kind == "COMPARE_BETWEEN":
            low = self._compared(tree["input"], ">=", tree["lower"])
            high = self._compared(tree["input"], "<=", tree["upper"])
            known = tuple(part for part in (low, high) if part is not None)
            return And(known) if known else None
        if kind == "COMPARE_IN":
            return self._member(*tree["children"])
        if kind == "CONJUNCTION_OR":
            parts = [self.predicate(child) for child in tree["children"]]
            known = tuple(part for part in parts if part is not None)
            return Or(known) if len(known) == len(parts) else None
        if kind == "FUNCTION" and tree.get("function_name") == "~~":
            return self._like(*tree["children"])
        return None

    def _column(self, tree: Tree) -> pa.Field | None:
        if tree.get("class") != "COLUMN_REF":
            return None
        names = [name.lower() for name in tree["column_names"]]
        if not (len(names) == 1 and self.alone) and not (len(names) == 2 and names[0] == self.alias.lower()):
            return None
        return next((field for field in self.schema if field.name.lower() == names[-1]), None)

    def _compared(self, left: Tree, op: Operator, right: Tree) -> Expression | None:
        field = self._column(left)
        if field is None:
            return None
        value = fitting(self._constant(right), field.type)
        return None if value is UNKNOWN else Comparison(field.name, op, value)

    def _member(self, column: Tree, *values: Tree) -> Expression | None:
        field = self._column(column)
        if field is None:
            return None
        found = tuple(fitting(self._constant(value), field.type) for value in values)
        return None if any(value is UNKNOWN for value in found) else IsIn(field.name, found)

    def _like(self, column: Tree, pattern: Tree, *_more: Tree) -> Expression | None:
        field, text = self._column(column), self._constant(pattern)
        if field is None or _more or not isinstance(text, str) or not pa.types.is_string(field.type):
            return None
        return Like(field.name, text.replace("\\", "\\\\"))  # SQL's LIKE has no escape unless it names one

    def _constant(self, tree: Tree) -> Any:
        match tree:
            case {"class": "CONSTANT", "value": {"is_null": False, "type": kind, "value": value}}:
                return _literal(kind, value)
            case {"class": "PARAMETER", "identifier": name}:
                return self.parameters.get(name, UNKNOWN)
            case {"class": "CAST", "cast_type": {"id": target}, "child": child} if target in _TIMES:
                text = self._constant(child)
                return _moment(text) if isinstance(text, str) else UNKNOWN
        return UNKNOWN


def _literal(kind: Tree, value: Any) -> Any:
    if kind["id"] == "DECIMAL":
        return Decimal(value).scaleb(-kind["type_info"]["scale"])
    if kind["id"] in _WHOLE and isinstance(value, int):
        return value
    return value if kind["id"] == "VARCHAR" else UNKNOWN


def fitting(value: Any, kind: pa.DataType) -> Any:
    """Return the constant that compares with a column as SQL would have it; `UNKNOWN` where that is not sure."""
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else UNKNOWN
    if pa.types.is_timestamp(kind):
        found = _moment(value) if isinstance(value, str) else value
        return _aware(found) if isinstance(found, date) else UNKNOWN
    if pa.types.is_date(kind):
        found = _moment(value) if isinstance(value, str) else value
        return found if isinstance(found, date) and not isinstance(found, datetime) else UNKNOWN
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return value if isinstance(value, int | Decimal) and not isinstance(value, bool) else UNKNOWN
    return UNKNOWN


def _moment(text: str) -> Any:
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            return parse(text)
        except ValueError:
            continue
    return UNKNOWN


def _aware(moment: date) -> datetime:
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _columns(tree: Tree, name: str, schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns that a table may be asked for, by name anywhere in the statement; all where it is unclear."""
    shown = {name.lower()} | {
        node["alias"].lower() for node in _nodes(tree, "BASE_TABLE") if node["table_name"] == name and node["alias"]
    }
    words: set[str] = set()
    for node in _every(tree):
        kind = node.get("type")
        if node.get("class") == "COLUMN_REF":
            names = [each.lower() for each in node["column_names"]]
            if names[0] in shown and len(names) == 1:
                return tuple(schema.names)  # the whole row
            words.update(names)
        elif kind == "STAR" or node.get("ref_type") == "NATURAL" or kind == "SHOW_REF":
            return tuple(schema.names)
        elif kind == "JOIN":
            words.update(each.lower() for each in node["using_columns"])
        elif kind == "BASE_TABLE" and node["table_name"] == name and node["column_name_alias"]:
            return tuple(schema.names)
    return tuple(each for each in schema.names if each.lower() in words)


def _common_tables(tree: Tree) -> Iterator[Tree]:
    for node in _every(tree):
        if isinstance(node.get("cte_map"), dict):
            yield from node["cte_map"]["map"]


def _nodes(tree: Tree, kind: str) -> Iterator[Tree]:
    return (node for node in _every(tree) if node.get("type") == kind)


def _every(tree: Tree) -> Iterator[Tree]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _every(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _every(value)
