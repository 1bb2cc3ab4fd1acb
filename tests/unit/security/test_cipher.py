from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buffetstore.errors import InvalidInputError, StorageError, TamperedError, UnsupportedFeatureError
from buffetstore.security import CHUNK_BYTES, HEADER_BYTES, Header, ObjectCipher, StaticKeys, WrappedKey, cipher
from buffetstore.security.cipher import SEALED_CHUNK_BYTES, TAG_BYTES, chunk_count, plain_size, sealed_size, sealed_span

KEYS = StaticKeys({"kept": bytes(range(32))})
KEPT = Path(__file__).with_name("kept")
KEPT_NAME, KEPT_PLAIN = "raw/kept.bin", bytes(range(256)) * 260
C = CHUNK_BYTES

sizes = st.sampled_from([0, 1, C - 1, C, C + 1, 2 * C - 1, 2 * C, 2 * C + 1, 3 * C]) | st.integers(0, 4 * C)


def new(length: int | None, name: str = "a/b") -> ObjectCipher:
    return asyncio.run(ObjectCipher.new(KEYS, name, length))


def unseal(sealed: bytes, name: str = "a/b") -> bytes:
    """Open a whole object, as a reader that knows nothing but its bytes."""
    header = Header.parse(sealed)
    if header is None:
        raise TamperedError("not sealed")
    found = asyncio.run(ObjectCipher.held(KEYS, name, header))
    plain = found.open(memoryview(sealed)[HEADER_BYTES:], final=True)
    if header.length not in {None, len(plain)}:
        raise TamperedError("another length")
    return plain


@given(sizes)
def test_sizes_follow_from_each_other(size):
    sealed = sealed_size(size)
    assert plain_size(sealed) == size
    assert sealed_span(0, size, size) == (HEADER_BYTES, sealed)


@given(st.integers(0, HEADER_BYTES + 3 * SEALED_CHUNK_BYTES))
def test_a_size_that_no_sealed_object_has(size):
    plain = plain_size(size)
    assert plain is None or sealed_size(plain) == size


@given(sizes, st.integers(0, 2**32), st.booleans())
def test_what_was_sealed_opens(size, seed, known):
    data = Random(seed).randbytes(size)
    sealed = new(size if known else None).seal(data, final=True, header=True)
    assert len(sealed) == sealed_size(size)
    assert unseal(sealed) == data
    if size:
        assert size < 16 or data[:16] not in sealed[HEADER_BYTES:]


@pytest.mark.parametrize("into", [True, False])
@pytest.mark.parametrize("size", [0, 1, C, 2 * C + 7])
def test_with_and_without_encrypt_into(monkeypatch, size, into):
    """Releases of cryptography before 47 have no `encrypt_into`."""
    if into and not cipher._INTO:
        pytest.skip("needs encrypt_into of cryptography 47")
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    sealed = new(size).seal(data, final=True, header=True)
    monkeypatch.setattr(cipher, "_INTO", into)
    assert unseal(sealed) == data
    other = new(size)
    again = other.seal(data, final=True, header=True)
    monkeypatch.undo()
    assert unseal(again) == data
    with pytest.raises(TamperedError):
        other.open(again[HEADER_BYTES:], 1, final=True)


@given(sizes.filter(bool), st.data())
def test_any_range_opens_alone(size, data):
    plain = (b"%d" % size * size)[:size]
    sealing = new(size)
    sealed = sealing.seal(plain, final=True, header=True)
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    first, last = sealed_span(start, end, size)
    assert last - first <= end - start + 2 * SEALED_CHUNK_BYTES + TAG_BYTES * chunk_count(end - start)
    at = start // C
    part = sealing.open(sealed[first:last], at, final=last == len(sealed))
    assert part[start - at * C : end - at * C] == plain[start:end]


@given(st.integers(0, 3 * C), st.data())
@example(0, None)
def test_a_flipped_bit_is_noticed(size, data):
    sealed = bytearray(new(size).seal(bytes(size), final=True, header=True))
    places = [0, 9, HEADER_BYTES - 1, HEADER_BYTES, len(sealed) - 1] if data is None else [
        data.draw(st.integers(0, len(sealed) - 1)) for _ in range(5)
    ]  # fmt: skip
    for place in places:
        changed = bytearray(sealed)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(StorageError) as failure:
            unseal(bytes(changed))
        assert isinstance(failure.value, TamperedError)


