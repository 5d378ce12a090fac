"""What a test of a policy needs: virtual time, scripts, an event log, a cancel sweep."""

from __future__ import annotations

from penstock.testing.cancel_sweep import CancelSweepError, Sweep, cancel_sweep
from penstock.testing.event_log import EventLog
from penstock.testing.scripted import (
    Scripted,
    ScriptedCall,
    ScriptedSync,
    ScriptOver,
    scripted,
    scripted_sync,
    takes,
)
from penstock.testing.virtual_time import Deadlock, VirtualTimeLoop, run

__all__ = [
    "CancelSweepError",
    "Deadlock",
    "EventLog",
    "ScriptOver",
    "Scripted",
    "ScriptedCall",
    "ScriptedSync",
    "Sweep",
    "VirtualTimeLoop",
    "cancel_sweep",
    "run",
    "scripted",
    "scripted_sync",
    "takes",
]
