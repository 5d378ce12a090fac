"""A call that lost its resource to an older one's failure said nothing of it in the end."""

from __future__ import annotations

import asyncio

import pytest

from penstock import CooldownResource, NoResourceError, Pool
from penstock.errors import DisplacedError
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time


async def test_a_displaced_call_that_finds_nobody_else_says_what_it_lost() -> None:
    """The older call's reason is in the cause, where the younger one never failed itself."""
    pool = Pool({"only": "value"})
    work = scripted(takes(1, CooldownResource(30, reason="429")), takes(100))

    older, younger = await asyncio.gather(
        *(pool.run(work) for _ in range(2)), return_exceptions=True
    )

    assert isinstance(older, NoResourceError)
    assert isinstance(younger, NoResourceError)
    assert (younger.case, younger.retry_after) == ("all_cooling", 30)
    assert isinstance(younger.__cause__, DisplacedError)
    assert "'only' was lost to an older call's failure (429)" in str(younger.__cause__)
