"""The demo behind `buffetstore demo`."""

from buffetstore.demo.story import run_demo

__all__ = ["run_demo"]
