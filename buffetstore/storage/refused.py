"""Refused rows as rows of their quarantine, and back: pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from buffetstore.errors import InvalidInputError
from buffetstore.resilience.threads import give_way
from buffetstore.schemas.exact_json import from_json, to_json
from buffetstore.schemas.given import Reading
from buffetstore.schemas.mapping import check_field
from buffetstore.schemas.quarantined import OPEN, key_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buffetstore.schemas import Contract, ValidationResult
    from buffetstore.schemas.detail import Detail
    from buffetstore.schemas.findings import Finding
    from buffetstore.storage.lineage import Lineage

Fix: TypeAlias = Callable[[dict[str, Any]], dict[str, Any] | None] | Mapping[str, Any]

_CHUNK = 2_000
_NO_DAY = "00000000"


def quarantined_rows(
    verdict: ValidationResult, detail: Detail, contract: Contract, lineage: Lineage, now: datetime
) -> pa.Table:
    """Return the rows that a verdict refused as rows of their quarantine, whose contract is given."""
    assert detail.given is not None, "it has refused rows"
    reading = detail.given.reading.to_json()
    same = {
        "data_type": verdict.data_type,
        "schema_version": verdict.schema_version,
        "quarantined_at": now,
        "created_at": now,
        "version": contract.version,
        "status": OPEN,
        "reading": reading,
        "job": lineage.job,
        "inputs": [_text(each) for each in lineage.inputs],
    }
    base = hashlib.sha256(f"{verdict.data_type}\0{verdict.schema_version}\0{reading}".encode())
    batches = []
    rows: list[dict[str, Any]] = []
    for made in _rows(verdict.contract, detail, base):
        rows.append(same | made)
        if len(rows) == _CHUNK:
            batches.append(pa.RecordBatch.from_pylist(rows, schema=contract.schema))
            rows.clear()
            give_way()
    batches.append(pa.RecordBatch.from_pylist(rows, schema=contract.schema))
    return pa.Table.from_batches(batches, contract.schema)


def _rows(contract: Contract, detail: Detail, base: Any) -> Iterator[dict[str, Any]]:
    """Yield what differs from row to row."""
    assert detail.given is not None, "it has refused rows"
    columns = key_columns(contract)
    source = detail.given.reading.mapping.columns
    seen: dict[bytes, int] = {}
    chunks = (batch.to_pylist() for batch in detail.keys.to_batches(max_chunksize=_CHUNK))
    keys = (key for chunk in chunks for key in chunk)
    records, errors = detail.given.records(detail.rejected), detail.errors_of(detail.rejected)
    for row, key, record, findings in zip(detail.rejected.tolist(), keys, records, errors, strict=True):
        text = to_json(record)
        digest = base.copy()
        digest.update(b"\0" + text.encode())
        # The same row twice in a batch is two rows.
        number = seen[digest.digest()] = seen.get(digest.digest(), -1) + 1
        if number:
            digest.update(f"\0{number}".encode())
        yield {
            "quarantine_id": f"{_day(key[contract.event_time])}-{digest.hexdigest()[:32]}",
            "record": text,
            "record_index": row,
            **_reasons(findings),
            **{
                column: _key_text(record.get(source.get(name, name)) if key[name] is None else key[name])
                for name, column in columns.items()
            },
        }


def _reasons(findings: Sequence[Finding]) -> dict[str, Any]:
    reasons = [
        {"field": _text(each.field), "rule": each.error_type, "message": _text(each.message)} for each in findings
    ]
    return {
        "field": reasons[0]["field"],
        "rule": reasons[0]["rule"],
        "broken_rules": list(dict.fromkeys(each["rule"] for each in reasons)),
        "reasons": reasons,
    }


def _day(moment: datetime | None) -> str:
    """Return the day by which ids are near each other, so that a later delivery's are not compared with all of them."""
    return _NO_DAY if moment is None else f"{moment.year:04}{moment.month:02}{moment.day:02}"


def _key_text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, date | datetime) else _text(str(value))


def _text(text: str) -> str:
    """Return text that is UTF-8, whatever was given."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Mended:
    """Rows to be judged again, how they are to be read, and their ids."""

    ids: list[str]
    records: list[dict[str, Any]]
    reading: Reading
    skipped: int


def mended(rows: pa.Table, contract: Contract, fix: Fix | None, *, version: str | None, extra: str | None) -> Mended:
    """Return rows of a quarantine, all read in one way, as they are to be judged now.

    Parameters
    ----------
    contract:
        What they will be held against.
    fix:
        Values by field; or a function from a row as it was given to the row as it should have been, None to skip it.
    version:
        The version to read them in, whatever they say themselves.
    extra:
        What to do about columns that are no fields; None is what was done.

    Raises
    ------
    InvalidInputError
        `fix` fails, or gives something else than a row.
    MappingError
        `fix` names what is neither a field nor a column, or its value does not fit the field.
    """
    reading = Reading.from_json(rows["reading"][0].as_py())
    if extra is not None:
        reading = replace(reading, extra=extra)
    records = [from_json(text) for text in rows["record"].to_pylist()]
    ids = rows["quarantine_id"].to_pylist()
    if isinstance(fix, Mapping):
        reading, records = _set(records, reading, contract, fix)
    elif fix is not None:
        found = [(name, made) for name, made in zip(ids, _fixed(ids, records, fix), strict=True) if made is not None]
        ids, records = [name for name, _ in found], [made for _, made in found]
    if version is not None:
        column = reading.mapping.columns.get("version", "version")
        records = [{name: value for name, value in record.items() if name != column} for record in records]
    return Mended(ids, records, reading, len(rows) - len(ids))


def _fixed(ids: Sequence[str], records: Sequence[dict[str, Any]], fix: Any) -> Iterator[dict[str, Any] | None]:
    for name, record in zip(ids, records, strict=True):
        try:
            made = fix(dict(record))
        except Exception as error:
            raise InvalidInputError(
                f"the fix fails for row {name}: {type(error).__name__}: {error}; nothing was stored of its batch"
            ) from error
        if made is not None and not isinstance(made, Mapping):
            raise InvalidInputError(
                f"the fix makes a {type(made).__name__} of row {name}: return the row as a dict, or None to skip it"
            )
        yield None if made is None else dict(made)


def _set(
    records: list[dict[str, Any]], reading: Reading, contract: Contract, fix: Mapping[str, Any]
) -> tuple[Reading, list[dict[str, Any]]]:
    """Set fields in the contract's own terms, whatever column, unit or zone the mapping reads them from."""
    mapping = reading.mapping
    constants, columns, from_name = dict(mapping.constants), dict(mapping.columns), dict(mapping.from_name)
    gone: set[str] = set()
    plain: dict[str, Any] = {}
    for name, value in fix.items():
        if name not in contract.schema.names:
            if not any(name in record for record in records):
                check_field(contract, name)
            plain[name] = value
            continue
        gone |= {name, columns.pop(name, name)}
        for said in (constants, from_name):
            said.pop(name, None)
        if value is not None:
            constants[name] = value
    clock = mapping.milliseconds
    if contract.event_time in fix and clock is not None:
        gone.add(clock)
        clock = None
    symbol = None if (contract.symbol or "symbol") in fix else mapping.symbol
    gone -= set(columns.values())
    mapping = replace(
        mapping, constants=constants, columns=columns, from_name=from_name, milliseconds=clock, symbol=symbol
    )
    kept = [{name: value for name, value in record.items() if name not in gone} | plain for record in records]
    return replace(reading, mapping=mapping), kept
