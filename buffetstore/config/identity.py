"""In whose name this process does what is kept with a name."""

from __future__ import annotations

import getpass
import socket


def process_identity() -> str:
    """Return ``user@host``; a user without a name, as containers have them, is `unknown`. It may read files."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
