from __future__ import annotations

import asyncio
import os

import pytest

from buffetstore.resilience.threads import in_disk_thread, in_thread


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process")  # it says that forking beside threads is a risk, as it is
def test_a_forked_child_has_threads_of_its_own():
    async def both() -> int:
        return await in_thread(int, "1") + await in_disk_thread(int, "2")

    assert asyncio.run(both()) == 3
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if asyncio.run(asyncio.wait_for(both(), 20)) == 3 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
