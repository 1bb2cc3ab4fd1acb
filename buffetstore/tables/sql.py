"""Predicates to and from the part of SQL that engines agree on: comparisons, IN, BETWEEN, IS NULL, AND, OR, NOT.

Spark and deltalake do not agree on everything that both accept, and whoever reads a constraint wrongly either refuses
good rows or lets bad ones pass. So a text is refused where its meaning depends on who reads it: text with quotes or
backslashes (escapes in Spark only), plain words in double quotes (text in Spark, a column in deltalake), times
without a zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import NEGATED, And, Column, Comparison, Expression, IsIn, IsNull, Not, Operator, Or
from buffetstore.tables.sql_values import cast_to, family, fitted_value, in_utc, number

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<quoted>`(?:[^`]|``)+`)
    | (?P<double>"(?:[^"]|"")+")
    | (?P<text>'(?:[^']|'')*')
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    | (?P<word>[^\W\d]\w*)
    | (?P<mark><=>|<=|>=|<>|!=|==|::|[=<>(),+-])
    )""",
    re.VERBOSE,
)
_OPERATORS: dict[str, Operator] = {
    "=": "==", "==": "==", "<>": "!=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip
_SWAPPED: dict[Operator, Operator] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SQL: dict[Operator, str] = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def parse_predicate(text: str, schema: pa.Schema) -> Expression:
    """Return what the SQL text says of a row.

    Raises
    ------
    InvalidInputError
        It is not in the part of SQL that all engines read alike, or does not fit the schema; the message says why.

    >>> parse_predicate("n IS NULL OR `n` >= 0", pa.schema([("n", pa.int64())]))
    Or(parts=(IsNull(column='n'), Comparison(column='n', op='>=', value=0)))
    """
    parser = _Parser(_tokens(text), schema)
    try:
        found = parser.disjunction()
    except RecursionError as error:
        raise InvalidInputError("it is nested too deeply") from error
    parser.expect("", "the end")
    return found


def to_sql(predicate: Expression) -> str:
    """Return the predicate as SQL that every engine reads alike.

    Raises
    ------
    InvalidInputError
        There is no such text for it.
    """
    match predicate:
        case Comparison(name, op, Column(other)):
            return f"{_identifier(name)} {_SQL[op]} {_identifier(other)}"
        case Comparison(name, op, value):
            return f"{_identifier(name)} {_SQL[op]} {_literal(value)}"
        case IsIn(name, values) if values:
            return f"{_identifier(name)} IN ({', '.join(map(_literal, values))})"
        case IsNull(name):
            return f"{_identifier(name)} IS NULL"
        case Not(IsNull(name)):
            return f"{_identifier(name)} IS NOT NULL"
        case Not(part):
            return f"NOT ({to_sql(part)})"
        case And(parts) if parts:
            return " AND ".join(map(_inner, parts))
        case Or(parts) if parts:
            return " OR ".join(map(_inner, parts))
        case _:
            raise InvalidInputError(f"{predicate!r} does not look at any value")


def _inner(part: Expression) -> str:
    return f"({to_sql(part)})" if isinstance(part, And | Or) else to_sql(part)


def _identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _literal(value: Any) -> str:
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal() if value.is_finite():
            return format(value, "f")
        case float() if Decimal(value).is_finite():
            return repr(value)
        case str() if not any(mark in value for mark in "'\\") and value.isprintable():
            return f"'{value}'"
        case datetime() if value.tzinfo is not None:
            return f"TIMESTAMP '{value.astimezone(UTC).replace(tzinfo=None).isoformat()}Z'"
        case date() if not isinstance(value, datetime):
            return f"DATE '{value.isoformat()}'"
        case _:
            raise InvalidInputError(f"engines do not agree on how {value!r} is written in SQL")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        return self.text.lower() if self.kind == "word" else self.text if self.kind == "mark" else ""


_END = _Token("mark", "")


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        token = _TOKEN.match(text, at)
        if token is None or token.lastgroup is None:
            raise InvalidInputError(f"{text[at : at + 20]!r} cannot be read")
        found.append(_Token(token.lastgroup, token[token.lastgroup]))
        at = token.end()
    return [*found, _END]


class _Parser:
    """Recursive descent over the tokens; every level returns what it read."""

    def __init__(self, tokens: list[_Token], schema: pa.Schema) -> None:
        self._tokens = tokens
        self._schema = schema
        self._at = 0

    def disjunction(self) -> Expression:
        return self._joined("or", self._conjunction, Or)

    def expect(self, word: str, shown: str = "") -> None:
        if not self._accept(word):
            self._fail(f"{shown or word.upper()} is expected")

    def _conjunction(self) -> Expression:
        return self._joined("and", self._negation, And)

    def _joined(self, word: str, read: Callable[[], Expression], node: type[And | Or]) -> Expression:
        parts = [read()]
        while self._accept(word):
            parts.append(read())
        return parts[0] if len(parts) == 1 else node(tuple(parts))

    def _negation(self) -> Expression:
        if self._accept("not"):
            return _negated(self._negation())
        if self._accept("("):
            inside = self.disjunction()
            self.expect(")")
            return inside
        return self._predicate()

    def _predicate(self) -> Expression:
        left = self._operand()
        op = _OPERATORS.get(self._next.word)
        if op is not None:
            self._at += 1
            return self._comparison(left, op, self._operand())
        if not isinstance(left, Column):
            self._fail(f"{left!r} is compared with nothing")
        if self._accept("is"):
            negated = self._accept("not")
            self.expect("null")
            return Not(IsNull(left.name)) if negated else IsNull(left.name)
        negated = self._accept("not")
        if self._accept("in"):
            found: Expression = IsIn(left.name, tuple(self._fitted(value, left.name) for value in self._list()))
        elif self._accept("between"):
            low = self._comparison(left, ">=", self._operand())
            self.expect("and")
            found = And((low, self._comparison(left, "<=", self._operand())))
        elif negated or not pa.types.is_boolean(self._schema.field(left.name).type):
            self._fail("a comparison is expected")
        else:
            found = Comparison(left.name, "==", True)
        return _negated(found) if negated else found

    def _list(self) -> list[Any]:
        self.expect("(")
        values = [self._operand()]
        while self._accept(","):
            values.append(self._operand())
        self.expect(")")
        if any(isinstance(value, Column) for value in values):
            self._fail("a list of columns is not read")
        return values

    def _comparison(self, left: Any, op: Operator, right: Any) -> Expression:
        if not isinstance(left, Column):
            left, op, right = right, _SWAPPED[op], left
        if not isinstance(left, Column):
            self._fail("two constants are compared")
        if not isinstance(right, Column):
            return Comparison(left.name, op, self._fitted(right, left.name))
        one, other = (family(self._schema.field(column.name).type) for column in (left, right))
        if one != other and {one, other} != {"whole number", "decimal"}:
            self._fail(f"{left.name!r} is a {one} and {right.name!r} a {other}")
        return Comparison(left.name, op, right)

    def _operand(self) -> Any:
        token = self._take()
        match token.kind:
            case "quoted":
                value: Any = self._column(token.text[1:-1].replace("``", "`"))
            case "double":
                value = self._double(token.text[1:-1].replace('""', '"'))
            case "number":
                value = number(token.text)
            case "text":
                value = self._text(token)
            case "word":
                value = self._word(token)
            case _ if token.text in {"-", "+"} and self._next.kind == "number":
                value = number(token.text + self._take().text)
            case _:
                self._fail(f"a column or a constant is expected, not {token.text!r}")
        if self._accept("::"):
            value = cast_to(value, self._type())
        return value

    def _word(self, token: _Token) -> Any:
        match token.word:
            case "true" | "false":
                return token.word == "true"
            case "date" | "timestamp" if self._next.kind == "text":
                return cast_to(self._text(self._take()), token.word)
            case "cast":
                self.expect("(")
                value = self._operand()
                self.expect("as")
                found = cast_to(value, self._type())
                self.expect(")")
                return found
            case "arrow_cast":  # as deltalake writes constants
                self.expect("(")
                value = self._text(self._take())
                self.expect(",")
                kind = self._text(self._take())
                self.expect(")")
                if not kind.startswith("Timestamp("):
                    self._fail(f"arrow_cast to {kind!r} is not read")
                return cast_to(in_utc(value), "timestamp")
        if self._next.word == "(":
            self._fail(f"the function {token.text} is not read")
        return self._column(token.text)

    def _column(self, name: str) -> Column:
        if name in self._schema.names:
            return Column(name)
        same = [each for each in self._schema.names if each.casefold() == name.casefold()]
        if not same:
            self._fail(f"there is no column {name!r}")
        return Column(same[0])

    def _double(self, name: str) -> Column:
        if name not in self._schema.names or re.fullmatch(r"[a-z_][a-z0-9_]*", name):
            self._fail(f'"{name}" is text to some engines and a column to others')
        return Column(name)

    def _text(self, token: _Token) -> str:
        inside = token.text[1:-1]
        if token.kind != "text" or "'" in inside or "\\" in inside:
            self._fail(f"engines do not agree on what {token.text} is")
        return inside

    def _type(self) -> str:
        kind = self._take().word
        if self._accept("("):
            sizes = [self._take().text]
            while self._accept(","):
                sizes.append(self._take().text)
            self.expect(")")
            kind += f"({','.join(sizes)})"
        return kind

    def _fitted(self, value: Any, name: str) -> Any:
        return fitted_value(value, name, self._schema.field(name).type)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        if token is _END:
            self._fail("it ends too early")
        self._at += 1
        return token

    def _accept(self, word: str) -> bool:
        if self._next.word != word or (not word and self._next is not _END):
            return False
        self._at += word != ""
        return True

    def _fail(self, why: str) -> NoReturn:
        raise InvalidInputError(why)


def _negated(part: Expression) -> Expression:
    # `NOT (x > 1)` is `x <= 1` in SQL, of NaN too, which is the greatest number there.
    match part:
        case Comparison(name, op, value):
            return Comparison(name, NEGATED[op], value)
        case And(parts):
            return Or(tuple(map(_negated, parts)))
        case Or(parts):
            return And(tuple(map(_negated, parts)))
        case Not(inner):
            return inner
        case _:
            return Not(part)
