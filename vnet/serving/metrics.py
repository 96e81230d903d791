"""``metrics``: has the base serve its counters to Prometheus over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vnet.calls import Call
    from vnet.lan import Lan

__all__ = ["metrics"]


def metrics(lan: Lan, call: Call) -> dict[str, Any]:
    """Serves at ``address`` until the LAN ends, and answers with the URL; one that is served already stays as it is."""
    address = call.argument("address", str)
    for server in lan._keeper.metrics:
        if server.address == address and server.serving:
            return {"url": server.url}
    return {"url": lan.serve_metrics(address).url}
