"""The judges of the fault contract see lies: a suite that cannot fail proves nothing."""

from __future__ import annotations

import pytest

from buffetstore.errors import AlreadyExistsError, PreconditionFailedError, UnavailableError
from buffetstore.objects import MemoryStore
from buffetstore.testing.fault_cases import (
    BODY,
    KEY,
    LISTED,
    OLD,
    RIVAL,
    Delete,
    Get,
    ListObjects,
    PutCreate,
    PutCreateTaken,
    PutUpdate,
    Uploading,
)
from buffetstore.testing.fault_report import table

UNCLEAR = UnavailableError("lost", ambiguous=True)
CERTAIN = UnavailableError("refused")


@pytest.fixture
async def store():
    return MemoryStore()


@pytest.mark.parametrize(
    ("case", "held", "error", "lie"),
    [
        (PutCreate, BODY, AlreadyExistsError("its own"), "its own write"),
        (PutCreate, None, None, "success"),
        (PutCreate, BODY[:100], None, "success"),
        (PutCreate, BODY, CERTAIN, "for certain"),
        (PutCreate, BODY[:100], UNCLEAR, "half"),
        (PutCreateTaken, RIVAL, None, "lost write"),
        (PutCreateTaken, BODY, AlreadyExistsError("but it wrote"), "gone"),
        (PutCreateTaken, RIVAL, PreconditionFailedError("the wrong one"), "PreconditionFailedError"),
        (PutUpdate, BODY, PreconditionFailedError("its own"), "its own write"),
        (PutUpdate, BODY, CERTAIN, "for certain"),
        (Uploading, OLD, None, "success"),
        (Delete, OLD, None, "still there"),
        (ListObjects, OLD, None, "names"),
    ],
)
async def test_a_lie_is_seen(store, case, held, error, lie):
    if held is not None:
        await store.put(KEY, held)
    await store.put("kept", OLD)
    answer = LISTED[:10] if case is ListObjects else None
    with pytest.raises(AssertionError, match=lie):
        await case().check(store, answer, error)


async def test_wrong_bytes_are_seen(store):
    await store.put(KEY, BODY)
    with pytest.raises(AssertionError, match="other bytes"):
        await Get().check(store, BODY[:-1], None)


async def test_truths_are_let_pass(store):
    case = PutCreate()
    await case.prepare(store)
    await case.check(store, None, CERTAIN)
    await case.check(store, None, UNCLEAR)
    answer = await case.run(store)
    await case.check(store, answer, None)
    await case.check(store, None, UNCLEAR)
    with pytest.raises(PreconditionFailedError):  # the version that was answered is another's
        await case.check(store, type(answer)(KEY, len(BODY), "other", answer.last_modified), None)


def test_the_table():
    records = [
        ("TestB", "get", "stall", "right"),
        ("TestA", "put create", "503 before", "right"),
        ("TestA", "put create", "503 before", "WRONG (AssertionError)"),
        ("TestA", "list", "503 before", "right"),
        ("TestA", "list", "stall", "-"),
    ]
    assert table(records) == [
        "",
        "TestA: 3 cases, 1 wrong answers",
        "            503 before                     stall",
        "put create  right, WRONG (AssertionError)",
        "list        right                          -",
        "",
        "TestB: 1 cases, 0 wrong answers",
        "     stall",
        "get  right",
    ]
