"""Events of the pipeline as OpenTelemetry spans, metrics and log events, where an SDK is set.

Nothing here is imported, and nothing of OpenTelemetry, before the program itself has imported it;
``penstock.switch`` looks for that at every call. ``docs/telemetry.md`` lists every name.

How a part plugs in:

- ``names.py`` holds every span, attribute, metric and log event as data. A part takes its names
  from there and the page is compared with them.
- ``plan.py`` says, for the providers that are set, which parts take events. A part is a *sink*:
  ``sink(event, recorder)``, called for every event of every call. ``sinks_for(...)`` makes them,
  once for each set of providers, so that instruments are made there and kept. ``recorder`` is the
  call's (``recorder.call``, ``.operation``, ``.context``: the OpenTelemetry context with the
  operation span, to link a log event to it), and None for an event that belongs to no call: every
  ``ResourceChanged``, and a ``CircuitChanged`` by hand. Those are told in whatever context is
  current, which is that of the call where a call has caused them.
- ``penstock.switch.LIVE`` holds, weakly, the ``Pipeline`` (``policy``, ``stages``) of every policy
  in use: what observable gauges look at. ``list()`` it first; another thread may add to it.
- ``tracing.py`` runs a call: sampled out and with no sink it is the plain pipeline; with spans
  alone no event is built (``frames.py``); else the observed pipeline, with the ``Recorder`` in
  front of the policy's own observers.
- What a sink raises is reported once, by ``faults.py``, and changes nothing for the call.
"""

from __future__ import annotations

from penstock.telemetry.plan import is_on
from penstock.telemetry.settings import configure
from penstock.telemetry.tracing import tell, traced
from penstock.telemetry.watching import watch

__all__ = ["configure", "is_on", "tell", "traced", "watch"]
