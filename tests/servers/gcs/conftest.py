from __future__ import annotations

import json
import uuid

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from buffetstore.testing.gcs import serve_in_thread


@pytest.fixture(scope="session")
def gcs_server():
    with serve_in_thread() as server:
        yield server


@pytest.fixture
def server(gcs_server):
    """The session's server with no faults and an empty log."""
    gcs_server.faults.clear()
    gcs_server.log.clear()
    yield gcs_server
    gcs_server.faults.clear()


@pytest.fixture
def bucket(server):
    """A bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex}"
    server.state.create_bucket(name)
    return name


@pytest.fixture
def object_store_account(server):
    """Service-account JSON that points obstore and deltalake, which are built on the same client, at the server."""
    return json.dumps(
        {"gcs_base_url": server.url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    )


@pytest.fixture
def google(server):
    """Google's own client of the server."""
    storage = pytest.importorskip("google.cloud.storage", reason="needs google-cloud-storage")
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials

    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=server.url)
    )
    yield client
    client.close()


@pytest.fixture(scope="session")
def signing_key():
    """A service account's private key, in PEM."""
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
