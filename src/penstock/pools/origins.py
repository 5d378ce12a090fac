"""Which servers a value may be sent to: origins as RFC 6454 has them, compared as texts."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["ALLOWED_ORIGIN", "origin_of", "read_origin"]

ALLOWED_ORIGIN = 'a text such as "https://api.example.com" or "http://localhost:8080", without path'

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21}

# Names outside ASCII are left to the user to write in Punycode: clients do not agree on how
# "straße.de" is spelt there, and a key must not go where only one of them would send it.
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

# urlsplit drops tabs and line breaks and keeps backslashes, browsers take those for slashes: where
# two readers see two hosts, there is none.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")


def origin_of(url: str) -> str | None:
    r"""Return scheme, host and port of a URL, lower case and without a default port.

    Returns:
        For example ``"https://api.example.com"``; None where the URL has no host, or one that
        readers of URLs do not agree on: outside ASCII, percent-encoded, with white space or ``\``.
    """
    if _AMBIGUOUS.search(url):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    # urlsplit takes the brackets of an IPv6 address away.
    host = f"[{host}]" if host is not None and ":" in host else host
    if host is None or not _HOST.fullmatch(host) or not _SCHEME.fullmatch(parts.scheme):
        return None
    is_default = port is None or port == _DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"


def read_origin(text: object) -> str:
    """Return an origin in the form that ``origin_of`` returns.

    Raises:
        ValueError: It is no origin, or more than one: it has a user name, a path or a query. The
            error does not show it.
    """
    origin = origin_of(text) if isinstance(text, str) else None
    if not isinstance(text, str) or origin is None or re.search(r"[@?#]|://[^/]*/", text):
        raise ValueError
    return origin
