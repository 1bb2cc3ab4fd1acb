"""Any fsspec file system as an object store; SFTP and WebHDFS by URL."""

from buffetstore.objects.fsspec.files import Files, Guarantees
from buffetstore.objects.fsspec.primitives import Primitives
from buffetstore.objects.fsspec.store import FsspecStore

__all__ = ["Files", "FsspecStore", "Guarantees", "Primitives"]
