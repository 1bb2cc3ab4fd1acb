"""What a key may be, decided once for every store."""

from __future__ import annotations

import re

from buffetstore.errors import InvalidKeyError

MAX_KEY_BYTES = 1024  # GCS and S3 allow 1024 bytes of UTF-8
# Nearly every key: printable ASCII, no segment that is empty or begins with a dot.
_PLAIN = re.compile(r"[ !-\-0-~][ -.0-~]*(?:/[ !-\-0-~][ -.0-~]*)*")


def checked_key(key: str) -> str:
    """Return `key` if every store can hold it, else raise `InvalidKeyError` saying why."""
    if len(key) <= MAX_KEY_BYTES and _PLAIN.fullmatch(key):
        return key
    reason = _fault(key)
    if reason is not None:
        raise InvalidKeyError(f"key {key!r} {reason}", key=key)
    return key


def is_key(name: str) -> bool:
    """Return whether an object can have this key."""
    return bool(len(name) <= MAX_KEY_BYTES and _PLAIN.fullmatch(name)) or _fault(name) is None


def is_folder(prefix: str) -> bool:
    """Return whether any key can start with `prefix`, which is empty or ends with `/`."""
    return not prefix or is_key(prefix[:-1])


def _fault(key: str) -> str | None:
    if not key:
        return "is empty"
    if key.startswith("/"):
        return "is absolute: keys are relative to the store"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "is not valid unicode"
    if length > MAX_KEY_BYTES:
        return f"is {length} bytes long, at most {MAX_KEY_BYTES} are allowed"
    if any(ord(character) < 32 or ord(character) == 127 for character in key):
        return "has control characters"
    if any(segment in {"", ".", ".."} for segment in key.split("/")):
        return "has an empty, '.' or '..' segment"
    return None
