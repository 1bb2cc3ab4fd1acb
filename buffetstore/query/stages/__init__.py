"""What is made of a stream of rows before it is an answer: groups, distinct rows, the latest, an order, a part."""

from __future__ import annotations

from buffetstore.query.stages.aggregate import Aggregation
from buffetstore.query.stages.buckets import bucket_starts
from buffetstore.query.stages.rows import Distinct, Latest, Ordered, Part, Stage

__all__ = ["Aggregation", "Distinct", "Latest", "Ordered", "Part", "Stage", "bucket_starts"]
