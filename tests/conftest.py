"""What every test lives with: a detector of calls that block the event loop, and reproducible random histories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from buffetstore.config import CacheConfig, LayerConfig
from buffetstore.testing.fault_report import pytest_terminal_summary  # noqa: F401 - the hook prints the fault cases

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {"STORAGE_EMULATOR_HOST"} | {
    name for kind in (LayerConfig, CacheConfig) for names in kind.VARIABLES.values() for name in names
}
CLOUDS = ("GCS_", "GOOGLE_", "AWS_", "S3_", "AZURE_", "BUFFETSTORE_", "CLOUDSDK_")

settings.register_profile("default", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("default"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail a test in which our own code blocks the event loop with a disk, lock or network call."""
    with blockbuster_ctx("buffetstore"):
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's machine reaches a test."""
    for name in list(os.environ):
        if name in SETTINGS or name.startswith(CLOUDS):
            monkeypatch.delenv(name)
