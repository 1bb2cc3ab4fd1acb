"""Which symbols are asked for most: counted in bounded memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from buffetstore.expressions import And, Comparison, Expression, IsIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.query.plan import QueryPlan

KEPT: Final = 512  # counters of a data type that are sure to be right; twice as many are held
_DATA_TYPES: Final = 64
_LONGEST_LIST: Final = 64  # a longer one asks for a market, and says nothing of its members
_HALVED_AFTER: Final = 100_000  # what was popular long ago makes room


class SymbolUsage:
    """Counts what queries name in `symbol`, or in a column whose name ends so, for each data type.

    A symbol that is named in more than one of `kept` questions is surely among those counted: counts are too low by one
    in `kept` at most (Misra and Gries, 1982). Old counts lose half of their weight from time to time.

    >>> from buffetstore.query import DataQuery, QueryOptimizer
    >>> usage = SymbolUsage()
    >>> usage.note(QueryOptimizer().optimize(DataQuery("market_data", {"symbol": ["AAPL", "MSFT"]})))
    >>> usage.note(QueryOptimizer().optimize(DataQuery("market_data", {"symbol": "MSFT", "price": {"gt": 1}})))
    >>> usage.top("market_data", 1)
    [('symbol', 'MSFT')]
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._counts: dict[str, Counter[tuple[str, str]]] = {}
        self._noted: Counter[str] = Counter()

    def note(self, plan: QueryPlan) -> None:
        """Count the symbols that the filters of a plan ask for."""
        named = list(_symbols(plan.predicate))
        if not named or (plan.data_type not in self._counts and len(self._counts) >= _DATA_TYPES):
            return
        counts = self._counts.setdefault(plan.data_type, Counter())
        counts.update(named)
        if len(counts) > 2 * self._kept:
            self._reduce(counts, sorted(counts.values(), reverse=True)[self._kept])
        self._noted[plan.data_type] += 1
        if self._noted[plan.data_type] % _HALVED_AFTER == 0:
            for symbol in counts:
                counts[symbol] = (counts[symbol] + 1) // 2

    @staticmethod
    def _reduce(counts: Counter[tuple[str, str]], by: int) -> None:
        for symbol, count in list(counts.items()):
            if count > by:
                counts[symbol] = count - by
            else:
                del counts[symbol]

    def top(self, data_type: str, number: int) -> list[tuple[str, str]]:
        """Return column and symbol of those asked for most, the most first."""
        return [symbol for symbol, _ in self._counts.get(data_type, Counter()).most_common(number)]

    def __len__(self) -> int:
        return sum(map(len, self._counts.values()))


def is_symbol(column: str) -> bool:
    """Return whether a column holds symbols, by its name."""
    return column == "symbol" or column.endswith("_symbol")


def _symbols(expression: Expression) -> Iterator[tuple[str, str]]:
    match expression:
        case And(parts):
            for part in parts:
                yield from _symbols(part)
        case Comparison(column, "==", str(value)) if is_symbol(column):
            yield column, value
        case IsIn(column, values) if is_symbol(column) and len(values) <= _LONGEST_LIST:
            yield from ((column, value) for value in values if isinstance(value, str))
