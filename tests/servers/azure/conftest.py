from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

AZURITE = Path(__file__).parents[3] / ".venv/azurite/node_modules/azurite/dist/src/blob/main.js"
ACCOUNT = "devstoreaccount1"
# Published with the emulator, the same for everybody.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
FLAGS = ["--inMemoryPersistence", "--disableTelemetry", "--silent", "--skipApiVersionCheck"]


@pytest.fixture(scope="session")
def azure_endpoint():
    """Run Azurite's blob service on a port of the system's choice; give the URL of its account."""
    node = shutil.which("node")
    if node is None or not AZURITE.is_file():
        pytest.skip("needs Azurite (npm)")
    process = subprocess.Popen(
        [node, str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", "0", *FLAGS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        for line in process.stdout:
            if found := re.search(r"listens on (http://\S+)", line):
                break
        else:
            pytest.fail("Azurite did not start")
        yield f"{found.group(1)}/{ACCOUNT}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def admin(azure_endpoint):
    """Give the SDK's own blocking client: makes containers, and looks at what the store did."""
    with BlobServiceClient(azure_endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}) as client:
        yield client


numbers = itertools.count()


@pytest.fixture
def container(admin):
    """Make a container that no other test uses."""
    name = f"container-{next(numbers)}"
    admin.create_container(name)
    return name


@pytest.fixture
def options(azure_endpoint):
    return {"endpoint_url": azure_endpoint, "account": ACCOUNT, "account_key": KEY}
