"""Which data is hot, and bringing it into the caches of a storage."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buffetstore.expressions import col
from buffetstore.monitoring.events import observed
from buffetstore.query import DataQuery, QueryOptimizer
from buffetstore.query.preload import Preloaded, Preloader, check_preload, newest_first, of_symbols, of_time, since
from buffetstore.query.usage import is_symbol
from buffetstore.resilience.threads import in_thread
from buffetstore.storage.upkeep import TableUpkeep

if TYPE_CHECKING:
    from collections.abc import Collection

    from buffetstore.schemas import Contract


class HotData(TableUpkeep):
    """Tables whose hot data can be brought into the caches."""

    async def preload(
        self, data_type: str, *, days: float = 7, symbols: Collection[str] | None = None, top: int = 100
    ) -> Preloaded:
        """Load hot data into the caches: of the last days, and of the symbols that are asked for most.

        Data files are loaded whole, those with the newest rows first, until the caches are full. Queries that need them
        find them in memory, or on disk.

        Parameters
        ----------
        days:
            Of the newest rows that are stored, those of times to come left aside.
        symbols:
            Whose rows are loaded, of every time. None is the `top` symbols that queries have named most since this
            storage was opened, or the `top` by traded volume of those days where none was named
            and the days have room in the caches.
        top:
            How many they are; 0 is none.

        Raises
        ------
        InvalidInputError
            A number is negative, or `symbols` is no list of texts.
        UnknownDataTypeError, TableNotFoundError
        """
        with observed(self._hook, "storage.preload", data_type) as counts:
            done = await _preloaded(await self._self(), data_type, days, symbols, top)
            counts.update(files=done.files, bytes_in=done.bytes_read)
            return done


async def _preloaded(lake: Any, data_type: str, days: float, symbols: Collection[str] | None, top: int) -> Preloaded:
    started = time.perf_counter()
    check_preload(days, symbols, top)
    table = await lake.table(data_type)
    snapshot = await table.refresh()
    contract = await lake.known.reader(data_type, snapshot)
    event_time = contract.event_time
    start = await in_thread(since, snapshot, event_time, days, datetime.now(UTC))
    loader = Preloader(lake.files, table.path, lake.files.room)
    await loader.load(await in_thread(newest_first, snapshot, of_time(event_time, start), event_time))
    hot = await _hot_symbols(lake, contract, symbols, top, None if loader.left else start)
    if hot:
        await loader.load(await in_thread(newest_first, snapshot, of_symbols(hot), event_time))
    return Preloaded(
        data_type,
        snapshot.version,
        start,
        tuple(symbol for _, symbol in hot),
        loader.files,
        loader.bytes,
        loader.reading.bytes,
        loader.reading.requests,
        loader.left,
        time.perf_counter() - started,
    )


async def _hot_symbols(
    lake: Any, contract: Contract, symbols: Collection[str] | None, top: int, start: datetime | None
) -> list[tuple[str, str]]:
    """Return column and symbol: those given, else those asked for most, else those of which most was traded.

    The last are of the time from `start`. It is None where that time has no room in the caches: reading it would drive
    out what has been loaded.
    """
    names = contract.schema.names
    column = next((name for name in ("symbol", *contract.key) if is_symbol(name) and name in names), None)
    if symbols is not None:
        return [] if column is None else [(column, symbol) for symbol in symbols]
    used = [each for each in lake.usage.top(contract.data_type, top) if each[0] in names]
    if used or not top or start is None or column is None or "volume" not in names:
        return used
    traded = DataQuery(
        contract.data_type,
        date_range={"start": start},
        group_by=[column],
        aggregates={"volume": col("volume").sum()},
        order_by=["-volume"],
        limit=top,
    )
    # Not `retrieve_data`: nobody asked this, and it says nothing of what will be asked.
    bound, snapshot = await lake._bound(QueryOptimizer().optimize(traded))  # noqa: SLF001 a part of the same package
    answer = await lake._executor.retrieve(bound, snapshot)  # noqa: SLF001
    return [(column, symbol) for symbol in answer.table[column].to_pylist() if symbol is not None]
