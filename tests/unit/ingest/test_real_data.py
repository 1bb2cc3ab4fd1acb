"""Every vendor's file through one `Mapping`: what is stored, and what is refused, is what plain Python reads."""

from __future__ import annotations

import asyncio
import csv
import io
import zipfile
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.errors import SchemaValidationError
from buffetstore.ingest import Source, import_file
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    from pathlib import Path

    from buffetstore.storage import StoreResult


@pytest.fixture
async def lake():
    async with MemoryStore() as store, LakeStorage(store) as storage:
        yield storage


async def stored(lake: LakeStorage, data_type: str, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    answer = await lake.retrieve_data(DataQuery(data_type, columns=list(columns)))
    return [tuple(row[name] for name in columns) for row in answer.to_pylist()]


def refused(path: Path, source: Path) -> dict[tuple[str, int], set[str]]:
    """Read a file of rejected rows: member and number (0 is the first) -> the fields that its reasons name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            texts = {name: archive.read(name).decode() for name in archive.namelist()}
    else:
        texts = {source.name: path.read_text()}
    return {
        (member, int(row["_record"]) - 1): {part.split(":")[0] for part in row["_reasons"].split("; ")}
        for member, text in texts.items()
        for row in csv.DictReader(io.StringIO(text, newline=""))
    }


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


async def test_rows_and_rejections_are_those_of_an_independent_reading(
    case, file, expected, rejected_file, lake
) -> None:
    result = await import_file(lake, case.data_type, file, mapping=case.mapping, rejected_file=rejected_file)
    assert result.rows == len(expected.rows) + len(expected.rejected)
    assert (result.inserted, result.rejected) == (len(expected.rows), len(expected.rejected))
    assert (result.updated, result.unchanged, result.rounded, result.commits) == (0, 0, 0, 1)
    assert result.warnings == expected.warnings
    assert in_order(await stored(lake, case.data_type, expected.columns)) == in_order(expected.rows)
    if expected.rejected:
        assert result.rejected_file == str(rejected_file)
        assert refused(rejected_file, file) == expected.rejected
        told = {(found.member, found.record_index): set() for found in result.findings}
        for found in result.findings:
            told[found.member, found.record_index].add(found.field)
        assert told == expected.rejected
    assert rejected_file.exists() == bool(expected.rejected)


async def test_the_second_time_nothing_changes(case, file, expected, rejected_file, lake) -> None:
    first = await import_file(lake, case.data_type, file, mapping=case.mapping, rejected_file=rejected_file)
    again = await import_file(lake, case.data_type, file, mapping=case.mapping, rejected_file=rejected_file)
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, first.inserted)
    assert (again.rejected, again.files_written) == (first.rejected, 0)
    assert in_order(await stored(lake, case.data_type, expected.columns)) == in_order(expected.rows)


@pytest.mark.parametrize("commits", [1, 2])
async def test_an_import_that_was_cut_off_is_sent_again_and_lands_once(
    case, file, expected, rejected_file, lake, commits
) -> None:
    """Appends do not look at what is stored: without the key every row of the first run would be there twice."""
    how = {"mapping": case.mapping, "mode": "append", "idempotency_key": "nightly", "rejected_file": rejected_file}
    source = Source(file, batch_rows=max(1, (len(expected.rows) + len(expected.rejected)) // 3))
    with pytest.raises(asyncio.CancelledError):
        await import_file(Mortal(lake.store, commits), case.data_type, source, **how)
    cut = len(await stored(lake, case.data_type, expected.columns))
    assert 0 < cut <= len(expected.rows)
    done = await import_file(lake, case.data_type, source, **how)
    assert (done.done_before, done.inserted) == (cut, len(expected.rows) - cut)
    again = await import_file(lake, case.data_type, source, **how)
    assert (again.inserted, again.done_before) == (0, len(expected.rows))
    assert in_order(await stored(lake, case.data_type, expected.columns)) == in_order(expected.rows)


class Mortal(LakeStorage):
    """Is cancelled after its n-th commit landed, before anybody was told."""

    def __init__(self, store: MemoryStore, commits: int) -> None:
        super().__init__(store)
        self.left = commits

    async def store_data(self, *args: Any, **options: Any) -> StoreResult:
        done = await super().store_data(*args, **options)
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError
        return done


async def test_rejected_rows_are_brought_in_again_as_their_file_was(case, tmp_path, lake) -> None:
    """Once mended: here by rules that let everything pass, so that each goes where its file's name says."""
    path = tmp_path / case.file
    case.make(path)
    first = await import_file(lake, case.data_type, path, mapping=case.mapping)
    if first.rejected_file is None:
        return
    again = await import_file(lake, case.data_type, first.rejected_file, mapping=case.mapping, level="warning")
    stray = {(finding.error_type) for finding in again.findings}
    assert again.rows == first.rejected
    assert again.ignored_columns == first.ignored_columns
    assert stray <= {"missing", "int_parsing", "int_from_float"}, "types alone are looked at"


@pytest.mark.parametrize("on_invalid", ["drop", "raise"])
async def test_other_ways_with_bad_rows(case, file, expected, rejected_file, lake, on_invalid) -> None:
    how = {"mapping": case.mapping, "on_invalid": on_invalid, "rejected_file": rejected_file}
    if on_invalid == "raise" and expected.rejected:
        with pytest.raises(SchemaValidationError, match="nothing was stored") as caught:
            await import_file(lake, case.data_type, file, **how)
        assert len(caught.value.result.rejected) <= len(expected.rejected)
        assert await lake.list_data_types() == []
    else:
        result = await import_file(lake, case.data_type, file, **how)
        assert (result.inserted, result.rejected) == (len(expected.rows), len(expected.rejected))
        assert result.rejected_file is None
    assert not rejected_file.exists()


async def test_what_could_be_known_is_stated(case, file, expected, rejected_file, lake) -> None:
    how = {"mapping": case.mapping, "rejected_file": rejected_file, "available_at": "timestamp+1d"}
    await import_file(lake, case.data_type, file, **how)
    found = await stored(lake, case.data_type, ("timestamp", "available_at"))
    assert len(found) == len(expected.rows)
    assert {known - moment for moment, known in found} == {timedelta(days=1)}
