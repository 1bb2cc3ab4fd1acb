"""Where the command starts: before anything that may not be installed."""

from __future__ import annotations

import sys
from importlib import import_module

_EXTRA = {"typer", "rich"}


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        run = import_module("buffetstore.cli.app").run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(f"the command needs {error.name}: pip install 'buffetstore[cli]'\n")
        sys.exit(1)
    run()
