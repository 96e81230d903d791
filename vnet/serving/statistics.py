"""``statistics``: the counters of all NICs, once or again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vnet.errors import ProtocolError
from vnet.sample import take

if TYPE_CHECKING:
    from vnet.calls import Call
    from vnet.lan import Lan

__all__ = ["statistics"]

# Seconds between two samples at least: a sample of thousands of NICs takes milliseconds.
_SHORTEST = 0.05


def statistics(lan: Lan, call: Call) -> dict[str, Any]:
    """Answers with a sample; with ``every``, a number of seconds, with one each time until the client goes."""
    every = call.argument("every", (int, float), 0)
    if every:
        if not _SHORTEST <= every <= 86_400:
            raise ProtocolError(f"'every' is {_SHORTEST:g} to 86,400 seconds, not {every:g}")
        call.send(take(lan).as_dict())
        while not call.gone(every):
            call.send(take(lan).as_dict())
        return {}
    return take(lan).as_dict()
