"""SQL over governed data types: DuckDB computes, on the rows that pruning leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb
import pyarrow as pa

from buffetstore.engines.sql_needs import needs, tables_named
from buffetstore.errors import InvalidQueryError, StorageError, TableNotFoundError, UnknownDataTypeError
from buffetstore.expressions import ALWAYS
from buffetstore.query import ArrowRows, DataQuery
from buffetstore.resilience.concurrency import gather, unhurried
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from datetime import datetime

    from buffetstore.engines.sql_needs import Need
    from buffetstore.storage import DataStorage

_Rows: TypeAlias = "pa.Table | AsyncGenerator[pa.RecordBatch, None]"

_SETTINGS = (
    "SET TimeZone='UTC'",
    "SET python_enable_replacements=false",  # a statement names data types, not variables of ours
    "SET enable_external_access=false",  # nor files
    "SET lock_configuration=true",
)


@dataclass(frozen=True, slots=True)
class SqlAnswer(ArrowRows):
    """The rows of a statement.

    Parameters
    ----------
    table:
        The rows, in the statement's order.
    data_types:
        What it read.
    """

    table: pa.Table
    data_types: tuple[str, ...]


async def sql(
    storage: DataStorage,
    statement: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    known_at: datetime | str | None = None,
    as_of: datetime | str | None = None,
) -> SqlAnswer:
    """Return what a SELECT makes of data types, which it names as tables.

    Rows and columns that the statement cannot need are not read: filters by constants and parameters prune files as
    those of a query do. A data type that is named once streams through; one that is named several times is held in
    memory. Times are UTC.

    Parameters
    ----------
    parameters:
        For ``?`` (a list) or ``$name`` (a dict) in the statement.
    known_at, as_of:
        As in `DataQuery`, for every data type.

    Raises
    ------
    InvalidQueryError
        It is no SELECT, names what is no data type, or DuckDB refuses it.
    """
    tree = await in_thread(_parsed, statement)
    names = tables_named(tree)
    found = await gather([partial(_schema_of, storage, name) for name in names])
    schemas = dict(zip(names, found, strict=True))
    needed = await in_thread(needs, tree, schemas, _by_identifier(parameters))
    tables = [
        (name, await _source(storage, _query(name, need, known_at, as_of), need)) for name, need in needed.items()
    ]
    run = _Run(statement, parameters, tables, {name: _schema(schemas[name], need) for name, need in needed.items()})
    return SqlAnswer(await run.answer(), tuple(names))


def _parsed(statement: Any) -> Any:
    if not isinstance(statement, str) or not statement.strip():
        raise InvalidQueryError(f"{statement!r} is no statement: give a text, a SELECT of data types")
    with duckdb.connect(":memory:") as connection:
        row = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
    tree = json.loads(row[0] if row else "{}")
    if tree.get("error"):
        only = "only SELECT is answered: store_data and delete_data change rows"
        reason = only if tree["error_type"] == "not implemented" else tree["error_message"]
        raise InvalidQueryError(f"the statement cannot be read: {reason}")
    if len(tree["statements"]) != 1:
        raise InvalidQueryError(f"{len(tree['statements'])} statements were given: one is answered at a time")
    return tree


async def _schema_of(storage: DataStorage, name: str) -> pa.Schema:
    try:
        return (await storage.describe(name)).schema
    except (UnknownDataTypeError, TableNotFoundError) as error:
        stored = await storage.list_data_types()
        near = get_close_matches(name, stored, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = ", ".join(stored) or "nothing"
        raise InvalidQueryError(f"there is no data type {name!r}: {hint}stored is {known}") from error


def _by_identifier(parameters: Any) -> dict[str, Any]:
    if isinstance(parameters, Mapping):
        return {str(name): value for name, value in parameters.items()}
    return {str(number): value for number, value in enumerate(parameters or (), 1)}


def _query(name: str, need: Need, known_at: Any, as_of: Any) -> DataQuery:
    filters = None if need.predicate == ALWAYS else need.predicate
    columns = need.columns or None
    return DataQuery(name, filters, columns=columns, known_at=known_at, as_of=as_of)


async def _source(storage: DataStorage, query: DataQuery, need: Need) -> _Rows:
    """Return what has to be there several times as a table, and what is read once as a scan."""
    return storage.scan(query) if need.times == 1 else (await storage.retrieve_data(query)).table


def _schema(schema: pa.Schema, need: Need) -> pa.Schema:
    names = need.columns or tuple(schema.names)
    return pa.schema([schema.field(name).with_nullable(True) for name in names])


class _Run:
    """One statement, computed in a thread of its own, which takes batches of the event loop as it needs them.

    Not in the pools: those decode the batches that it waits for.
    """

    def __init__(
        self, statement: str, parameters: Any, tables: list[tuple[str, _Rows]], schemas: Mapping[str, pa.Schema]
    ) -> None:
        self._statement = statement
        self._parameters = parameters
        self._tables = tables
        self._schemas = schemas
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._failure: StorageError | None = None

    async def answer(self) -> pa.Table:
        """Return the rows; a caller that is cancelled interrupts the computation and waits for its end."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="buffetstore-sql")
        work = loop.run_in_executor(thread, self._computed, loop)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._connection is not None:
                self._connection.interrupt()
            with suppress(InvalidQueryError, StorageError):
                await unhurried(work)
            raise
        finally:
            for _, rows in self._tables:
                if not isinstance(rows, pa.Table):
                    await rows.aclose()
            thread.shutdown(wait=False)

    def _computed(self, loop: asyncio.AbstractEventLoop) -> pa.Table:
        try:
            with duckdb.connect(":memory:") as connection:
                self._connection = connection
                for setting in _SETTINGS:
                    connection.execute(setting)
                for name, rows in self._tables:
                    connection.register(name, self._relation(name, rows, loop))
                return connection.execute(self._statement, self._parameters).to_arrow_table()
        except duckdb.Error as error:
            if self._failure is not None:  # of a scan: DuckDB would tell no more than its words
                raise self._failure from None
            raise InvalidQueryError(f"the statement failed: {str(error).strip()}") from error
        finally:
            self._connection = None

    def _relation(self, name: str, rows: _Rows, loop: asyncio.AbstractEventLoop) -> Any:
        if isinstance(rows, pa.Table):
            return rows
        schema = self._schemas[name]
        return pa.RecordBatchReader.from_batches(schema, self._pulled(rows, schema, loop))

    def _pulled(
        self, rows: AsyncGenerator[pa.RecordBatch, None], schema: pa.Schema, loop: asyncio.AbstractEventLoop
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of the event loop's in this thread."""

        async def step() -> pa.RecordBatch | None:
            return await anext(rows, None)

        try:
            while (batch := asyncio.run_coroutine_threadsafe(step(), loop).result()) is not None:
                yield batch.select(schema.names).cast(schema)
        except StorageError as error:
            self._failure = error
            raise
