"""What a test of a policy needs: virtual time, scripts, an event log, a cancel sweep."""

from __future__ import annotations

from penstock.testing.virtual_time import Deadlock, VirtualTimeLoop, run

__all__ = ["Deadlock", "VirtualTimeLoop", "run"]
