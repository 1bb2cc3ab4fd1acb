"""The sidecar that keeps when versions were committed, which a copy of the log would not tell.

`<table>/_buffetstore/commit_times.json` is one object of JSON: `format_version` (1), `table_id` (that of the table's
metadata), `versions` and `microseconds` (of as many commits, since 1970 in UTC), `sha256` (of all the rest, as
`json.dumps(..., sort_keys=True, separators=(",", ":"))` writes it). It counts for the table of that id alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from buffetstore.errors import CorruptFileError, NotFoundError, UnsupportedFeatureError
from buffetstore.objects.helpers import read_object
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.log import join

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.objects.base import ObjectStore

COMMIT_TIMES: Final = "_buffetstore/commit_times.json"
FORMAT_VERSION: Final = 1
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class KeptTimes:
    """When versions of the table `table_id` were committed; `etag` is the version of the object that says so."""

    table_id: str
    times: Mapping[int, datetime]
    etag: str | None = None


async def kept_times(store: ObjectStore, path: str, table_id: str | None = None) -> KeptTimes | None:
    """Return what the sidecar of a table says; None where there is none, or it is of another table.

    Raises
    ------
    CorruptFileError
        It is damaged.
    UnsupportedFeatureError
        It is of a newer format.
    """
    key = join(path, COMMIT_TIMES)
    try:
        meta, data = await read_object(store, key)
    except NotFoundError:
        return None
    found = await in_thread(_parsed, bytes(data), key, meta.version)
    return found if table_id in {None, found.table_id} else None


def rendered(kept: KeptTimes) -> bytes:
    """Return the object's bytes."""
    versions = sorted(kept.times)
    body = {
        "format_version": FORMAT_VERSION,
        "table_id": kept.table_id,
        "versions": versions,
        "microseconds": [(kept.times[version] - _EPOCH) // _MICROSECOND for version in versions],
    }
    return json.dumps(body | {"sha256": _digest(body)}).encode()


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parsed(data: bytes, key: str, etag: str) -> KeptTimes:
    try:
        body = json.loads(data)
        known = body["format_version"]
        if isinstance(known, int) and known > FORMAT_VERSION:
            raise UnsupportedFeatureError(
                f"{key!r} has format_version {known}, newer than {FORMAT_VERSION}: update buffetstore", key=key
            )
        if body.pop("sha256") != _digest(body):
            raise ValueError("its checksum is another")  # noqa: TRY301 - told as all that is wrong with it
        moments = (_EPOCH + each * _MICROSECOND for each in body["microseconds"])
        return KeptTimes(body["table_id"], dict(zip(body["versions"], moments, strict=True)), etag)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CorruptFileError(
            f"{key!r}, which keeps when versions were committed, is damaged: {error}; copy it from where the table was "
            "copied from, or delete it and go by the times of the log's entries",
            key=key,
        ) from error
