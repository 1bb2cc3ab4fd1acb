"""The quick look at plain keys never lets one pass that the full one refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import InvalidKeyError
from buffetstore.objects.keys import _PLAIN, _fault, checked_key


@given(st.text(alphabet="a./ é~\x00\x1f\x7f\ud800-_", max_size=10))
def test_both_looks_agree(key):
    if _PLAIN.fullmatch(key):
        assert _fault(key) is None
    if _fault(key) is None:
        assert checked_key(key) == key
    else:
        with pytest.raises(InvalidKeyError):
            checked_key(key)


@pytest.mark.parametrize("key", ["year=2024/month=01/AAPL.parquet", "_delta_log/00000000000000000000.json", "a b"])
def test_usual_keys_are_plain(key):
    assert _PLAIN.fullmatch(key)


def test_plain_but_too_long():
    assert checked_key("x" * 1024)
    with pytest.raises(InvalidKeyError, match="1025 bytes"):
        checked_key("x" * 1025)
