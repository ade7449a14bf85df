"""``/api/health``: whether this service, or this node of a cluster, takes clients."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from limpet.service._access import is_allowed
from limpet.service._gateway import Gateway


def health(gateway: Gateway, request: Request) -> Response:
    """Answer with the status for all who ask; with the view of the cluster to those who may see the trace page."""
    view = gateway.cluster_view()
    if view is None:
        return Response()
    status = 200 if view.refusal is None else 503
    headers = {"Cache-Control": "no-store"}
    is_own = request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    if request.method == "HEAD" or not is_own or not is_allowed(request, gateway.options.trace):
        return Response(status_code=status, headers=headers)
    return Response(msgspec.json.encode(view), status, headers, media_type="application/json")
