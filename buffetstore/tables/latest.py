"""What several entries of the log come to: of each path its last action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from buffetstore.tables.file_pieces import hashes_of
from buffetstore.tables.log_columns import ADDS, REMOVES, add_batch, remove_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from buffetstore.tables.log import Entry


@dataclass(frozen=True, slots=True)
class Latest:
    """Files that stay added and files that stay removed, in the order of the commits, and every path of both.

    `adds` has the columns of `log_columns.ADDS` and `commit_version`, null where a file's own commit is not known.
    """

    adds: pa.Table
    removes: pa.Table
    paths: pa.Array


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
            adds.append(add_batch(entry.adds))
            paths.append(adds[-1]["path"])
            are_adds.append(np.ones(len(entry.adds), np.bool_))
            versions.append(np.full(len(entry.adds), -1 if entry.compacted else entry.version))
    every, is_add, version = pa.concat_arrays(paths), np.concatenate(are_adds), np.concatenate(versions)
    known = pa.array(version, mask=version < 0)
    added = pa.Table.from_batches(adds, ADDS).append_column("commit_version", known)
    removed = pa.Table.from_batches(removes, REMOVES)
    if len(np.unique(hashes_of(every))) == len(every):
        return Latest(added, removed, every)
    encoded = every.dictionary_encode()
    last = np.zeros(len(encoded.dictionary), np.int64)
    last[encoded.indices.to_numpy()] = np.arange(len(every))  # of several the last one stays
    stays = np.zeros(len(every), np.bool_)
    stays[last] = True
    return Latest(added.filter(pa.array(stays[is_add])), removed.filter(pa.array(stays[~is_add])), encoded.dictionary)
