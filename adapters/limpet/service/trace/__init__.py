"""The trace page: what happens in the running service, live in a browser.

`feed` turns the service's events into a stream that can never hold up the service, `page` answers the
requests, and ``static/`` is the page itself: plain HTML, CSS and JavaScript modules.
"""

from __future__ import annotations

from limpet.service.trace.page import trace_routes

__all__ = ["trace_routes"]
