from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from buffetstore.errors import (
    AuthenticationError,
    BucketNotFoundError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
)
from buffetstore.objects import OVERWRITE, MemoryStore, ObjectMeta
from buffetstore.operations import Check, check_store


async def checked(store: Any, **options: Any) -> dict[str, Check]:
    return {check.name: check async for check in check_store(store, **options)}


class Broken(MemoryStore):
    """A store in which some calls fail, and which may ignore conditions."""

    def __init__(self, failing: dict[str, StorageError] | None = None, *, honest: bool = True) -> None:
        super().__init__()
        self.failing = failing or {}
        self.honest = honest

    async def put(self, key: str, data: Any, **options: Any) -> ObjectMeta:
        self._fail("put")
        if not self.honest:
            options["mode"] = OVERWRITE
        return await super().put(key, data, **options)

    async def get(self, key: str, **options: Any) -> Any:
        self._fail("get")
        return await super().get(key, **options)

    async def list_prefixes(self, prefix: str = "") -> Any:
        self._fail("list")
        return await super().list_prefixes(prefix)

    def _fail(self, call: str) -> None:
        if call in self.failing:
            raise self.failing[call]


async def left_over(store: MemoryStore) -> list[str]:
    return [meta.key async for meta in store.list_objects()]


async def test_a_good_store_passes_and_keeps_nothing() -> None:
    store = MemoryStore()
    found = await checked(store)
    assert list(found) == ["list", "put", "get", "conditional put", "clock", "delete"]
    assert {check.outcome for check in found.values()} == {"ok"}
    assert await left_over(store) == []


async def test_a_store_that_ignores_conditions_is_found_out() -> None:
    store = Broken(honest=False)
    found = await checked(store)
    assert found["conditional put"].outcome == "failed"
    assert "commits" in found["conditional put"].mend
    assert await left_over(store) == []


async def test_when_nothing_can_be_written_the_rest_is_skipped() -> None:
    found = await checked(Broken({"put": PermissionDeniedError("no right to write")}))
    assert found["put"].outcome == "failed"
    assert "permission_denied: no right to write" in found["put"].detail
    assert {found[name].outcome for name in ("get", "conditional put", "clock", "delete")} == {"skipped"}
    assert found["list"].outcome == "ok"


async def test_reading_refused_is_not_writing_refused() -> None:
    store = Broken({"get": PermissionDeniedError("no right to read"), "list": PermissionDeniedError("no listing")})
    found = await checked(store)
    assert (found["get"].outcome, found["list"].outcome, found["put"].outcome) == ("failed", "failed", "ok")


class Named(Broken):
    def __init__(self, url: str, error: StorageError) -> None:
        super().__init__({"put": error, "list": error})
        self._at = url

    @property
    def url(self) -> str:
        return self._at


@pytest.mark.parametrize(
    ("url", "error", "mend"),
    [
        ("gs://bars", BucketNotFoundError("no bucket bars"), "gcloud storage buckets create gs://bars"),
        ("s3://bars/a", BucketNotFoundError("no bucket bars"), "aws s3 mb s3://bars"),
        ("file:///bars", BucketNotFoundError("no folder"), "create the folder"),
        ("gs://bars", AuthenticationError("no credentials"), "gcloud auth application-default login"),
        ("s3://bars", AuthenticationError("no credentials"), "AWS_ACCESS_KEY_ID"),
        ("gs://bars", PermissionDeniedError("403"), "roles/storage.objectUser on gs://bars"),
        ("s3://bars", PermissionDeniedError("403"), "s3:PutObject"),
        ("gs://bars", UnavailableError("no answer"), "network"),
    ],
)
async def test_each_fault_has_its_mend(url: str, error: StorageError, mend: str) -> None:
    found = await checked(Named(url, error))
    assert mend in found["put"].mend


@pytest.mark.parametrize(
    ("off", "outcome", "word"), [(0, "ok", "as this"), (3600, "failed", "ahead"), (-60, "failed", "behind")]
)
async def test_a_clock_that_is_off_is_said_to_be(off: float, outcome: str, word: str) -> None:
    def now() -> float:
        return (datetime.now(UTC) + timedelta(seconds=off)).timestamp()

    clock = (await checked(MemoryStore(), now=now))["clock"]
    assert clock.outcome == outcome
    assert word in clock.detail
