"""Bytes on their way to a file system that takes a file only whole."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from tempfile import _TemporaryFileWrapper

    from buffetstore.objects.base import Data

HELD_BYTES = 8 * 1024 * 1024


class Spool:
    """Bytes in memory, and from `HELD_BYTES` on in a temporary file called `name`."""

    def __init__(self) -> None:
        self.held = bytearray()
        self._file: _TemporaryFileWrapper[bytes] | None = None

    @property
    def name(self) -> str | None:
        """The temporary file, where there is one."""
        return None if self._file is None else self._file.name

    async def write(self, data: Data, offset: int) -> None:
        """Write at `offset`."""
        if self._file is None and offset + len(data) <= HELD_BYTES:
            self.held[offset : offset + len(data)] = data
        else:
            await in_disk_thread(self._write, data, offset)

    async def aclose(self) -> None:
        """Forget the bytes. May be called twice."""
        self.held = bytearray()
        if self._file is not None:
            file, self._file = self._file, None
            await in_disk_thread(file.close)

    def _write(self, data: Data, offset: int) -> None:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix="buffetstore-")  # noqa: SIM115 - `aclose` closes it
            self._file.write(self.held)
            self.held = bytearray()
        self._file.seek(offset)
        self._file.write(data)
        self._file.flush()
