from __future__ import annotations

import pytest

from buffetstore.testing.webhdfs import Node, serve_in_thread


@pytest.fixture(scope="session")
def namenode_process():
    with serve_in_thread() as server:
        yield server


@pytest.fixture(scope="session")
def gateway_process():
    with serve_in_thread(is_gateway=True) as server:
        yield server


@pytest.fixture(scope="session")
def guarded():
    """A server that asks for a delegation token."""
    with serve_in_thread(token="delegated") as server:
        yield server


def emptied(server):
    server.faults.clear()
    server.log.clear()
    server.nodes.clear()
    server.nodes.update({"/": Node(16385), "/data": Node(16386)})
    return server


@pytest.fixture
def namenode(namenode_process):
    """The session's server, empty but for the folder /data."""
    yield emptied(namenode_process)
    namenode_process.faults.clear()


@pytest.fixture
def gateway(gateway_process):
    """A server that does what HttpFS does."""
    return emptied(gateway_process)
