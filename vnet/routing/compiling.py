"""The model as the base takes it: numbers in tuples, and the prefixes of the route table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from ..network import Network, Prefix
from .model import Behind, Class, Model, Origin, Port, Refusal, RouterNode, Step, Via, Wire

__all__ = [
    "ClassTuple",
    "PortTuple",
    "RouterTuple",
    "StepTuple",
    "class_tuples",
    "parents",
    "port_tuples",
    "router_tuples",
]

# (a guest that forwards, the number is in use)
RouterTuple: TypeAlias = tuple[bool, bool]
# (router, network or 0, peer or -1, slot, MTU, weight, IPv4 address or 0, IPv6 address or 0, up, the number is in use);
# the slot is that of the NIC that it is, or that stands for its router
PortTuple: TypeAlias = tuple[int, int, int, int, int, int, int, int, bool, bool]
# (router, what, port, address): what is "via", "unreachable", "prohibit" or "blackhole"
StepTuple: TypeAlias = tuple[int, str, int, str | None]
# (kind, number, address, parent, static routes): the number of a network, port or router, the address of a next hop
ClassTuple: TypeAlias = tuple[str, int, str | None, int, list[StepTuple]]

_NO_ROUTER: RouterTuple = (False, False)
_NO_PORT: PortTuple = (0, 1, -1, 0, 0, 1, 0, 0, False, False)
_NO_CLASS: ClassTuple = ("static", 0, None, 0, [])


def router_tuples(model: Model) -> list[RouterTuple]:
    """The routers by number."""
    return [_NO_ROUTER if each is None else (each.guest, True) for _, each in model.routers.numbers()]


def port_tuples(model: Model) -> list[PortTuple]:
    """The ports by number."""
    return [_NO_PORT if each is None else _port(each) for _, each in model.ports.numbers()]


def _port(port: Port) -> PortTuple:
    v4, v6, peer = port.address(4), port.address(6), port.peer
    return (
        port.router.number,
        0 if port.network is None else port.network._number,
        -1 if peer is None else peer.number,
        port.slot or port.router.shown_as,
        port.mtu,
        port.weight,
        0 if v4 is None else int(v4),
        0 if v6 is None else int(v6),
        port.up,
        True,
    )


def class_tuples(model: Model, parents: dict[Prefix, int]) -> list[ClassTuple]:
    """The classes by number, with the parents that :func:`parents` found."""
    found = []
    for _, each in model.classes.numbers():
        if each is None:
            found.append(_NO_CLASS)
            continue
        parent = 0 if each.prefix is None else parents[each.prefix]
        if isinstance(each.origin, Refusal):
            statics = [_step(router, each.origin) for router in model.routers if not router.guest]
        else:
            statics = _statics(each)
        found.append((*_kind(each.origin), parent, statics))
    return found


def _kind(origin: Origin) -> tuple[str, int, str | None]:
    if isinstance(origin, Network):
        return "network", origin._number, None
    if isinstance(origin, Wire):
        return "link", origin.ports[0].number, None
    if isinstance(origin, RouterNode):
        return "loopback", origin.number, None
    if isinstance(origin, Behind):
        return "external", origin.network._number, str(origin.via)
    return "static", 0, None


def _statics(known: Class) -> list[StepTuple]:
    return [_step(router, step) for router, steps in known.statics.items() for step in steps]


def _step(router: RouterNode, step: Step) -> StepTuple:
    if isinstance(step, Via):
        return router.number, "via", step.port.number, str(step.address)
    return router.number, step.word, 0, None


def parents(model: Model, covering: Callable[[Prefix], tuple[int, int] | None]) -> dict[Prefix, int]:
    """Returns, for each prefix that the routers know, the class of the next shorter one that covers it; 0 for none.

    Prefixes behind guests, of which there may be a million, have none themselves: where a router has no way to the
    guest, it has none to what is behind it.

    Arguments:
        model: the routers.
        covering: the longest prefix behind a guest that covers one and is shorter, its length and its class.
    """
    found: dict[Prefix, int] = {}
    for version in (4, 6):
        known = [prefix for prefix in model.by_prefix if prefix.version == version]
        known.sort(key=_place)
        # Whoever covers a prefix begins before it and has not ended yet; the innermost lies on top.
        open_: list[Prefix] = []
        for prefix in known:
            first = int(prefix.network_address)
            while open_ and int(open_[-1].broadcast_address) < first:
                open_.pop()
            own = open_[-1] if open_ else None
            outside = covering(prefix)
            if outside is not None and (own is None or outside[0] > own.prefixlen):
                found[prefix] = outside[1]
            else:
                found[prefix] = 0 if own is None else model.by_prefix[own].number
            open_.append(prefix)
    return found


def _place(prefix: Prefix) -> tuple[int, int]:
    return int(prefix.network_address), prefix.prefixlen


def nothing_behind(prefix: Prefix) -> tuple[int, int] | None:
    """No guest has anything behind it."""
    return None


def entries(known: Iterable[Class]) -> dict[Prefix, int]:
    """What the route table is to say of prefixes."""
    return {each.prefix: each.number for each in known if each.prefix is not None}
