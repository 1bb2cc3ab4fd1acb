"""The contract suite of object stores: subclass it, give it a `store`, and it proves the rules of `objects.base`.

>>> class TestMyStore(ObjectStoreContract):
...     @pytest.fixture
...     async def store(self):
...         async with MyStore() as store:  # empty, and only this test's own
...             yield store
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from buffetstore.testing.object_store_edges import EdgeCases
from buffetstore.testing.object_store_listing import ListingCases
from buffetstore.testing.object_store_reads import ReadCases
from buffetstore.testing.object_store_uploads import UploadCases
from buffetstore.testing.object_store_versions import SignedURLCases, VersionCases
from buffetstore.testing.object_store_writes import WriteCases

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore


@pytest.mark.asyncio
class ObjectStoreContract(ReadCases, WriteCases, UploadCases, ListingCases, EdgeCases, VersionCases, SignedURLCases):
    """Every rule of the contract. A test whose capability the store lacks skips and names it.

    Attributes
    ----------
    racers:
        Writers that try to create one key at once.
    upload_bytes:
        The size of the large upload: more than two parts.
    listed_objects:
        Objects in the listing tests: let it exceed the server's page, and make that page small.
    nested_names:
        False where `a` and `a/b` cannot both be objects (a folder on disk).

    Notes
    -----
    Two more fixtures are optional, and their cases skip without them: `versioned_store`, empty, whose bucket keeps
    versions, and `missing_bucket_store`, whose bucket is not there.
    """

    @pytest.fixture
    async def store(self) -> ObjectStore:
        """Give an empty store that no other test uses."""
        pytest.fail(f"{type(self).__name__} must define the fixture `store`")
