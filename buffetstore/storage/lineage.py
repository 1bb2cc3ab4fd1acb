"""Where stored rows come from, kept with their commit in the table's log (`commitInfo`, `userMetadata`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buffetstore.errors import InvalidInputError
from buffetstore.monitoring.logs import without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a commit says of its rows.

    Parameters
    ----------
    schema_version:
        The version of the contract that was applied.
    inputs:
        What the rows were made of: files, URLs, tables with their versions.
    code_version:
        What made them: a commit id, a release.
    """

    schema_version: str
    inputs: Sequence[str] = ()
    code_version: str | None = None

    def to_json(self) -> str:
        """Return one line of JSON; what is not known is left out."""
        told = {"schemaVersion": self.schema_version, "inputs": list(self.inputs), "codeVersion": self.code_version}
        return json.dumps({name: value for name, value in told.items() if value}, ensure_ascii=False)


def lineage_of(schema_version: str, inputs: Any, code_version: Any) -> Lineage:
    """Return the lineage that a caller states, its URLs without user, password and signature.

    Raises
    ------
    InvalidInputError
        `inputs` is not a sequence of texts, or `code_version` not a text.
    """
    if isinstance(inputs, str) or not all(isinstance(each, str) and each for each in inputs):
        raise InvalidInputError(f"inputs={inputs!r} is not a sequence of texts: inputs=('bars.csv',), say")
    if code_version is not None and not (isinstance(code_version, str) and code_version):
        raise InvalidInputError(f"code_version={code_version!r} is not a text: a commit id, or a release")
    return Lineage(schema_version, tuple(without_secrets(each) for each in inputs), code_version)


def read_lineage(user_metadata: str | None) -> tuple[Lineage, ...]:
    """Return what a commit says of its rows, once for each of the writes that share it; nothing where others wrote it.

    >>> read_lineage('{"schemaVersion": "1.2.0", "inputs": ["bars.csv"]}')
    (Lineage(schema_version='1.2.0', inputs=('bars.csv',), code_version=None),)
    """
    found = []
    for line in (user_metadata or "").splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(told.get("schemaVersion"), str):
            inputs = tuple(str(each) for each in told.get("inputs") or ())
            found.append(Lineage(told["schemaVersion"], inputs, told.get("codeVersion")))
    return tuple(found)
