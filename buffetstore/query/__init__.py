"""From a question to its answer: DataQuery, plan, executor."""

from __future__ import annotations

from buffetstore.query.answer import ArrowRows, QueryAnswer
from buffetstore.query.binding import BoundPlan, bind, bind_expression
from buffetstore.query.cache_manager import CacheManager
from buffetstore.query.cost import Cost, cost_of
from buffetstore.query.executor import QueryExecutor, counts_of
from buffetstore.query.explain import Explanation
from buffetstore.query.layout_report import Compact, LayoutAction, LayoutFinding, LayoutReport, Vacuum
from buffetstore.query.model import DataQuery
from buffetstore.query.optimizer import QueryOptimizer
from buffetstore.query.partition_analyzer import PartitionAnalyzer
from buffetstore.query.plan import QueryPlan
from buffetstore.query.prices import ClassPrices, Prices, RegionPrices
from buffetstore.query.recorded import QueryLog, RecordedFilter, RecordedQuery
from buffetstore.query.shape import Order, ohlc

__all__ = [
    "ArrowRows",
    "BoundPlan",
    "CacheManager",
    "ClassPrices",
    "Compact",
    "Cost",
    "DataQuery",
    "Explanation",
    "LayoutAction",
    "LayoutFinding",
    "LayoutReport",
    "Order",
    "PartitionAnalyzer",
    "Prices",
    "QueryAnswer",
    "QueryExecutor",
    "QueryLog",
    "QueryOptimizer",
    "QueryPlan",
    "RecordedFilter",
    "RecordedQuery",
    "RegionPrices",
    "Vacuum",
    "bind",
    "bind_expression",
    "cost_of",
    "counts_of",
    "ohlc",
]
