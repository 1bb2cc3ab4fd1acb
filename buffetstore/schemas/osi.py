"""Option symbols: the 21 characters of OSI/OCC, and the forms that vendors make of them.

Source: OCC, Options Symbology Initiative: root (6, padded with spaces), expiry YYMMDD, C or P, strike in 1/1000 (8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from buffetstore.errors import InvalidInputError

_FORM = re.compile(
    r"(?:[A-Z]:|\.)?(?P<root>[A-Z0-9./^$]{1,6}?)[ _-]*(?P<expiry>\d{6}|\d{8})[ _-]*(?P<right>[CP])[ _-]*"
    r"(?P<strike>\d{8}|\d{1,7}(?:\.\d{1,3})?)"
)
_THOUSANDTHS = Decimal("0.001")
_STRIKES = range(1, 10**8)
_DIGITS_OF_STRIKE = 8


@dataclass(frozen=True, slots=True)
class OptionParts:
    """What an option symbol says. `root` is the underlying's symbol without punctuation, at times with a suffix."""

    root: str
    expiration_date: date
    option_type: Literal["call", "put"]
    strike_price: Decimal


def parse_osi(symbol: str) -> OptionParts | None:
    """Return the parts of an option symbol; None when it is written in no form that is known.

    Known are ``'AAPL  240119C00150000'`` with or without the spaces, ``'O:AAPL240119C00150000'``, ``'.AAPL240119C150'``
    and ``'AAPL-240119-C-152.5'``.
    """
    found = _FORM.fullmatch(symbol.strip().upper())
    if found is None:
        return None
    digits = found["expiry"] if len(found["expiry"]) == 8 else f"20{found['expiry']}"
    try:
        expiry = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    strike = Decimal(found["strike"])
    if len(found["strike"]) == _DIGITS_OF_STRIKE and "." not in found["strike"]:
        strike *= _THOUSANDTHS
    return OptionParts(found["root"], expiry, "call" if found["right"] == "C" else "put", strike.normalize())


def build_osi(underlying: str, expiration_date: date, option_type: str, strike_price: Decimal) -> str:
    """Return the 21-character symbol.

    Raises
    ------
    InvalidInputError
        The contract cannot be written so: a root of more than 6 letters, a strike finer than 1/1000 or too large, an
        expiry outside 2000 to 2099.
    """
    root = root_of(underlying)
    strike = strike_price * 1000
    if not 1 <= len(root) <= 6 or not root.isascii():
        raise InvalidInputError(f"{underlying!r} is no root of an OSI symbol: 1 to 6 letters; give contract_symbol")
    if strike != int(strike) or int(strike) not in _STRIKES:
        raise InvalidInputError(
            f"strike {strike_price} is no whole number of 1/1000 below 100,000; give contract_symbol"
        )
    if expiration_date.year // 100 != 20:
        raise InvalidInputError(f"expiry {expiration_date} is outside 2000 to 2099; give contract_symbol")
    if option_type not in {"call", "put"}:
        raise InvalidInputError(f"option type {option_type!r} is neither 'call' nor 'put'")
    return f"{root:<6}{expiration_date:%y%m%d}{option_type[0].upper()}{int(strike):08d}"


def root_of(underlying: str) -> str:
    """Return the letters and digits of a symbol: BRKB for BRK.B."""
    return "".join(letter for letter in underlying.upper() if letter.isalnum())


def canonical(parts: OptionParts) -> str:
    """Return the parts as the 21-character symbol."""
    return build_osi(parts.root, parts.expiration_date, parts.option_type, parts.strike_price)
