"""How Parquet pages are compressed, and which codec and encoding suit the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

Codec: TypeAlias = Literal["zstd", "snappy", "lz4", "gzip", "none"]
Compression: TypeAlias = Literal["auto", "zstd", "snappy", "lz4", "gzip", "none"]

COMPRESSIONS: tuple[str, ...] = get_args(Compression)

SAMPLE_ROWS = 4096
# A dictionary pays while its values come back: at most this share of a sample may be distinct.
DICTIONARY_SHARE = {"text": 0.5, "number": 0.125}
# Decimals of so many digits are stored as integers; wider ones as fixed bytes.
INTEGER_DECIMAL_DIGITS = 18
# `auto` takes a slower codec only where it saves this share of the bytes.
WORTHWHILE_SAVING = 0.1


def choose_codec(table: pa.Table) -> Codec:
    """Return the codec that `auto` means for this data: the quickest one to read that is not much larger.

    A sample is compressed by lz4 and by zstd. Data that neither makes 5 % smaller is left as it is.
    """
    sample = pa.BufferOutputStream()
    with pa.ipc.new_stream(sample, table.schema) as writer:
        writer.write_table(_sample(table))
    plain = sample.getvalue()
    lz4, zstd = (len(pa.Codec(name).compress(plain, asbytes=True)) for name in ("lz4", "zstd"))
    if min(lz4, zstd) > 0.95 * plain.size:
        return "none"
    return "zstd" if zstd < (1 - WORTHWHILE_SAVING) * lz4 else "lz4"


def encodings(table: pa.Table) -> tuple[list[str], dict[str, str]]:
    """Return the Parquet columns to encode by dictionary, and the encodings of others; the rest stay plain.

    Strings and numbers of few values take a dictionary; integers, times and narrow decimals differences of neighbours
    (DELTA_BINARY_PACKED), other floats their bytes apart (BYTE_STREAM_SPLIT).
    """
    sample = _sample(table)
    dictionaries: list[str] = []
    others: dict[str, str] = {}
    for field in table.schema:
        if pa.types.is_nested(field.type):
            dictionaries += [path for path, leaf in _leaves(field.name, field.type) if _is_text(leaf)]
        elif _repeats(sample[field.name]):
            dictionaries.append(field.name)
        elif (encoding := _encoding(field.type)) is not None:
            others[field.name] = encoding
    return dictionaries, others


def _sample(table: pa.Table) -> pa.Table:
    # Rows evenly apart: the first rows of sorted data would all be of one symbol.
    if table.num_rows <= SAMPLE_ROWS:
        return table
    step = table.num_rows / SAMPLE_ROWS
    return table.take(pa.array([int(index * step) for index in range(SAMPLE_ROWS)]))


def _repeats(values: pa.ChunkedArray) -> bool:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return True
    if _is_text(kind):
        share = DICTIONARY_SHARE["text"]
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        share = DICTIONARY_SHARE["number"]
    else:
        return False
    return bool(pc.count_distinct(values, mode="all").as_py() <= max(1.0, share * len(values)))


def _encoding(kind: pa.DataType) -> str | None:
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "DELTA_BINARY_PACKED"
    if pa.types.is_decimal(kind) and kind.precision <= INTEGER_DECIMAL_DIGITS:
        return "DELTA_BINARY_PACKED"
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return "BYTE_STREAM_SPLIT"
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _leaves(path: str, kind: Any) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            yield from _leaves(f"{path}.{kind.field(index).name}", kind.field(index).type)
    elif pa.types.is_map(kind):
        yield from _leaves(f"{path}.key_value.key", kind.key_type)
        yield from _leaves(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind
