"""Quality checks, blocking."""

from __future__ import annotations

from buffetstore import sync
from buffetstore.schemas import Duplicates

BAR = {"symbol": "A", "timestamp": "2024-01-02T00:00:00Z", "price": 1, "volume": 1, "data_source": "test"}


def test_checks_are_run_and_their_results_kept() -> None:
    with sync.open("memory://") as storage:
        storage.store_data("market_data", [BAR])
        report = storage.quality.run("market_data", [Duplicates()])
        assert (report.ok, report.results[0].rows) == (True, 1)
        assert storage.quality.results("market_data") == list(report.results)
