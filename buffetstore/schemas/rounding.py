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
_BLOCK = 16_384  # with what is computed of it, it stays in the CPU's cache
_NONE = np.empty(0, np.int64)
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
    memory = pa.allocate_buffer(16 * len(x))  # of Arrow's pool, whose pages are there already
    words = np.frombuffer(memory, np.int64).reshape(-1, 2)
    words.flags.writeable = True
    made = _Made(target, words, np.ones(len(x), bool))
    with np.errstate(all="ignore"):
        for start in range(0, len(x), _BLOCK):
            made.add(x[start : start + _BLOCK], start)
    buffers = [None if made.valid.all() else pa.array(made.valid).buffers()[1], memory]
    values = pa.Array.from_buffers(target, len(x), buffers)
    return Rounded(values, made.rounded, np.array(made.infinite, np.int64), np.array(made.too_large, np.int64))


class _Made:
    """Decimals in the making."""

    def __init__(self, target: pa.Decimal128Type, words: NDArray[np.int64], valid: NDArray[np.bool_]) -> None:
        self.rounded = 0
        self.valid = valid
        self.infinite: list[int] = []
        self.too_large: list[int] = []
        self._scale = target.scale
        self._power = 10.0**target.scale
        self._limit = 10**target.precision
        self._words = words
        self._room = np.empty((3, min(_BLOCK, len(words))))

    def add(self, x: NDArray[np.float64], start: int) -> None:
        """Make decimals of the floats, which begin at this row."""
        y, k, back = self._room[:, : len(x)]
        np.multiply(x, self._power, out=y)
        np.rint(y, out=k)
        np.divide(k, self._power, out=back)
        exact = back == x
        low, high = k.min(), k.max()
        rest = _NONE
        if not (max(-low, high) < min(1e15, self._limit) and exact.all()):
            size = np.abs(y)
            exact &= size < min(1e15, self._limit)
            certain = (0.5 - np.abs(y - k) > size * 2.0**-51) & (size < min(1e15, self._limit - 1.0)) & ~exact
            self.rounded += int(np.count_nonzero(certain))
            rest = np.flatnonzero(~(exact | certain))
            k[rest] = 0
        into = self._words[start : start + len(x)]
        into[:, 0] = k
        if low >= 0:  # false for NaN
            into[:, 1] = 0
        else:
            np.right_shift(into[:, 0], 63, out=into[:, 1])
        if len(rest):
            self._settle(x, rest, start)

    def _settle(self, x: NDArray[np.float64], rest: NDArray[np.int64], start: int) -> None:
        """Fill in the values that the short cut does not cover."""
        endless = np.isinf(x[rest])
        self.infinite.extend((rest[endless] + start).tolist())
        absent = endless | np.isnan(x[rest])
        self.valid[rest[absent] + start] = False
        for position in rest[~absent].tolist():
            number = Decimal(repr(float(x[position])))
            whole = unscaled(number, self._scale)
            if abs(whole) >= self._limit:
                self.too_large.append(position + start)
                self.valid[position + start] = False
                continue
            self.rounded += Decimal(whole).scaleb(-self._scale, EXACT) != number
            self._words[position + start, 0] = _signed(whole & _LOW)
            self._words[position + start, 1] = whole >> 64


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def relabelled(values: pa.Array, target: pa.Decimal128Type) -> pa.Array:
    """Return decimals with the same digits under another scale: a multiplication by a power of ten."""
    return pa.Array.from_buffers(target, len(values), values.buffers(), offset=values.offset)
