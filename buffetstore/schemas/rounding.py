"""Floats to decimals, exactly as `Decimal(str(x))` rounded half-even, but a column at a time.

Why the short cut is exact: with s places, let k = rint(x * 10**s). A decimal of at most 15 digits survives the way to
a double and back, so when |k| < 10**15 and k / 10**s gives x again, k / 10**s is the shortest decimal of x. Otherwise x
has more places than s, and k is the rounded value unless x * 10**s lies nearer to a tie than its error, which is below
|x * 10**s| * 2**-51. Only ties and very large values are left for Python's decimals.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN)
_BLOCK = 65_536  # stays in the CPU's cache
_LOW = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Rounded:
    """Decimals made of floats, and which floats did not go in unchanged (positions, ascending)."""

    values: pa.Array
    rounded: int
    infinite: NDArray[np.int64]
    too_large: NDArray[np.int64]


def unscaled(number: Decimal, scale: int) -> int:
    """Return the number as a multiple of ``10**-scale``, rounded half-even."""
    return int(number.scaleb(scale, EXACT).to_integral_value(ROUND_HALF_EVEN, EXACT))


def round_floats(floats: pa.Array, target: pa.Decimal128Type) -> Rounded:
    """Return the floats (double; NaN means null) as decimals of the target's scale."""
    x = floats.to_numpy(zero_copy_only=False)
    words = np.empty((len(x), 2), np.int64)
    valid = np.ones(len(x), bool)
    infinite: list[int] = []
    too_large: list[int] = []
    rounded = 0
    for start in range(0, len(x), _BLOCK):
        part, into = x[start : start + _BLOCK], words[start : start + _BLOCK]
        with np.errstate(all="ignore"):
            y = part * 10.0**target.scale
            k = np.rint(y)
            plain = (k / 10.0**target.scale == part) & (np.abs(k) < min(1e15, 10.0**target.precision))
            odd = np.flatnonzero(~plain)
            k[odd] = 0
        into[:, 0] = k.astype(np.int64)
        into[:, 1] = into[:, 0] >> 63
        if len(odd):
            rounded += _settle(part, y, odd, into, target, (start, valid, infinite, too_large))
    buffers = [None if valid.all() else pa.array(valid).buffers()[1], pa.py_buffer(words)]
    values = pa.Array.from_buffers(target, len(x), buffers)
    return Rounded(values, rounded, np.array(infinite, np.int64), np.array(too_large, np.int64))


def _settle(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    odd: NDArray[np.int64],
    into: NDArray[np.int64],
    target: pa.Decimal128Type,
    outcome: tuple[int, NDArray[np.bool_], list[int], list[int]],
) -> int:
    """Fill in the values that the short cut does not cover; return how many were rounded."""
    start, valid, infinite, too_large = outcome
    missing = np.isnan(x[odd])
    endless = np.isinf(x[odd])
    infinite.extend((odd[endless] + start).tolist())
    valid[odd[missing | endless] + start] = False
    odd = odd[~(missing | endless)]
    scaled = y[odd]
    size = np.abs(scaled)
    small = size < min(1e15, 10.0**target.precision - 1)
    certain = small.copy()
    certain[small] = np.abs(size[small] % 1 - 0.5) > size[small] * 2.0**-51
    k = np.rint(scaled[certain]).astype(np.int64)
    into[odd[certain], 0] = k
    into[odd[certain], 1] = k >> 63
    rounded = int(certain.sum())
    limit = 10**target.precision
    for position in odd[~certain].tolist():
        number = Decimal(repr(float(x[position])))
        whole = unscaled(number, target.scale)
        if abs(whole) >= limit:
            too_large.append(position + start)
            valid[position + start] = False
            continue
        rounded += Decimal(whole).scaleb(-target.scale, EXACT) != number
        into[position, 0] = _signed(whole & _LOW)
        into[position, 1] = whole >> 64
    return rounded


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def relabelled(values: pa.Array, target: pa.Decimal128Type) -> pa.Array:
    """Return decimals with the same digits under another scale: a multiplication by a power of ten."""
    return pa.Array.from_buffers(target, len(values), values.buffers(), offset=values.offset)
