"""Other query engines over governed data: each gets the rows it needs, and computes.

Each is a module of its own, `buffetstore.engines.duckdb`, which needs its engine's extra.
"""

from __future__ import annotations

__all__: list[str] = []
