"""What a picture shows: networks, nodes with their ports, and wires between routers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vnet.errors import ProtocolError

if TYPE_CHECKING:
    from vnet.lab.plan import Lab

__all__ = ["Graph", "Network", "Node", "Port", "Wire", "from_description", "from_lab", "impairments"]

# A network without a limit of its own carries the largest IP datagram.
LARGEST_MTU = 65_535


@dataclass(frozen=True)
class Network:
    """A broadcast domain: its name, its prefixes as text, and its MTU in bytes of IP."""

    name: str
    prefixes: tuple[str, ...]
    mtu: int = LARGEST_MTU


@dataclass(frozen=True)
class Port:
    """One NIC of a node.

    Attributes:
        network: the name of the network that it is on.
        addresses: its addresses there, as text.
        wire: what the wire between the two does to datagrams (:func:`impairments`); empty: nothing.
    """

    network: str
    addresses: tuple[str, ...] = ()
    wire: str = ""


@dataclass(frozen=True)
class Node:
    """A guest, or, with a ``count`` above 1, a run of guests that differ in their number only.

    Attributes:
        name: as in the lab; of a run, that of its first.
        kind: ``host``, ``process``, ``router`` and so on.
        ports: its NICs; of a run, those of its first.
        state: ``up`` or ``down`` on a live LAN; None where the picture is of a file.
        count: how many guests this stands for.
        last: of a run, its last guest.
    """

    name: str
    kind: str
    ports: tuple[Port, ...]
    state: str | None = None
    count: int = 1
    last: Node | None = None

    @property
    def joins(self) -> bool:
        """Whether it is drawn between networks rather than inside one."""
        return len(self.ports) != 1 or self.kind == "router"


@dataclass(frozen=True)
class Wire:
    """A link between two nodes that are drawn between networks, such as two routers.

    Attributes:
        ends: the names of the two.
        label: what it does to datagrams (:func:`impairments`); empty: nothing.
        cut: whether it carries nothing at present.
    """

    ends: tuple[str, str]
    label: str = ""
    cut: bool = False


@dataclass(frozen=True)
class Graph:
    """All that one picture shows.

    Attributes:
        name: the LAN's name.
        live: whether the LAN is up, so that its nodes have states.
        source: the lab's file as the user gave it; empty for a live LAN.
    """

    name: str
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    wires: tuple[Wire, ...] = ()
    live: bool = False
    source: str = ""

    @property
    def total(self) -> int:
        """How many nodes there are, those in runs included."""
        return sum(node.count for node in self.nodes)

    def inside(self) -> Mapping[str, Sequence[Node]]:
        """The nodes that are drawn inside each network, by the network's name."""
        found: dict[str, list[Node]] = {network.name: [] for network in self.networks}
        for node in self.nodes:
            if not node.joins:
                found[node.ports[0].network].append(node)
        return found


def impairments(
    *, delay: float = 0.0, jitter: float = 0.0, loss: float = 0.0, rate: float | None = None, more: Iterable[str] = ()
) -> str:
    """What a wire does to datagrams, as pictures say it: ``5 ms ±1 ms, loss 0.1 %, 100 Mbit/s``.

    Args:
        delay: seconds.
        jitter: seconds, up or down.
        loss: a fraction, 0 to 1.
        rate: bits a second; None: without a limit.
        more: other impairments, in words.
    """
    from vnet.lab.units import Dimension, show

    parts = []
    if delay or jitter:
        parts.append(show(delay, Dimension.DURATION) + (f" ±{show(jitter, Dimension.DURATION)}" if jitter else ""))
    if loss:
        parts.append(f"loss {show(loss, Dimension.FRACTION)}")
    if rate is not None:
        parts.append(show(rate, Dimension.RATE))
    return ", ".join([*parts, *more])


def from_lab(lab: Lab) -> Graph:
    """What the picture of a lab file shows."""
    networks = tuple(Network(each.name, tuple(map(str, each.prefixes)), each.mtu) for each in lab.networks.values())
    nodes = tuple(
        Node(
            node.name,
            node.kind,
            tuple(Port(each.network, tuple(map(str, each.addresses))) for each in node.joined),
        )
        for node in lab.nodes.values()
    )
    wires = tuple(Wire(link.ends, _label(link.name, link.ends, link.weight)) for link in lab.links.values())
    return Graph(lab.name, networks, nodes, wires, source=lab.file)


def _label(name: str, ends: tuple[str, str], weight: int) -> str:
    """What is written at a link: its name where that is one of its own, and its weight unless it is the usual one."""
    own = not name.startswith("-".join(ends))
    parts = [name] if own else []
    return ", ".join([*parts, f"weight {weight}"] if weight != 1 else parts)


def from_description(said: Mapping[str, Any]) -> Graph:
    """What the picture of a live LAN shows.

    Args:
        said: what :func:`vnet.control.describe` answers.

    Raises:
        ProtocolError: the base's answer is of another form.
    """
    try:
        networks = tuple(
            Network(str(each["name"]), tuple(map(str, each["prefixes"])), int(each["mtu"])) for each in said["networks"]
        )
        nodes: dict[str, Node] = {}
        for each in said["nics"]:
            name, port = str(each["node"]), Port(str(each["network"]), tuple(map(str, each["addresses"])))
            first = nodes.get(name, Node(name, str(each["kind"]), (), state="up"))
            down = "down" in (first.state, str(each["state"]))
            nodes[name] = replace(first, ports=(*first.ports, port), state="down" if down else str(each["state"]))
        for each in said["routers"]:
            # One that only links join has no NIC.
            nodes.setdefault(str(each), Node(str(each), "router", (), state="up"))
        wires = []
        for each in said["links"]:
            one, other = map(str, each["endpoints"])
            label = _label(str(each["name"]), (one, other), int(each["weight"]))
            wires.append(Wire((one, other), label, cut=each["state"] == "cut"))
        return Graph(str(said["lan"]), networks, tuple(nodes.values()), tuple(wires), live=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"the base describes the LAN in a form that this vnet does not know: {error!r}") from None
