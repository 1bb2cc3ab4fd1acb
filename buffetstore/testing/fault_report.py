"""The table of fault cases, at the end of pytest's output.

`ObjectStoreFaultContract` notes each case as a property of its test. Its own run shows the table by itself; with
pytest-xdist, whose workers have no output, import the hook in the top `conftest.py`:

>>> from buffetstore.testing.fault_report import pytest_terminal_summary
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.testing.fault_cases import CASES, FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

PROPERTY = "fault case"
WRONG = "WRONG"
_SHOWN = pytest.StashKey[bool]()

Record = tuple[str, str, str, str]  # suite, operation, fault, outcome


def table(records: Iterable[Record]) -> list[str]:
    """Return the lines of a table for each suite: a row for an operation, a column for a fault.

    `right` is the right answer in spite of the fault; the name of an error is that of a true one, with a `?` where it
    leaves open whether the write was applied; `-` says that there is no such fault.
    """
    suites: dict[str, dict[tuple[str, str], list[str]]] = {}
    for suite, operation, fault, outcome in records:
        cell = suites.setdefault(suite, {}).setdefault((operation, fault), [])
        if outcome not in cell:
            cell.append(outcome)
    lines: list[str] = []
    for suite, cells in sorted(suites.items()):
        wrong = sum(WRONG in outcome for outcomes in cells.values() for outcome in outcomes)
        lines += ["", f"{suite}: {len(cells)} cases, {wrong} wrong answers", *_grid(cells)]
    return lines


def _grid(cells: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    operations = sorted({operation for operation, _ in cells}, key=_place_in(CASES))
    faults = sorted({fault for _, fault in cells}, key=_place_in(FAULTS))
    grid = [
        ["", *faults],
        *([name, *(", ".join(cells.get((name, fault), [])) for fault in faults)] for name in operations),
    ]
    widths = [max(len(line[at]) for line in grid) for at in range(len(faults) + 1)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in grid]


def _place_in(known: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    order = {name: number for number, name in enumerate(known)}
    return lambda name: (order.get(name, len(order)), name)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of all cases, those of workers too; once, however often the hook is registered."""
    if terminalreporter.config.stash.get(_SHOWN, False):
        return
    cases = [
        tuple(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if not cases:
        return
    terminalreporter.config.stash[_SHOWN] = True
    terminalreporter.section("fault cases")
    for line in table(cases):
        terminalreporter.line(line)
