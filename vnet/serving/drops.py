"""``drops``: what is dropped from now on, as a capture into a pipe of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vnet.errors import ProtocolError, VnetError
from vnet.serving.explain import known_names, no_such_nic

if TYPE_CHECKING:
    from vnet.calls import Call
    from vnet.lan import Lan

__all__ = ["drops"]


def drops(lan: Lan, call: Call) -> dict[str, Any]:
    """Captures the drops of ``nics``, all where none are named, into the descriptor that came along.

    Answers once when it has begun, and for the last time when the client or the LAN goes.
    """
    nics = call.argument("nics", list, [])
    first_bytes = call.argument("first_bytes", int, 96)
    if len(call.files) != 1:
        raise ProtocolError("drops are written into a pipe, whose descriptor comes with the request")
    known = known_names(lan)
    for nic in nics:
        if nic not in known:
            raise VnetError(no_such_nic(str(nic), lan))
    capture = lan.capture(call.files[0], nics=nics or None, drops=True, snaplen=first_bytes)
    try:
        call.send({"following": True})
        while not call.gone(0.5) and capture.ended is None:
            pass
    finally:
        # Whoever has gone reads no more; and a LAN that ends has closed its captures itself, to their last drop.
        capture.discard()
    return {"missed": capture.missed}
