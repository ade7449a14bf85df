"""The route ``/metrics``: who may read it, and the start of counting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from limpet.service._access import is_allowed
from limpet.service._gateway import Gateway

if TYPE_CHECKING:
    from limpet.service._metrics import ServiceMetrics


def metrics_route(gateway: Gateway) -> Route:
    """Return the route of the metrics of a gateway."""
    return Route("/metrics", _Page(gateway).answer, methods=["GET"])


class _Page:
    """Counts from the first answer on: before, the service pays nothing for it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._metrics: ServiceMetrics | None = None

    async def answer(self, request: Request) -> Response:
        """Answer with the metrics, if the trace page would answer, too."""
        if not is_allowed(request, self._gateway.options.trace):
            return PlainTextResponse(
                "The metrics are for programs on the same machine unless the trace page is enabled in the options.\n",
                403,
            )
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return PlainTextResponse("The metrics are not for other sites.\n", 403)
        content, media_type = self._counting().page(request.headers.get("accept", ""))
        headers = {
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(content, media_type=media_type, headers=headers)

    def _counting(self) -> ServiceMetrics:
        if self._metrics is None:
            # Only now: who asks for no metrics does not wait for the import.
            from limpet.service._metrics import ServiceMetrics

            self._metrics = ServiceMetrics(self._gateway.core, self._gateway.cluster_view)
            self._gateway.observe_calls(self._metrics.handler_called)
        return self._metrics
