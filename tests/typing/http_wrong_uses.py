"""What type checkers must report of the HTTP transports: each line's ignore must be needed."""

from __future__ import annotations

import httpx
import httpx2

from penstock import Policy
from penstock.integrations import httpx as of_httpx
from penstock.integrations import httpx2 as of_httpx2

policy = Policy("api")

of_httpx.PolicyTransport(policy, replay="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
of_httpx.PolicyTransport(policy, httpx.HTTPTransport())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
of_httpx2.PolicyTransport(policy, httpx.AsyncHTTPTransport())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
httpx2.AsyncClient(transport=of_httpx.PolicyTransport(policy))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
of_httpx.PolicyTransport(policy, classify="opnai")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
