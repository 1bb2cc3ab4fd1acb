"""What several entries of the log come to: of each path its last action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from buffetstore.tables.file_pieces import hashes_of
from buffetstore.tables.log_columns import REMOVES, add_columns, remove_batch, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from buffetstore.tables.log import Entry
    from buffetstore.tables.log_columns import AddColumns


@dataclass(frozen=True, slots=True)
class Latest:
    """Files that stay added and files that stay removed, in the order of the commits, and every path of both.

    `versions` are those of `adds`, null where a file's own commit is not known.
    """

    adds: Sequence[AddColumns]
    versions: Sequence[pa.Array]
    removes: pa.Table
    paths: Any


def latest_actions(entries: Sequence[Entry]) -> Latest:
    """Return the last action of each path; the actions of one entry have no order, but an add undoes its remove."""
    adds, removes, paths, are_adds = [], [], [pa.array([], pa.string())], [np.zeros(0, np.bool_)]
    versions: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for entry in entries:
        if entry.removes:
            removes.append(remove_batch(entry.removes))
            paths.append(removes[-1]["path"])
            are_adds.append(np.zeros(len(entry.removes), np.bool_))
        if entry.adds:
            adds.append(add_columns(entry.adds))
            paths.append(adds[-1].batch["path"])
            are_adds.append(np.ones(len(entry.adds), np.bool_))
            versions.append(np.full(len(entry.adds), -1 if entry.compacted else entry.version))
    version, removed = np.concatenate(versions), pa.Table.from_batches(removes, REMOVES)
    runs = list(together(adds))
    named = [*(run.batch["path"] for run in runs), *(batch["path"] for batch in removes)]
    # `np.unique` makes a hash table, which takes twenty times as long.
    in_order = np.sort(np.concatenate([np.zeros(0, np.uint64), *(hashes_of(each) for each in named)]))
    if not (in_order[1:] == in_order[:-1]).any():
        return _cut(runs, version, removed, pa.chunked_array(paths))
    encoded, is_add = pa.concat_arrays(paths).dictionary_encode(), np.concatenate(are_adds)
    last = np.zeros(len(encoded.dictionary), np.int64)
    last[encoded.indices.to_numpy()] = np.arange(len(encoded))  # of several the last one stays
    stays = np.zeros(len(encoded), np.bool_)
    stays[last] = True
    kept, added, at = [], stays[is_add], 0
    for columns in runs:
        kept.append(columns.filter(added[at : at + len(columns)]))
        at += len(columns)
    return _cut(kept, version[added], removed.filter(pa.array(stays[~is_add])), encoded.dictionary)


def _cut(adds: Sequence[AddColumns], version: NDArray[np.int64], removes: pa.Table, paths: Any) -> Latest:
    ends = np.cumsum([len(columns) for columns in adds])[:-1]
    versions = [pa.array(each, mask=each < 0) for each in np.split(version, ends)]
    return Latest(adds, versions if adds else [], removes, paths)
