"""Connections to an SFTP server that break anywhere make no answer wrong."""

from __future__ import annotations

import pytest

from buffetstore.errors import StorageError
from buffetstore.objects.fsspec import FsspecStore
from buffetstore.objects.helpers import get_bytes
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing.background import in_background
from buffetstore.testing.fault_cases import BODY, CASES, KEY, UPLOADS
from buffetstore.testing.proxy import FaultProxy

POLICY = RetryPolicy(attempts=5, base_seconds=0.001)
CUTS = {
    f"{way} {count}": {way: count}
    for way, counts in {"up": [0, 300, 100_000], "down": [0, 150]}.items()
    for count in counts
}


@pytest.fixture(scope="module")
def proxy(asyncssh_server):
    with in_background(FaultProxy("127.0.0.1", asyncssh_server.port)) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy, asyncssh_server, tmp_path):
    options = {"username": asyncssh_server.options["username"], "client_keys": asyncssh_server.options["client_keys"]}
    proxy.clear()
    async with FsspecStore.from_url(
        f"sftp://127.0.0.1:{proxy.port}", root=str(tmp_path), verify_host=False, timeout_seconds=5.0, **options
    ) as store:
        yield store
    proxy.clear()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", CASES)
async def test_a_connection_that_breaks(store, proxy, name, cut):
    """Nothing of ours is on the server twice or by halves, and the answer is right once it is there again."""
    kind = CASES[name]
    if kind.capability is not None and not getattr(store.capabilities, kind.capability):
        pytest.skip(f"needs the capability {kind.capability}")
    case = kind(BODY) if kind in UPLOADS else kind()
    await case.prepare(store)
    proxy.reset_once(**CUTS[cut])
    answer = error = None
    try:
        answer = await case.run(RetryStore(store, POLICY))
    except StorageError as failure:
        error = failure
    proxy.clear()
    await case.check(RetryStore(store), answer, error)
    assert error is None or case.conflict is not None, f"one broken connection was not mended: {error}"


async def test_a_server_that_is_gone_for_a_while(store, proxy):
    await store.put(KEY, BODY)
    await proxy.stop_listening()
    proxy.drop()
    with pytest.raises(StorageError) as failure:
        await get_bytes(RetryStore(store, POLICY), KEY)
    assert failure.value.transient
    await proxy.listen()
    assert await get_bytes(RetryStore(store, POLICY), KEY) == BODY


async def test_a_slow_network_is_only_slow(store, proxy):
    proxy.now.latency_up = proxy.now.latency_down = 0.01
    proxy.now.bytes_per_second = 2_000_000
    await store.put(KEY, BODY)
    assert await get_bytes(store, KEY) == BODY
