r"""A file's rows into a data type: read, validated and stored batch by batch; bad rows are set aside.

About 500,000 rows (`Source.batch_rows`) are in memory at a time and become one commit, so that a file may be of any
size. A run that broke off can be repeated: rows that are stored already are unchanged, or, where `mode` says not to
look, known by their idempotency key.

>>> import asyncio, tempfile
>>> from decimal import Decimal
>>> from pathlib import Path
>>> from buffetstore import Mapping, StorageManager
>>> mapping = Mapping(
...     header=("ms", "price", "volume"),
...     milliseconds="ms",
...     tz="America/New_York",
...     scale=Decimal("0.0001"),
...     file_pattern=r"(?P<date>\d{8})_(?P<symbol>[a-z]+)",
...     upper=("symbol",),
...     constants={"data_source": "example", "interval": "1m"},
... )
>>> async def example(path: Path) -> int:
...     async with StorageManager.open("memory://") as storage:
...         return (await import_file(storage, "market_data", path, mapping=mapping)).inserted
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder, "20240102_aapl.csv")
...     _ = path.write_text("34200000,1856400,100")
...     asyncio.run(example(path))
1
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

from buffetstore.errors import InvalidInputError
from buffetstore.ingest.commits import Commits
from buffetstore.ingest.rejected import RejectedRows
from buffetstore.ingest.result import ImportResult
from buffetstore.ingest.run import Import, OnInvalid, Progress
from buffetstore.ingest.source import Source
from buffetstore.schemas import Mapping, SchemaManager, ValidationLevel

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping as Fields
    from collections.abc import Sequence

    from buffetstore.schemas import Contract
    from buffetstore.storage.base import DataStorage, WriteMode

_READING = ("version", "level", "available_at")


class StoreOptions(TypedDict, total=False):
    """What `import_file` hands on; all of it as in `DataStorage.store_data`."""

    version: str | None
    level: ValidationLevel | str
    available_at: Any
    mode: WriteMode | None
    replace_where: Fields[str, Any] | None
    inputs: Sequence[str]
    code_version: str | None
    job: str | None
    parameters: Fields[str, Any] | None


async def import_file(
    storage: DataStorage,
    data_type: str,
    file: Source | str | os.PathLike[str],
    *,
    mapping: Mapping | None = None,
    extra: Literal["error", "ignore"] = "ignore",
    on_invalid: OnInvalid = "file",
    rejected_file: str | os.PathLike[str] | None = None,
    idempotency_key: str | None = None,
    dry_run: bool = False,
    on_progress: Progress | None = None,
    **options: Unpack[StoreOptions],
) -> ImportResult:
    """Store the rows of a file that keep their contract, and set the others aside, with the reasons for each.

    Parameters
    ----------
    storage, data_type:
        Where to, and the contract of the rows.
    file:
        A path, or a `Source` that says more: delimiter, encoding, how numbers are spelled, rows at a time.
    mapping:
        How the file's columns become fields; `mapping.header` names the columns of a file that does not.
    extra:
        What to do about columns that are no fields: leave them out, and name them in the result, or refuse the rows.
    on_invalid, rejected_file:
        What becomes of rows that break the contract (`OnInvalid`), and in which file they go, if they do: else in
        ``<name>.rejected.csv`` beside the file (`.zip` for an archive, `.parquet` for Parquet). It is replaced.
    idempotency_key:
        Names this import of this file, read in this way: it lands once however often it is sent within seven days,
        and wherever it was cut off before. Each commit is known by the key and its number.
    dry_run:
        Judge the rows, and write nothing.
    on_progress:
        Told after every batch how much of the file is done (0 to 1), and the counts so far.
    options:
        See `StoreOptions`. An overwrite is one commit: its rows, two gigabytes at most, are in memory.

    Raises
    ------
    NotFoundError, PermissionDeniedError, CorruptFileError
        The file cannot be read; batches stored before stay.
    MappingError, InvalidInputError, IdempotencyKeyReusedError
        The mapping does not fit the file or the contract, or the call cannot be right.
    SchemaValidationError
        With ``on_invalid="raise"``: a row breaks the contract; nothing was stored.
    StorageError
        As `DataStorage.store_data` raises it; batches stored before stay.
    """
    run = _import(storage, data_type, file, mapping or Mapping(), extra, on_invalid, rejected_file, options)
    terms: dict[str, Any] = {"inputs": (run.source.path.name, *options.get("inputs", ()))}
    terms |= {name: value for name, value in options.items() if name not in {*_READING, "inputs"}}
    commits = Commits(storage, run.result, run.source.batch_rows, idempotency_key, terms)
    run.result.dry_run = dry_run
    return await run.run(None if dry_run else commits, on_progress)


def _import(
    storage: DataStorage,
    data_type: str,
    file: Source | str | os.PathLike[str],
    mapping: Mapping,
    extra: str,
    on_invalid: OnInvalid,
    rejected_file: str | os.PathLike[str] | None,
    options: StoreOptions,
) -> Import:
    source = file if isinstance(file, Source) else Source(Path(file))
    if mapping.header and not source.header:
        source = replace(source, header=mapping.header)
    if on_invalid not in get_args(OnInvalid):
        known = ", ".join(map(repr, get_args(OnInvalid)))
        raise InvalidInputError(f"on_invalid={on_invalid!r} is none of {known}")
    if strays := sorted(options.keys() - StoreOptions.__annotations__.keys()):
        raise InvalidInputError(
            f"import_file has no option {strays[0]!r}; what holds for every row goes into the mapping: "
            f"Mapping(constants={{{strays[0]!r}: ...}})"
        )
    return Import(
        storage=storage,
        contract=_contract(storage, data_type, options.get("version")),
        source=source,
        mapping=mapping,
        reading={"extra": extra, "level": options.get("level", "strict"), "available_at": options.get("available_at")},
        result=ImportResult(str(source.path), data_type),
        on_invalid=on_invalid,
        rejected=RejectedRows(source, None if rejected_file is None else Path(rejected_file)),
    )


def _contract(storage: DataStorage, data_type: str, version: str | None) -> Contract:
    for name in ("schemas", "schema_manager"):
        schemas = getattr(storage, name, None)
        if isinstance(schemas, SchemaManager):
            return schemas.contract(data_type, version)
    raise InvalidInputError(f"{storage!r} does not tell its contracts: give a StorageManager or a LakeStorage")
