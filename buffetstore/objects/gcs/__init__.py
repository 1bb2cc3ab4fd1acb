"""Objects in Google Cloud Storage."""

from __future__ import annotations

from buffetstore.objects.gcs.store import GCSStore

__all__ = ["GCSStore"]
