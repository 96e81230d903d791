"""What every LAN with a name serves to other processes, one file for each topic.

The handlers of a topic are imported when they are first asked for: a LAN that nobody calls pays for none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vnet.calls import Call, Handler
    from vnet.lan import Lan

__all__ = ["serve_all"]

_SERVED: Mapping[str, str] = {
    "capture": "capture:capture",
    "drops": "drops:drops",
    "explain": "explain:explain",
    "metrics": "metrics:metrics",
    "plug": "plug:plug",
    "statistics": "statistics:statistics",
    "unplug": "plug:unplug",
}
"""What clients ask for, and the function that serves it: ``module:function``, the module one of this package."""


def serve_all(lan: Lan) -> None:
    """Registers the calls that do not depend on what the LAN was made for."""
    for do, where in _SERVED.items():
        lan.serve(do, _later(where))


def _later(where: str) -> Handler:
    module, function = where.split(":")

    def serve(lan: Lan, call: Call) -> Mapping[str, Any] | None:
        handler: Handler = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        return handler(lan, call)

    return serve
