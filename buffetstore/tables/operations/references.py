"""What a table refers to, for a vacuum: the files of versions that may still be read."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from buffetstore.errors import CorruptLogError
from buffetstore.resilience.threads import give_way, in_thread
from buffetstore.tables.actions import decode_path
from buffetstore.tables.checkpoint import fetched
from buffetstore.tables.deletion_vectors import DeletionVector, vector_key
from buffetstore.tables.file_pieces import hashes_of
from buffetstore.tables.log import join, read_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.segment import Listed
    from buffetstore.tables.snapshot import Snapshot

_ENTRIES = 256  # of the log, read at a time
_PIECE = 65_536  # actions of a checkpoint made into values together, where they are
_VECTORS = 1000  # deletion vectors after which another thread may run


class Paths:
    """Many paths, to be asked for others: 16 bytes each, beside the columns that hold them. Use it in a thread."""

    def __init__(self, arrays: Iterable[pa.Array]) -> None:
        self._arrays = [array for array in arrays if len(array)]
        hashes = [hashes_of(array) for array in self._arrays]
        every = np.concatenate([np.zeros(0, np.uint64), *hashes])
        self._order = np.argsort(every, kind="stable")
        self._hashes = every[self._order]
        self._starts = np.cumsum([0, *(len(array) for array in self._arrays)])

    def __len__(self) -> int:
        return len(self._hashes)

    def hold(self, paths: pa.Array) -> pa.Array:
        """Return for each of these paths whether it is among them."""
        wanted = np.unique(hashes_of(paths))
        first = np.searchsorted(self._hashes, wanted, "left")
        counts = np.searchsorted(self._hashes, wanted, "right") - first
        # Equal hashes are looked at in full, so that it does not matter how good they are.
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.sort(self._order[np.repeat(first, counts) + within])
        ends = np.searchsorted(rows, self._starts)
        near = [
            array.take(pa.array(rows[ends[at] : ends[at + 1]] - self._starts[at]))
            for at, array in enumerate(self._arrays)
            if ends[at] < ends[at + 1]
        ]
        return pc.is_in(paths, value_set=pa.concat_arrays([pa.array([], pa.string()), *near]))


def referred(snapshot: Snapshot) -> list[pa.Array]:
    """Return the paths that a snapshot refers to, as its columns hold them; call it in a thread."""
    vectors = snapshot.files["deletion_vector"].drop_null()
    stored = [list(_vector_paths(snapshot.path, piece.to_pylist())) for piece in vectors.chunks]
    return [*snapshot.files["path"].chunks, *(pa.array(names, pa.string()) for names in stored)]


async def removed_since(store: ObjectStore, path: str, listed: Listed, cutoff: datetime) -> list[pa.Array]:
    """Return the files that commits since `cutoff` removed, and their change data."""
    recent = [meta for _, meta in sorted(listed.commits.items()) if meta.last_modified >= cutoff]
    found: list[pa.Array] = []
    for at in range(0, len(recent), _ENTRIES):
        entries = await read_entries(store, path, recent[at : at + _ENTRIES])
        removed = ((each.path, each.deletion_vector) for entry in entries for each in entry.removes)
        changes = ((each.path, None) for entry in entries for each in entry.cdcs)
        found.append(await in_thread(_paths, path, chain(removed, changes)))
    checkpoints = listed.checkpoints(2**63)
    if checkpoints and len(recent) == len(listed.commits) and 0 not in listed.commits:
        # The log has been cleaned to within retention: what it removed before is in the checkpoint.
        found += await _removed_before(store, path, checkpoints[-1].keys, int(cutoff.timestamp() * 1000))
    return found


async def _removed_before(store: ObjectStore, path: str, keys: Sequence[str], oldest: int) -> list[pa.Array]:
    found: list[pa.Array] = []
    names = list(keys)
    try:
        for key in names:  # one in memory at a time; sidecars come after the parts that name them
            (part,) = await fetched(store, [key], f"the last checkpoint of table {path!r}")
            arrays, more = await in_thread(_removed, part, path, oldest)
            found += arrays
            names += [join(path, f"_delta_log/_sidecars/{decode_path(name)}") for name in more]
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise CorruptLogError(f"the checkpoint {keys[0]!r} cannot be read: {error}", key=path) from error
    return found


def _removed(part: bytes, path: str, oldest: int) -> tuple[list[pa.Array], list[str]]:
    """Return what a file of a checkpoint says was removed since `oldest`, and the names of its sidecars."""
    found: list[pa.Array] = []
    sidecars: list[str] = []
    for removes, names in _pieces(part):
        young = (each for each in removes if (each.get("deletionTimestamp") or 0) >= oldest)
        found.append(_paths(path, ((decode_path(each["path"]), _text(each.get("deletionVector"))) for each in young)))
        sidecars += names
        give_way()
    return found, sidecars


def _pieces(part: bytes) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
    if not part.startswith(b"PAR1"):
        actions = [json.loads(line) for line in part.splitlines() if line.strip()]
        yield (
            [each["remove"] for each in actions if each.get("remove")],
            [each["sidecar"]["path"] for each in actions if each.get("sidecar")],
        )
        return
    wanted = ("remove.path", "remove.deletionTimestamp", "remove.deletionVector", "sidecar.path")
    with pq.ParquetFile(pa.BufferReader(part)) as file:
        leaves = [file.metadata.schema.column(index).path for index in range(len(file.metadata.schema))]
        for batch in file.iter_batches(_PIECE, columns=[leaf for leaf in leaves if leaf.startswith(wanted)]):
            removes, sidecars = (
                batch[name].drop_null().to_pylist() if name in batch.schema.names else []
                for name in ("remove", "sidecar")
            )
            yield removes, [each["path"] for each in sidecars]


def _text(vector: dict[str, Any] | None) -> str | None:
    return json.dumps(vector) if vector else None


def _paths(path: str, files: Iterable[tuple[str, str | None]]) -> pa.Array:
    found: list[str] = []
    for name, vector in files:
        found.append(name)
        if vector is not None:
            found += _vector_paths(path, [vector])
    return pa.array(found, pa.string())


def _vector_paths(path: str, vectors: Sequence[str]) -> Iterator[str]:
    for at, vector in enumerate(vectors, 1):
        known = DeletionVector.from_text(vector)
        if known.storage == "u":
            yield vector_key(path, known, "a deletion vector").removeprefix(join(path, ""))
        if at % _VECTORS == 0:
            give_way()
