"""An entry of the registry that lies with the data: one immutable object for each version of a data type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from buffetstore.errors import CorruptFileError, InvalidInputError, UnsupportedFeatureError
from buffetstore.schemas.document import FORMAT_VERSION
from buffetstore.schemas.json_values import NotJSONError
from buffetstore.schemas.stored import canonical_json, contract_document, fingerprint, load_contract, parse_json
from buffetstore.schemas.types import canonical_version

if TYPE_CHECKING:
    from buffetstore.schemas.contract import Contract

ROOT = "metadata/schemas"
_WORDS = frozenset({"format_version", "contract", "fingerprint", "registered_at", "registered_by", "reason"})


@dataclass(frozen=True, slots=True)
class SchemaEntry:
    """A contract as it was registered: by whom, when and why.

    Parameters
    ----------
    registered_at:
        An aware time.
    """

    contract: Contract
    registered_by: str
    registered_at: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        if self.registered_at.tzinfo is None:
            raise InvalidInputError(f"registered_at {self.registered_at} has no time zone: use datetime.now(UTC)")

    @property
    def key(self) -> str:
        """Where it lies, below the bucket's root."""
        return schema_key(self.contract.data_type, self.contract.version)

    @property
    def fingerprint(self) -> str:
        """What tells contracts apart that demand different things."""
        return fingerprint(self.contract)

    def to_bytes(self) -> bytes:
        """Return the object's content: canonical JSON."""
        return canonical_json(
            {
                "format_version": FORMAT_VERSION,
                "contract": contract_document(self.contract),
                "fingerprint": self.fingerprint,
                "registered_at": self.registered_at.astimezone(UTC).isoformat(),
                "registered_by": self.registered_by,
                "reason": self.reason,
            }
        )

    @classmethod
    def from_bytes(cls, stored: bytes, *, key: str) -> SchemaEntry:
        """Return the entry that the object holds.

        Raises
        ------
        CorruptFileError
            It is none, it lies under another version's key, or its contract was changed since it was registered.
        UnsupportedFeatureError
            It is of a newer format.
        """
        try:
            given = parse_json(stored)
        except (NotJSONError, RecursionError) as error:
            raise CorruptFileError(f"{key}: {error}", key=key) from error
        _check_words(given, key)
        contract = load_contract(given["contract"], origin=key)
        entry = cls(contract, given["registered_by"], _moment(given["registered_at"], key), given["reason"])
        if entry.key != key:
            raise CorruptFileError(
                f"{key} holds {contract.data_type} {contract.version}, which is {entry.key}", key=key
            )
        if entry.fingerprint != given["fingerprint"]:
            raise CorruptFileError(
                f"{key} was changed after it was registered: its fingerprint is {entry.fingerprint}, registered was "
                f"{given['fingerprint']}; restore the object, and register a change as a new version",
                key=key,
            )
        return entry


def schema_key(data_type: str, version: str) -> str:
    """Return where a version's entry lies: ``metadata/schemas/<type>/<version>.json``, odd letters percent-encoded."""
    return f"{schema_prefix(data_type)}{canonical_version(version)}.json"


def schema_prefix(data_type: str) -> str:
    """Return what the keys of all versions of a data type begin with."""
    word = quote(data_type, safe="")
    return f"{ROOT}/{word.replace('.', '%2E') if set(word) == {'.'} else word}/"


def _check_words(given: Any, key: str) -> None:
    if not isinstance(given, dict):
        raise CorruptFileError(f"{key} is no registered schema but a {type(given).__name__}", key=key)
    known = given.get("format_version")
    if isinstance(known, int) and known > FORMAT_VERSION:
        raise UnsupportedFeatureError(
            f"{key} has format_version {known}, newer than {FORMAT_VERSION}: update buffetstore", key=key
        )
    if given.keys() != _WORDS:
        strange = sorted(given.keys() ^ _WORDS)
        raise CorruptFileError(
            f"{key}: {', '.join(strange)}: an entry has exactly {', '.join(sorted(_WORDS))}", key=key
        )
    for word in ("fingerprint", "registered_at", "registered_by", "reason"):
        if not isinstance(given[word], str):
            raise CorruptFileError(f"{key}: {word} {given[word]!r} is not text", key=key)
    if not isinstance(given["contract"], dict):
        raise CorruptFileError(f"{key}: contract {given['contract']!r} is no document", key=key)


def _moment(text: str, key: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CorruptFileError(f"{key}: registered_at {text!r} is no time", key=key) from error
    if moment.tzinfo is None:
        raise CorruptFileError(f"{key}: registered_at {text!r} has no time zone", key=key)
    return moment