@given(sizes, st.data(), st.booleans())
def test_a_cut_or_longer_object_is_noticed(size, data, known):
    sealed = new(size if known else None).seal(bytes(size), final=True, header=True)
    chunks = [HEADER_BYTES + number * SEALED_CHUNK_BYTES for number in range(chunk_count(size))]
    cut = data.draw(st.sampled_from(chunks) | st.integers(0, len(sealed) - 1))
    with pytest.raises(TamperedError):
        unseal(sealed[:cut])
    with pytest.raises(TamperedError):
        unseal(sealed + bytes(data.draw(st.integers(1, 2 * C))))
    with pytest.raises(TamperedError):
        unseal(sealed + sealed[HEADER_BYTES:])


def chunks_of(sealed: bytes) -> list[bytes]:
    return [sealed[at : at + SEALED_CHUNK_BYTES] for at in range(HEADER_BYTES, len(sealed), SEALED_CHUNK_BYTES)]


@given(st.permutations(range(4)).filter(lambda order: order != sorted(order)))
def test_exchanged_chunks_are_noticed(order):
    sealed = new(None).seal(bytes(4 * C), final=True, header=True)
    chunks = chunks_of(sealed)
    with pytest.raises(TamperedError):
        unseal(sealed[:HEADER_BYTES] + b"".join(chunks[number] for number in order))


def test_chunks_of_another_object_are_noticed():
    one, two = (new(2 * C).seal(bytes(2 * C), final=True, header=True) for _ in range(2))
    with pytest.raises(TamperedError):
        unseal(one[:HEADER_BYTES] + two[HEADER_BYTES:])
    with pytest.raises(TamperedError):
        unseal(one[: HEADER_BYTES + SEALED_CHUNK_BYTES] + two[HEADER_BYTES + SEALED_CHUNK_BYTES :])


def test_an_object_in_anothers_place_is_noticed():
    sealed = new(3, "a/b").seal(b"abc", final=True, header=True)
    with pytest.raises(TamperedError, match="moved"):
        unseal(sealed, "a/c")


def test_equal_objects_look_different():
    assert new(3).seal(b"abc", final=True, header=True) != new(3).seal(b"abc", final=True, header=True)


@pytest.mark.parametrize("data", [b"", b"plain", b"PAR1" + bytes(2000)])
def test_what_is_not_sealed(data):
    assert Header.parse(data) is None


def test_a_header_of_a_later_format():
    original = cipher._core
    try:
        cipher._core = lambda object_id, length: original(object_id, length)[:8] + b"\0\2" + bytes(28)
        packed = Header(bytes(16), 1, WrappedKey("k", "v", b"blob")).pack()
    finally:
        cipher._core = original
    with pytest.raises(UnsupportedFeatureError, match="format 2"):
        Header.parse(packed)


def test_a_wrapped_key_that_does_not_fit():
    with pytest.raises(InvalidInputError, match="takes"):
        Header(bytes(16), 1, WrappedKey("k", "v", bytes(2000))).pack()
    packed = Header(bytes(16), None, WrappedKey("k" * 200, "v", bytes(700))).pack()
    parsed = Header.parse(packed)
    assert parsed is not None
    assert (parsed.length, parsed.wrapped.key_id, len(parsed.wrapped.blob)) == (None, "k" * 200, 700)


@pytest.mark.parametrize("version", [1])
@pytest.mark.parametrize("kind", ["put", "streamed"])
def test_every_format_that_was_ever_written_is_read(version, kind):
    sealed = (KEPT / f"sealed-v{version}-{kind}.bin").read_bytes()
    header = Header.parse(sealed)
    assert header is not None
    assert header.length == (len(KEPT_PLAIN) if kind == "put" else None)
    assert unseal(sealed, KEPT_NAME) == KEPT_PLAIN
