from __future__ import annotations

import pytest

from buffetstore.errors import InvalidKeyError
from buffetstore.objects.azure import AzureStore
from buffetstore.objects.open import open_store
from buffetstore.testing.object_store import ObjectStoreContract
from buffetstore.testing.object_store_reads import ODD_KEYS


class AzureContract(ObjectStoreContract):
    """A backslash is a slash to the service, which the store's docstring says: such a key is refused."""

    listed_objects = 25

    @pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
    async def test_an_odd_key_is_data(self, store, key):
        if "\\" not in key:
            await super().test_an_odd_key_is_data(store, key)
            return
        for call in (store.put(key, b""), store.get(key), store.delete([key]), store.start_upload(key)):
            with pytest.raises(InvalidKeyError, match="backslash"):
                await call


class TestAzureStore(AzureContract):
    @pytest.fixture
    async def store(self, container, options):
        async with AzureStore.from_url(f"az://{container}", **options, page_size=10) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, options):
        async with AzureStore.from_url("az://no-such-container", **options) as store:
            yield store


class TestAzureStoreAsOpened(AzureContract):
    @pytest.fixture
    async def store(self, admin, container, options):
        for stray in ("lake", "lake2/k", "k", "lake/"):  # beside the prefix, and the marker that a tool makes
            admin.get_blob_client(container, stray).upload_blob(b"stray")
        async with open_store(f"az://{container}/lake", **options, page_size=10) as store:
            yield store
