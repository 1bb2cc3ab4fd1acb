"""The command `buffetstore`."""

from buffetstore.cli.entry import main

__all__ = ["main"]
