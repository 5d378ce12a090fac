"""The ``penstock`` command."""

from __future__ import annotations

import sys

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command; say what to install where its libraries are missing."""
    try:
        from penstock.cli.app import app  # noqa: PLC0415 - typer is an extra
    except ModuleNotFoundError as missing:
        if missing.name not in _NEEDED:
            raise
        sys.stderr.write("the penstock command needs typer and rich: pip install 'penstock[cli]'\n")
        raise SystemExit(2) from None
    app()
