from __future__ import annotations

import pytest
from pydantic import SecretBytes

from buffetstore.errors import ConfigurationError, TamperedError, WrongKeyError
from buffetstore.security import StaticKeys, WrappedKey

DATA_KEY = bytes(range(32))


async def test_what_was_wrapped_is_unwrapped():
    keys = StaticKeys({"a": SecretBytes(b"a" * 32), "b": b"b" * 32}, current="b")
    wrapped = await keys.wrap(DATA_KEY, b"context")
    assert (keys.current_key_id, wrapped.key_id) == ("b", "b")
    assert DATA_KEY not in wrapped.blob
    assert await keys.unwrap(wrapped, b"context") == DATA_KEY
    assert (await keys.wrap(DATA_KEY, b"context")).blob != wrapped.blob


async def test_an_older_key_still_unwraps_after_rotation():
    wrapped = await StaticKeys({"2023": b"o" * 32}).wrap(DATA_KEY, b"")
    rotated = StaticKeys({"2023": b"o" * 32, "2024": b"n" * 32}, current="2024")
    assert await rotated.unwrap(wrapped, b"") == DATA_KEY


async def test_a_key_that_is_not_held():
    wrapped = await StaticKeys({"theirs": b"t" * 32}).wrap(DATA_KEY, b"")
    with pytest.raises(WrongKeyError, match=r"'theirs'.*held are ours"):
        await StaticKeys({"ours": b"o" * 32}).unwrap(wrapped, b"")


async def test_another_key_of_the_same_name():
    wrapped = await StaticKeys({"k": b"1" * 32}).wrap(DATA_KEY, b"")
    with pytest.raises(WrongKeyError, match="the name is the same"):
        await StaticKeys({"k": b"2" * 32}).unwrap(wrapped, b"")


@pytest.mark.parametrize("blob", [b"", b"short", bytes(60)])
async def test_a_blob_that_was_changed(blob):
    keys = StaticKeys({"k": b"1" * 32})
    version = (await keys.wrap(DATA_KEY, b"")).version
    with pytest.raises(TamperedError):
        await keys.unwrap(WrappedKey("k", version, blob), b"")


async def test_another_context():
    keys = StaticKeys({"k": b"1" * 32})
    with pytest.raises(TamperedError):
        await keys.unwrap(await keys.wrap(DATA_KEY, b"one"), b"other")


@pytest.mark.parametrize(
    ("keys", "current", "says"),
    [
        ({}, None, "none of those given"),
        ({"a": b"short"}, None, "5 bytes"),
        ({"a": b"1" * 32, "b": b"2" * 32}, None, "none of those given: a, b"),
        ({"a": b"1" * 32}, "b", "'b' is none"),
        ({"a b": b"1" * 32}, None, "no name"),
        ({"é": b"1" * 32}, None, "no name"),
        ({"": b"1" * 32}, None, "no name"),
        ({"n" * 201: b"1" * 32}, None, "no name"),
    ],
)
def test_senseless_keys(keys, current, says):
    with pytest.raises(ConfigurationError, match=says):
        StaticKeys(keys, current)


def test_no_key_is_shown():
    keys = StaticKeys({"a": b"secret--" * 4})
    assert "secret" not in repr(keys)
    with pytest.raises(ConfigurationError) as failure:
        StaticKeys({"a": b"secret"})
    assert "secret" not in str(failure.value)
