"""A call made in one thread and run in another timed out a task that it had nothing to do with."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from penstock import Policy, PolicyError


@pytest.mark.integration
def test_the_timeout_of_one_loop_never_cancels_a_task_of_another():
    """The second loop is refused, although the call was made in the first one's thread."""
    policy = Policy().with_timeout(0.05)
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()

    async def main() -> Any:
        await policy.call(asyncio.sleep, 0)
        call = asyncio.run_coroutine_threadsafe(policy.call(asyncio.sleep, 0.3), other)
        # This task is the one that its loop is running while the other loop starts the call.
        time.sleep(0.05)  # noqa: ASYNC251 - that is the point
        await asyncio.sleep(0.1)
        return await asyncio.wrap_future(call)

    try:
        with pytest.raises(PolicyError, match="another running event loop"):
            asyncio.run(main())
    finally:
        other.call_soon_threadsafe(other.stop)
        thread.join(5)
        other.close()
