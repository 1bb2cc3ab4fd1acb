"""What is referred to is known exactly, however the hashes of its names fall."""

from __future__ import annotations

from random import Random

import numpy as np
import pyarrow as pa
import pytest

from buffetstore.tables.operations import references
from buffetstore.tables.operations.references import Paths


def some_paths(random: Random, count: int) -> list[str]:
    """Return names of all lengths; many differ in their beginnings only, which their hashes do not see."""
    folders = ["", "a/", "year=2024/month=01/", "日本/"]
    names = [f"{random.randrange(40):0{random.choice([1, 8, 60])}}.parquet" for _ in range(count)]
    return [random.choice(folders) + name for name in names]


@pytest.mark.parametrize("seed", range(20))
def test_paths_are_held_as_a_set_holds_them(seed) -> None:
    random = Random(seed)
    arrays = [some_paths(random, random.choice([0, 1, 30])) for _ in range(random.randrange(5))]
    paths = Paths([pa.array(["cut", *names], pa.string()).slice(1) for names in arrays])
    expected = {name for names in arrays for name in names}
    asked = some_paths(random, 60)
    assert paths.hold(pa.array(asked)).to_pylist() == [name in expected for name in asked]
    assert paths.hold(pa.array([], pa.string())).to_pylist() == []
    assert len(paths) == sum(map(len, arrays))


def test_equal_hashes_do_no_harm(monkeypatch) -> None:
    monkeypatch.setattr(references, "hashes_of", lambda names: np.zeros(len(names), np.uint64))
    paths = Paths([pa.array(["a", "b"]), pa.array(["c"])])
    assert paths.hold(pa.array(["c", "d", "a"])).to_pylist() == [True, False, True]
