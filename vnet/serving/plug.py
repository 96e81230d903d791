"""``plug`` and ``unplug``: an interface on the LAN for a namespace or container that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vnet.errors import ProtocolError, VnetError
from vnet.serving.explain import no_such_nic

if TYPE_CHECKING:
    from vnet.calls import Call
    from vnet.lan import Lan

__all__ = ["plug", "unplug"]


def plug(lan: Lan, call: Call) -> dict[str, Any]:
    """Plugs ``nic`` into the network namespace whose descriptor came along.

    A descriptor and no name: what a process id, a path or a name means is for whoever asks to say.
    """
    addresses = call.argument("addresses", list, None)
    if len(call.files) != 1:
        raise ProtocolError("the namespace comes as one descriptor with the request")
    if addresses is not None and not all(isinstance(address, str) for address in addresses):
        raise ProtocolError("'addresses' is a list of addresses, or null")
    plugged = lan.plug(
        call.argument("nic", str),
        f"/proc/self/fd/{call.files[0]}",
        addresses,
        network=call.argument("network", str, None),
        interface=call.argument("interface", str, "eth1"),
    )
    return {
        "nic": plugged.name,
        "network": plugged.network,
        "addresses": list(plugged.addresses),
        "mac": plugged.mac,
        "mtu": plugged.mtu,
        "interface": plugged.interface,
    }


def unplug(lan: Lan, call: Call) -> dict[str, Any]:
    """Takes back the NIC ``nic``, and its interface, which is gone when this answers."""
    name = call.argument("nic", str)
    nics = lan.nics
    if name not in nics:
        raise VnetError(no_such_nic(name, lan))
    if nics[name].kind != "plug":
        plugged = ", ".join(nic.name for nic in nics.values() if nic.kind == "plug") or "none"
        raise VnetError(
            f"{name!r} is a {nics[name].kind} of {lan.name}, which nobody plugged; those plugged are {plugged}"
        )
    lan.remove(name)
    lan._nursery().settle()
    return {"nic": name}
