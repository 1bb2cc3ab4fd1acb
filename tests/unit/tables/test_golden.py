"""Tables that Spark wrote: those within what we support are read right, the others are refused by name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.errors import CorruptLogError, StorageError, TableNotFoundError, UnsupportedFeatureError
from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable

GOLDEN = Path(__file__).parents[4] / "shared/data/delta-golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the golden Delta tables in ../shared/data")

REFUSED: dict[str, tuple[type[StorageError], str]] = {
    "deltalog-commit-info": (CorruptLogError, "schemaString"),
    "deltalog-invalid-protocol-version": (UnsupportedFeatureError, "reader version 99"),
    "deltalog-state-reconstruction-from-checkpoint-missing-protocol": (CorruptLogError, "version 10.*no protocol"),
    "deltalog-state-reconstruction-without-protocol": (CorruptLogError, "no protocol"),
    "no-delta-log-folder": (TableNotFoundError, "no Delta table at 'delta'"),
    "update-deleted-directory": (CorruptLogError, "schemaString"),
}


def names() -> list[str]:
    return sorted(path.name.removesuffix(".tar.zst") for path in GOLDEN.glob("*.tar.zst"))


@pytest.fixture
def unpacked(tmp_path):
    def unpack(name: str) -> Path:
        done = subprocess.run(["tar", "--zstd", "-xf", GOLDEN / f"{name}.tar.zst", "-C", tmp_path], check=False)
        if done.returncode:
            pytest.skip("needs tar with zstd")
        return tmp_path / name

    return unpack


def expected_rows(folder: Path, schema: pa.Schema) -> pa.Table:
    """Return the rows that Spark says the table has."""
    files = [pq.read_table(path, partitioning=None) for path in folder.rglob("*.parquet")]
    table = pa.concat_tables(files, promote_options="permissive")
    columns = [pa.chunked_array(table[name]).cast(field.type) for name, field in zip(schema.names, schema, strict=True)]
    return pa.table(columns, names=schema.names)


@pytest.mark.parametrize("name", [name for name in names() if name not in REFUSED])
async def test_is_read_right(name, unpacked) -> None:
    root = unpacked(name)
    table = await DeltaTable.open(LocalStore(root), "delta")
    found = await table.to_arrow()
    assert found.schema.equals(table.schema)
    if name.startswith("canonicalized-paths"):  # no rows, and thus nothing to compare with
        assert table.files().num_rows == 0
        return
    expected = expected_rows(root / "expected", table.schema)
    if found.num_rows > 1000:  # as Python objects it would take long
        order = [(column, "ascending") for column in found.column_names]
        assert found.cast(expected.schema).sort_by(order).equals(expected.sort_by(order))
    else:
        assert sorted(map(str, found.to_pylist())) == sorted(map(str, expected.to_pylist()))


@pytest.mark.parametrize("name", [name for name in names() if name in REFUSED])
async def test_is_refused_by_name(name, unpacked) -> None:
    kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        await DeltaTable.open(LocalStore(unpacked(name)), "delta")


async def test_versions_of_the_past(unpacked) -> None:
    root = unpacked("basic-with-inserts-deletes-checkpoint")
    store = LocalStore(root)
    counts = [(await (await DeltaTable.open(store, "delta", version=n)).to_arrow()).num_rows for n in range(14)]
    latest = await DeltaTable.open(store, "delta")
    assert latest.version == 13
    assert counts[13] == (await latest.to_arrow()).num_rows
    assert counts[0] == 0 or counts[0] < counts[5]
