"""Checks beyond a row, evaluated: `QualityChecks` is `storage.quality`."""

from __future__ import annotations

from buffetstore.storage.quality.checks import QualityChecks
from buffetstore.storage.quality.report import CheckResult, QualityReport

__all__ = ["CheckResult", "QualityChecks", "QualityReport"]
