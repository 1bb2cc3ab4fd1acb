"""A Google Cloud Storage server for tests: our own, from Google's public documentation, checked by foreign clients."""

from __future__ import annotations

from buffetstore.testing.gcs.faults import Fault, FaultScript, Request, RequestLog
from buffetstore.testing.gcs.server import GCSServer, run_forever, serve_in_thread

__all__ = ["Fault", "FaultScript", "GCSServer", "Request", "RequestLog", "run_forever", "serve_in_thread"]
