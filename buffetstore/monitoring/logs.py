"""Operations as log records of the standard library."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buffetstore.monitoring.events import Operation

# What may hide credentials in a URL: user:password@ and everything after `?` (a signed URL's signature).
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(?<=\?)(?=\S*=)\S+")


class LogHook:
    """A hook that logs failed operations as warnings and all others as debug messages.

    Only names, durations, counts, error codes and keys are logged: never bytes, rows or credentials.

    Parameters
    ----------
    logger:
        ``buffetstore`` unless given.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger("buffetstore")

    def __call__(self, operation: Operation, /) -> None:
        """Log `operation`."""
        level = logging.DEBUG if operation.error is None else logging.WARNING
        if not self.logger.isEnabledFor(level):
            return
        counts = "".join(f" {name}={number}" for name, number in operation.counts.items())
        outcome = "ok" if operation.error is None else f"failed: {operation.error}"
        self.logger.log(
            level,
            "%s %s %s in %.1f ms%s",
            operation.name,
            without_secrets(operation.subject),
            outcome,
            operation.seconds * 1000,
            counts,
            extra={"operation": operation.name, "error_code": operation.error},
        )


def without_secrets(text: str) -> str:
    """Return `text` without the parts of URLs that may hold credentials.

    >>> without_secrets("https://user:pass@host/a?X-Goog-Signature=123")
    'https://***@host/a?***'
    """
    return _QUERY.sub("***", _USER.sub("***@", text))
