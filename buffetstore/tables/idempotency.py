"""Writes that may be sent twice and land once: a key becomes `txn` actions, which the log keeps.

Source: Delta protocol, "Transaction Identifiers".
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from buffetstore.errors import CommitUnknownError, IdempotencyKeyReusedError, InvalidInputError
from buffetstore.tables.actions import Txn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

IdempotencyKey: TypeAlias = "str | tuple[str, int]"

_KEY, _SOURCE, _CONTENT = "buffetstore/key/", "buffetstore/source/", "buffetstore/content/"
_MASK = (1 << 63) - 1  # a txn's version is a signed long


def transactions(key: IdempotencyKey, rows: pa.Table, milliseconds: int) -> tuple[Txn, ...]:
    """Return the `txn` actions that make a write of `rows` known by `key`; it digests the rows, so call it in a thread.

    Parameters
    ----------
    key:
        Any text, or a source's name and the number of its write, which only grows: a write of the same or a lower
        number is known as done. Free texts are kept as long as the table's `delta.setTransactionRetentionDuration`
        says (seven days for ours), sources for ever. One source's writes are sent one after the other: of two at once
        the lower number could not be told from one that is sent again.

    Raises
    ------
    InvalidInputError
        The key is neither.
    """
    match key:
        case str() if key:
            # The digest stands where a version belongs, so that it stays with the table as long as the key.
            return (Txn(_KEY + key, _digest(rows), milliseconds),)
        case (str() as source, int() as number) if source and number >= 0 and not isinstance(number, bool):
            return (Txn(_SOURCE + source, number), Txn(_CONTENT + source, _digest(rows)))
    raise InvalidInputError(
        f"idempotency key {key!r} is neither a text with something in it, nor a source's name and the number of its "
        "write, such as ('feed', 7)"
    )


def already_done(held: Mapping[str, Txn], txns: Sequence[Txn]) -> bool:
    """Return whether the write that carries `txns` is in the table already.

    Raises
    ------
    IdempotencyKeyReusedError
        Under this key other rows were written.
    """
    if not txns:
        return False
    first = txns[0]
    known = held.get(first.app_id)
    if known is None:
        return False
    if first.app_id.startswith(_KEY):
        _same_content(known, first, first.app_id.removeprefix(_KEY))
        return True
    if known.version < first.version:
        return False
    if first.app_id.startswith(_SOURCE) and known.version == first.version and len(txns) > 1:
        content = held.get(txns[1].app_id)
        if content is not None:
            _same_content(content, txns[1], (first.app_id.removeprefix(_SOURCE), first.version))
    return True


def key_of(txns: Sequence[Txn]) -> IdempotencyKey | None:
    """Return the key of which `transactions` made these; None where it made none of them."""
    for txn in txns[:1]:
        if txn.app_id.startswith(_KEY):
            return txn.app_id.removeprefix(_KEY)
        if txn.app_id.startswith(_SOURCE):
            return txn.app_id.removeprefix(_SOURCE), txn.version
    return None


@contextmanager
def sent_again_by(txns: Sequence[Txn]) -> Iterator[None]:
    """Say with a `CommitUnknownError` under which idempotency key the write may be sent again."""
    try:
        yield
    except CommitUnknownError as error:
        key = key_of(txns)
        if key is None:
            raise
        raise CommitUnknownError(
            f"{error}. Send the same rows again with idempotency_key={key!r}: they will be there once",
            key=error.key or "",
            version=error.version,
            commit_id=error.commit_id,
            idempotency_key=key,
        ) from error


def expired(txn: Txn, now: int, retention: int) -> bool:
    """Return whether a transaction may be forgotten; times in milliseconds."""
    return txn.last_updated is not None and txn.last_updated + retention < now


def _same_content(known: Txn, ours: Txn, key: IdempotencyKey) -> None:
    if known.version != ours.version:
        raise IdempotencyKeyReusedError(
            f"idempotency key {key!r} was used for a write of other rows: give these a key of their own"
        )


def _digest(rows: pa.Table) -> int:
    """Return 63 bits of a digest that is the same for equal rows, however they lie in memory."""
    digest = hashlib.sha256()
    for field in rows.schema:
        digest.update(f"{field.name}\0{field.type}\0{rows.num_rows}\0".encode())
        column = rows[field.name].combine_chunks()
        _update(digest, column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks))
    return int.from_bytes(digest.digest()[:8], "big") & _MASK


def _update(digest: Any, array: Any) -> None:
    digest.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _update(digest, array.dictionary_decode())
    if pa.types.is_struct(kind):
        for child in array.flatten():  # which gives them the nulls of the struct
            _update(digest, child)
        return None
    if pa.types.is_map(kind):
        return _update(digest, array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(pa.compute.fill_null(pa.compute.list_value_length(array), 0).to_numpy().tobytes())
        return _update(digest, array.flatten())
    return _update_flat(digest, array)


def _update_flat(digest: Any, array: Any) -> None:
    kind = array.type
    if pa.types.is_null(kind):
        return
    present = array.drop_null()
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        digest.update(pa.compute.binary_length(present).to_numpy().tobytes())
        _, offsets, data = present.buffers()
        if data is not None and len(present):
            ends = np.frombuffer(offsets, np.int64 if pa.types.is_large_string(kind) else np.int32)
            start, end = ends[present.offset], ends[present.offset + len(present)]
            digest.update(memoryview(data)[start:end])
    elif pa.types.is_boolean(kind):
        digest.update(np.packbits(present.to_numpy(zero_copy_only=False)).tobytes())
    elif len(present):
        width = kind.bit_width // 8
        values = memoryview(present.buffers()[1])
        digest.update(values[present.offset * width : (present.offset + len(present)) * width])
