"""The registry's objects: an entry for each version of a data type, and who set which compatibility mode.

They lie at the root of the store, below ``metadata/schemas/<data type>/``, and are never changed.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from buffetstore.errors import AlreadyExistsError, ConflictError, CorruptFileError, NotFoundError
from buffetstore.objects.base import CREATE, Attributes
from buffetstore.objects.helpers import get_bytes, list_all
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import Mode, SchemaEntry, schema_key
from buffetstore.schemas.changes import diff
from buffetstore.schemas.compatibility import mode_of
from buffetstore.schemas.entry import ROOT, schema_prefix
from buffetstore.schemas.stored import canonical_json, parse_json
from buffetstore.schemas.widening import numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.objects.base import ObjectStore

_JSON = Attributes(content_type="application/json")
_ENTRY = re.compile(r"(\d+\.\d+\.\d+)\.json")
_MODE = re.compile(r"modes/(\d{10})\.json")
_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class ModeChange:
    """Who asked what of a data type's next versions, when and why."""

    mode: Mode
    set_by: str
    set_at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """What the registry holds of a data type: its versions, oldest first, and how often a mode was set."""

    versions: tuple[str, ...]
    modes: int


class SchemaStore:
    """Reads and writes the registry's objects of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def data_types(self) -> list[str]:
        """Return the data types of which there is something, sorted."""
        found = (await self._store.list_prefixes(f"{ROOT}/")).prefixes
        return sorted(unquote(prefix.removeprefix(f"{ROOT}/").rstrip("/")) for prefix in found)

    async def listed(self, data_type: str) -> Listed:
        """Return what there is of a data type: one request."""
        prefix = schema_prefix(data_type)
        names = [found.key.removeprefix(prefix) for found in await list_all(self._store, prefix)]
        versions = [found[1] for name in names if (found := _ENTRY.fullmatch(name))]
        modes = [int(found[1]) for name in names if (found := _MODE.fullmatch(name))]
        return Listed(tuple(sorted(versions, key=numbers_of)), max(modes, default=0))

    async def read(self, data_type: str, version: str) -> SchemaEntry:
        """Return the entry of a version.

        Raises
        ------
        NotFoundError
            There is none.
        CorruptFileError
            It was changed since it was registered, or is none.
        """
        key = schema_key(data_type, version)
        try:
            stored = await get_bytes(self._store, key)
        except NotFoundError as error:
            raise NotFoundError(
                f"{key} is not there, which says what {data_type} {version} demands: restore it from a backup, or "
                "register the version again by its class; `await storage.table(...)` reads the rows without it",
                key=key,
            ) from error
        return await in_thread(lambda: SchemaEntry.from_bytes(stored, key=key))

    async def entries(self, data_type: str, versions: Sequence[str] | None = None) -> list[SchemaEntry]:
        """Return the entries of these versions, or of all, oldest first."""
        wanted = (await self.listed(data_type)).versions if versions is None else versions
        return await gather([lambda each=each: self.read(data_type, each) for each in wanted])  # type: ignore[misc]

    async def put(self, entry: SchemaEntry) -> SchemaEntry:
        """Put an entry if there is none; return what is there, which demands the same.

        Raises
        ------
        ConflictError
            The version is registered with other demands; the message says by whom, and what differs.
        """
        stored = await in_thread(entry.to_bytes)
        try:
            await self._store.put(entry.key, stored, mode=CREATE, attributes=_JSON)
        except AlreadyExistsError as error:
            held = await self.read(entry.contract.data_type, entry.contract.version)
            await in_thread(_check_same, held, entry, error)
            return replace(held, contract=entry.contract)
        return entry

    async def put_mode(self, data_type: str, change: ModeChange) -> None:
        """Note a change of mode behind those that are there."""
        told = asdict(change) | {"format_version": 1, "set_at": change.set_at.astimezone(UTC).isoformat()}
        number = (await self.listed(data_type)).modes
        for _ in range(_ATTEMPTS):
            number += 1
            try:
                await self._store.put(_mode_key(data_type, number), canonical_json(told), mode=CREATE, attributes=_JSON)
            except AlreadyExistsError:
                continue
            return
        raise ConflictError(f"the mode of {data_type} was set by others {_ATTEMPTS} times meanwhile: try again")

    async def mode(self, data_type: str, number: int) -> ModeChange:
        """Return the mode that was set as the so-many-th, from 1."""
        key = _mode_key(data_type, number)
        return _mode_change(await get_bytes(self._store, key), key)

    async def modes(self, data_type: str) -> list[ModeChange]:
        """Return all changes of mode, oldest first."""
        count = (await self.listed(data_type)).modes
        return await gather([lambda at=at: self.mode(data_type, at) for at in range(1, count + 1)])  # type: ignore[misc]


def _mode_key(data_type: str, number: int) -> str:
    return f"{schema_prefix(data_type)}modes/{number:010d}.json"


def _mode_change(stored: bytes, key: str) -> ModeChange:
    try:
        told: Any = parse_json(stored)
        moment = datetime.fromisoformat(told["set_at"])
        return ModeChange(mode_of(told["mode"]), str(told["set_by"]), moment, str(told["reason"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptFileError(f"{key} is no change of mode: {error!r}", key=key) from error


def _check_same(held: SchemaEntry, entry: SchemaEntry, cause: AlreadyExistsError) -> None:
    if held.fingerprint == entry.fingerprint:
        return
    contract = entry.contract
    differing = "; ".join(map(str, diff(held.contract, contract)[:5])) or "the order of its columns"
    why = f" ({held.reason})" if held.reason else ""
    raise ConflictError(
        f"{contract.data_type} {contract.version} was registered by {held.registered_by} at "
        f"{held.registered_at:%Y-%m-%d %H:%M:%S} UTC{why} with other demands: {differing}. A version never changes: "
        "register yours as another one",
        key=entry.key,
    ) from cause
