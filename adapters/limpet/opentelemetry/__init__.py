"""OpenTelemetry for clients: metrics, spans, and the context of traces from publisher to subscriber.

``Client(url, instrument=OpenTelemetry())``; needs ``pip install 'limpet[opentelemetry]'`` and, to see anything, an SDK
that the application sets up. Names are those of OpenTelemetry's conventions for messaging systems, which are still in
development, and ``limpet.*`` for all that these do not know. No payload and no token is in any attribute.
"""

from limpet._extras import extra
from limpet._public import claim

with extra("opentelemetry"):
    from limpet.opentelemetry._instrument import OpenTelemetry

__all__ = ["OpenTelemetry"]

claim(__name__, OpenTelemetry)
