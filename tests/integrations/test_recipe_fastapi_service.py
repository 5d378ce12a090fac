from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integrations.scripting import Script, scripts
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration

RECIPE = Path(__file__).parents[2] / "recipes" / "23_fastapi_service.py"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Script]:
    """Serve what the recipe calls: it limits, fails and answers; then it takes a key away."""
    with scripts() as service:
        limited = {"status": 429, "headers": {"Retry-After": "60"}}
        yield service(limited, {"status": 503}, {"body": "found"}, {"status": 401})


@pytest.fixture(scope="module")
def client(upstream: Script) -> Iterator[httpx.Client]:
    """Return a client of the recipe, which is served by uvicorn in a process of its own."""
    env = {
        "SEARCH_API": upstream.server.origin(),
        "SEARCH_PATH": f"/s/{upstream.number}",
        "SEARCH_KEYS": "sk-one,sk-two",
    }
    with (
        serve("uvicorn_server", RECIPE, env=env) as url,
        # After an answer of 500 uvicorn closes the connection.
        httpx.Client(base_url=url, trust_env=False, headers={"Connection": "close"}) as client,
    ):
        yield client


def test_fastapi_service(client: httpx.Client, upstream: Script) -> None:
    """It answers through an upstream that fails, and says when a key will be back."""
    found, failed, refused = (client.get("/search", params={"q": "turbines"}) for _ in range(3))

    keys = [each["headers"]["authorization"] for each in upstream.arrived()]
    assert found.json() == {"found": "found", "motto": "water drives the turbine"}
    assert keys == ["Bearer sk-one", "Bearer sk-two", "Bearer sk-two", "Bearer sk-two"]
    assert (failed.status_code, refused.status_code) == (500, 503)
    assert 50 < int(refused.headers["Retry-After"]) <= 60
