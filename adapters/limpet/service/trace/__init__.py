"""The trace page: the events and the state of the running service, live in a browser.

:mod:`~limpet.service.trace.feed` makes a stream of the service's events that never blocks the service,
:mod:`~limpet.service.trace.page` answers the requests, and ``static/`` is the page: HTML, CSS and JavaScript modules.
"""

from __future__ import annotations

from limpet.service.trace.page import trace_routes

__all__ = ["trace_routes"]
