"""GCSStore keeps the contract of object stores."""

from __future__ import annotations

import json

import pytest

from buffetstore.objects.gcs import GCSStore
from buffetstore.testing.object_store import ObjectStoreContract


class TestGCSStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self, server, bucket, signing_key, tmp_path):
        account = {"type": "service_account", "client_email": "contract@test", "private_key": signing_key}
        file = tmp_path / "account.json"
        file.write_text(json.dumps({**account, "token_uri": f"{server.url}/token"}))
        server.signers.trust(account)
        options = {"api_root": server.url, "page_size": 10, "chunk_bytes": 1024 * 1024}
        async with GCSStore(bucket, **options, service_file=str(file)) as store:
            yield store

    @pytest.fixture
    async def versioned_store(self, server, bucket, store):
        server.state.bucket(bucket).fields["versioning"] = {"enabled": True}
        return store

    @pytest.fixture
    async def missing_bucket_store(self, server):
        async with GCSStore("no-such-bucket", api_root=server.url) as store:
            yield store
