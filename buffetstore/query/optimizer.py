"""From a query to its plan: a pure function, the same for every table."""

from __future__ import annotations

from buffetstore.errors import InvalidQueryError
from buffetstore.query.model import DataQuery
from buffetstore.query.plan import QueryPlan
from buffetstore.query.rules import UNBOUND_RULES, simplify
from buffetstore.query.shape import checked_columns


class QueryOptimizer:
    """Makes plans of queries. It knows no table: column names and types are checked, and files pruned, at retrieve.

    >>> from buffetstore.query.model import DataQuery
    >>> plan = QueryOptimizer().optimize(DataQuery("market_data", {"rsi": {"gt": 70, "lt": 30}}))
    >>> plan.is_empty
    True
    """

    def optimize(self, query: DataQuery | QueryPlan) -> QueryPlan:
        """Return the plan of `query`; a plan is returned as it is.

        Raises
        ------
        InvalidQueryError
            It is neither.
        """
        if isinstance(query, QueryPlan):
            return query
        if not isinstance(query, DataQuery):
            raise InvalidQueryError(f"a {type(query).__name__} is not a DataQuery")
        predicate, rules = simplify(query.predicate(), UNBOUND_RULES)
        columns = None if query.columns is None else checked_columns(query.columns)
        return QueryPlan(query, predicate, query.time_range(), columns, rules)
