"""Loading hot data into the caches before it is asked for."""

from __future__ import annotations

from collections import defaultdict
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import Comparison, Expression, IsIn, Or
from buffetstore.query.cache_manager import Reading
from buffetstore.resilience.concurrency import ordered
from buffetstore.tables.log import join

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buffetstore.query.cache_manager import CacheManager
    from buffetstore.tables import Snapshot

_BYTES_IN_FLIGHT = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Preloaded:
    """What was loaded into the caches.

    Parameters
    ----------
    data_type, table_version:
        Of which state of its table.
    since:
        Rows from this event time on were wanted, of every symbol.
    symbols:
        Whose rows were wanted of every time, the most used first.
    files, bytes:
        The data files that are in the caches now.
    bytes_read, requests:
        Of them, what had to be fetched.
    files_left:
        Those that have no room in the caches.
    seconds:
        How long it took.
    """

    data_type: str
    table_version: int
    since: datetime
    symbols: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    bytes_read: int = 0
    requests: int = 0
    files_left: int = 0
    seconds: float = 0.0


def check_preload(days: object, symbols: object, top: object) -> None:
    """Raise `InvalidInputError` where the arguments of `preload` cannot be right."""
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days <= 1_000_000:
        raise InvalidInputError(f"days={days!r} is no number of days: 7, say")
    if isinstance(top, bool) or not isinstance(top, int) or top < 0:
        raise InvalidInputError(f"top={top!r} is not a whole number >= 0")
    known = isinstance(symbols, list | tuple | set | frozenset) and all(isinstance(each, str) for each in symbols)
    if symbols is not None and not known:
        raise InvalidInputError(f"symbols={symbols!r} is not a list of symbols: ['AAPL'], say")


def since(snapshot: Snapshot, event_time: str, days: float, now: datetime) -> datetime:
    """Return where the last days of what is stored begin: rows may end long before `now`, or be of times to come."""
    files = snapshot.with_statistics([event_time])
    name = f"max.{event_time}"
    newest = pc.max(files[name]).as_py() if name in files.column_names else None
    return (now if newest is None else min(newest, now)) - timedelta(days=days)


def of_time(event_time: str, start: datetime) -> Expression:
    """Return the predicate of rows from a moment on."""
    return Comparison(event_time, ">=", start)


def of_symbols(symbols: Iterable[tuple[str, str]]) -> Expression:
    """Return the predicate of rows that have one of these symbols, each in its column."""
    columns: defaultdict[str, list[str]] = defaultdict(list)
    for column, symbol in symbols:
        columns[column].append(symbol)
    return Or(tuple(IsIn(column, tuple(found)) for column, found in columns.items()))


def newest_first(snapshot: Snapshot, predicate: Expression, event_time: str) -> list[tuple[str, int]]:
    """Return path and size of the files that may hold rows of the predicate, those with the newest rows first."""
    files = snapshot.prune(predicate, (event_time,))
    name = f"max.{event_time}"
    times = files[name] if name in files.column_names else pa.nulls(files.num_rows, pa.timestamp("us", "UTC"))
    order = pc.sort_indices(
        pa.table({"time": times, "path": files["path"]}), sort_keys=[("time", "descending"), ("path", "ascending")]
    )
    files = files.take(order)
    return list(zip(files["path"].to_pylist(), map(int, files["size"].to_pylist()), strict=True))


class Preloader:
    """Loads whole data files of one table into the caches, until what they may take is used up.

    Parameters
    ----------
    root:
        Where the table is.
    room:
        Bytes.
    """

    def __init__(self, cache: CacheManager, root: str, room: int) -> None:
        self._cache = cache
        self._root = root
        self._room = room
        self._seen: set[str] = set()
        self.reading = Reading()
        self.files = self.bytes = self.left = 0

    async def load(self, files: Sequence[tuple[str, int]]) -> None:
        """Load files, in their order, each once; those for which there is no room are counted as left."""
        chosen = []
        for path, size in files:
            if path in self._seen:
                continue
            self._seen.add(path)
            if self.bytes + size > self._room:
                self.left += 1
                continue
            self.files += 1
            self.bytes += size
            chosen.append((join(self._root, path), size))
        calls = (partial(self._cache.fetch, key, size, self.reading) for key, size in chosen)
        sizes = (size for _, size in chosen)
        async with aclosing(ordered(calls, sizes, bytes_in_flight=_BYTES_IN_FLIGHT)) as loaded:
            async for _ in loaded:
                pass
