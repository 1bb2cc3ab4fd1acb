"""Where stored rows come from, kept with their commit in the table's log (`commitInfo`, `userMetadata`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from buffetstore.errors import InvalidInputError
from buffetstore.monitoring.logs import without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PARAMETERS_BYTES = 16_384  # everybody who reads the log reads them


class TableVersion(Protocol):
    """What names a data type at a version: an answer, the result of a store."""

    @property
    def data_type(self) -> str:
        """The data type's name."""

    @property
    def table_version(self) -> int:
        """The version of its table."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a commit says of its rows.

    Parameters
    ----------
    schema_version, schema_fingerprint:
        The version of the contract that was applied, and what tells it from another of that version.
    inputs:
        What the rows were made of: files, URLs, ``"<data_type>@<table_version>"``.
    code_version:
        What made them: a commit id, a release.
    job, parameters:
        In which run, and how it was set.
    """

    schema_version: str
    inputs: Sequence[str] = ()
    code_version: str | None = None
    job: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    schema_fingerprint: str | None = None

    def to_json(self) -> str:
        """Return one line of JSON; what is not known is left out."""
        told = {
            "schemaVersion": self.schema_version,
            "schemaFingerprint": self.schema_fingerprint,
            "inputs": list(self.inputs),
            "codeVersion": self.code_version,
            "job": self.job,
            "parameters": dict(self.parameters),
        }
        return json.dumps({name: value for name, value in told.items() if value}, ensure_ascii=False)


def lineage_of(
    schema_version: str,
    inputs: Sequence[str | TableVersion] = (),
    code_version: Any = None,
    *,
    job: Any = None,
    parameters: Any = None,
    schema_fingerprint: str | None = None,
) -> Lineage:
    """Return the lineage that a caller states, its URLs without user, password and signature.

    Raises
    ------
    InvalidInputError
        `inputs` is not a sequence of texts, or of what has a data type and a table version; `code_version` or `job` is
        not a text; `parameters` are not names with values that JSON has, in at most 16 KiB.
    """
    if isinstance(inputs, str):
        raise InvalidInputError(f"inputs={inputs!r} is one text, not a sequence of them: inputs=({inputs!r},)")
    for name, value, example in (("code_version", code_version, "a commit id, or a release"), ("job", job, "a name")):
        if value is not None and not (isinstance(value, str) and value):
            raise InvalidInputError(f"{name}={value!r} is not a text: {example}")
    return Lineage(
        schema_version,
        tuple(_input(each) for each in inputs),
        code_version,
        job,
        _parameters({} if parameters is None else parameters),
        schema_fingerprint,
    )


def _input(given: Any) -> str:
    if isinstance(given, str) and given:
        return without_secrets(given)
    data_type, version = getattr(given, "data_type", None), getattr(given, "table_version", None)
    if isinstance(data_type, str) and isinstance(version, int):
        return f"{data_type}@{version}"
    raise InvalidInputError(
        f"inputs has {given!r}: give a text ('bars.csv', 'market_data@12'), or an answer or result that has a "
        "data_type and a table_version"
    )


def _parameters(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidInputError(f"parameters={given!r} are not values by name: parameters={{'window': 20}}, say")
    try:
        written = json.dumps(dict(given), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"parameters={given!r} cannot be kept: {error}; give texts and numbers") from error
    if len(written.encode()) > MAX_PARAMETERS_BYTES:
        raise InvalidInputError(
            f"parameters take {len(written.encode()):,} bytes, at most {MAX_PARAMETERS_BYTES:,} are kept: "
            "store them as an object, and name it in inputs"
        )
    return {
        name: without_secrets(value) if isinstance(value, str) else value for name, value in json.loads(written).items()
    }


def read_lineage(user_metadata: str | None) -> tuple[Lineage, ...]:
    """Return what a commit says of its rows, once for each of the writes that share it; nothing where others wrote it.

    >>> read_lineage('{"schemaVersion": "1.2.0", "inputs": ["bars.csv"]}')[0].inputs
    ('bars.csv',)
    """
    found = []
    for line in (user_metadata or "").splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(told.get("schemaVersion"), str):
            parameters = told.get("parameters")
            found.append(
                Lineage(
                    told["schemaVersion"],
                    tuple(str(each) for each in told.get("inputs") or ()),
                    _text(told.get("codeVersion")),
                    _text(told.get("job")),
                    parameters if isinstance(parameters, dict) else {},
                    _text(told.get("schemaFingerprint")),
                )
            )
    return tuple(found)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
