"""The transports where their libraries are not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", ["httpx", "httpx2", "requests"])
def test_an_import_without_the_library_names_the_extra(name: str):
    """The error says what to install; everything else works without it."""
    program = (
        f"import sys; sys.modules['{name}'] = None\n"
        "import penstock\n"
        "try:\n"
        f"    import penstock.integrations.{name}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )

    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    said = f"{name} is not installed; install it with: pip install 'penstock[{name}]'\n"
    assert (done.stdout, done.returncode) == (said, 0)
