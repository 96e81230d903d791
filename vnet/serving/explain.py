"""``explain``: what would become of a datagram."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from vnet.errors import ProtocolError, VnetError

if TYPE_CHECKING:
    from vnet.calls import Call
    from vnet.lan import Lan

__all__ = ["explain"]

# One byte more than the largest datagram is enough to find out that it is too big, but not how big.
_MOST = 1 << 20


def explain(lan: Lan, call: Call) -> dict[str, Any]:
    """Explains the datagram that lies in the file which came along, as one of the NIC ``sender``.

    A request is a line of a few kilobytes; a datagram may be larger, and so travels beside it.
    """
    nic = call.argument("sender", str)
    if len(call.files) != 1 or not stat.S_ISREG(os.fstat(call.files[0]).st_mode):
        raise ProtocolError("a datagram to explain lies in a file that comes with the request")
    datagram = os.pread(call.files[0], _MOST, 0)
    try:
        return lan.explain(nic, datagram).as_dict()
    except KeyError:
        raise VnetError(no_such_nic(nic, lan)) from None


def known_names(lan: Lan) -> set[str]:
    """The names by which captures know NICs, and routers and guests for all of theirs."""
    from vnet.capture import nodes_by_name

    with lan._register.lock:
        return set(nodes_by_name(lan._register)[0])


def no_such_nic(name: str, lan: Lan) -> str:
    """Says that no NIC has the name, and which one may have been meant."""
    from vnet.lab.tree import did_you_mean

    known = list(lan.nics)
    some = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
    return f"no NIC is called {name!r}{did_you_mean(name, known)}; on {lan.name} are {some or 'none'}"
