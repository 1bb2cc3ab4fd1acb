from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
from botocore.session import get_session

PAGE = 10  # keys in one page of a listing: small, so that a test sees several

# One request at a time: moto answers 500 when an object is replaced while another thread looks at it.
SERVER = """
import threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def serve(environ, start_response):
    with lock:
        return [b"".join(app(environ, start_response))]

server = make_server("127.0.0.1", 0, serve, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="session")
def s3_endpoint():
    """Run moto's S3 server on a port of the system's choice; give its URL."""
    # A process of its own: a thread would share the interpreter's lock with the client under test.
    environment = os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def admin(s3_endpoint):
    """Give botocore's own blocking client: makes buckets, and looks at what the store did."""
    client = get_session().create_client(
        "s3", "us-east-1", endpoint_url=s3_endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    yield client
    client.close()


numbers = itertools.count()


@pytest.fixture
def bucket(admin):
    """Make a bucket that no other test uses."""
    name = f"bucket-{next(numbers)}"
    admin.create_bucket(Bucket=name)
    return name


@pytest.fixture
def options(s3_endpoint):
    return {"endpoint_url": s3_endpoint, "access_key": "test", "secret_key": "test", "region": "us-east-1"}
