"""Keys, and the cipher of objects at rest: decisions and arithmetic; no store is known here."""

from buffetstore.security.cipher import CHUNK_BYTES, HEADER_BYTES, Header, ObjectCipher, plain_size, sealed_size
from buffetstore.security.keys import KeyProvider, StaticKeys, WrappedKey

__all__ = [
    "CHUNK_BYTES",
    "HEADER_BYTES",
    "Header",
    "KeyProvider",
    "ObjectCipher",
    "StaticKeys",
    "WrappedKey",
    "plain_size",
    "sealed_size",
]
