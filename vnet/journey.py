"""The way of a datagram across routers in words: what :mod:`vnet.explain` says of it between a router and the end."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .verdict import Verdict

if TYPE_CHECKING:
    from .routing.model import Model, Port

__all__ = ["Answer", "Journey", "RouterStop", "Teller"]

# ICMP's types and codes (RFC 792, RFC 1812 section 5.2.7.1), and those of ICMPv6 (RFC 4443); a code of None is any.
_ICMP = {
    (0, None): "echo reply",
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 13): "communication prohibited",
    (11, 0): "time exceeded",
    (12, None): "parameter problem",
    (14, None): "timestamp reply",
}
_ICMP6 = {
    (1, 0): "no route to destination",
    (1, 1): "communication prohibited",
    (1, 2): "beyond the scope of the source address",
    (1, 3): "address unreachable",
    (1, 4): "port unreachable",
    (2, None): "packet too big",
    (3, 0): "time exceeded",
    (4, None): "parameter problem",
    (129, None): "echo reply",
}


@dataclass(frozen=True)
class RouterStop:
    """A router that a datagram comes to.

    Attributes:
        router: its name.
        into: its address, of the datagram's family, on what the datagram comes in by; ``None`` where it has none there.
        into_on: the network or the link that it comes in by.
        out: its address on what its route leads out of; ``None`` where it has no route, or no address there.
        out_on: the network or the link there; ``None`` where it has no route.
        ttl: TTL or hop limit as the datagram comes in.
        mtu: bytes of the largest IP datagram that leaves that way; 0 where it has no route.
        cut: whether the datagram is cut into fragments there.
    """

    router: str
    into: str | None
    into_on: str | None
    out: str | None
    out_on: str | None
    ttl: int
    mtu: int
    cut: bool

    def __str__(self) -> str:
        hops = "hop limit" if ":" in (self.into or self.out or "") else "TTL"
        text = f"in by {_place(self.into, self.into_on)} with {hops} {self.ttl}"
        if self.out_on is not None:
            text += f", route out by {_place(self.out, self.out_on)}, MTU {self.mtu:,}"
        return text + (", cut into fragments" if self.cut else "")


@dataclass(frozen=True)
class Answer:
    """What the sender would hear: an error, or a router's reply.

    Attributes:
        router: the router that says it; ``None`` where a filter does, in the name of whom the datagram was for.
        source: the address that it comes from.
        destination: the address that it goes to, the source of the datagram.
        says: what it is, such as ``ICMP time exceeded``.
        bytes: the IP datagram, in hexadecimal digits; its identification is still to be given.
    """

    router: str | None
    source: str
    destination: str
    says: str
    bytes: str

    def __str__(self) -> str:
        who = (
            f"{self.router} ({self.source})" if self.router is not None else f"a filter (in the name of {self.source})"
        )
        limited = (
            "" if self.says.endswith("reply") or self.says == "TCP reset" else ", as far as ICMP rate limits let it"
        )
        return f"{who} says to {self.destination}: {self.says}{limited}"


@dataclass(frozen=True)
class Journey:
    """The way of a datagram that leaves its network.

    Attributes:
        routers: the routers that it comes to; if it is dropped, the last of them or the NIC behind it does that.
        end: where and why it ends.
    """

    routers: tuple[RouterStop, ...]
    end: str

    def lines(self) -> list[str]:
        """Returns a line for each router, and one for the end."""
        return [*(f"  {stop.router:<8} {stop}" for stop in self.routers), f"  {'end':<8} {self.end}"]

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for JSON."""
        return {"routers": [asdict(stop) for stop in self.routers], "end": self.end}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Journey:
        """Makes a journey of what :meth:`as_dict` returned."""
        return cls(tuple(RouterStop(**stop) for stop in plain["routers"]), plain["end"])


class Teller:
    """Says in words what the native part found on the way.

    Arguments:
        told: what it found.
        model: the routers of the LAN.
        names: names of NICs by slot.
    """

    def __init__(self, told: Mapping[str, Any], model: Model, names: Mapping[int, str]) -> None:
        self._told = told
        self._model = model
        self._names = names
        self._version: int = told["header"]["version"] if told["header"] else 4
        self._verdict = Verdict(told["verdict"])

    def journey(self) -> Journey | None:
        """Returns the way across routers, if there is one."""
        if self._told["journey"] is None:
            return None
        stops = tuple(map(self._stop, self._told["journey"]["stops"]))
        return Journey(stops, self._end(stops))

    def answer(self) -> Answer | None:
        """Returns what the sender would hear, if there is anything."""
        answer = self._told["answer"]
        if answer is None:
            return None
        data: bytes = answer["datagram"]
        router = None if answer["router"] is None else self._router(answer["router"])
        ends = (data[8:24], data[24:40]) if data[0] >> 4 == 6 else (data[12:16], data[16:20])
        source, destination = (str(ipaddress.ip_address(end)) for end in ends)
        return Answer(router, source, destination, _says(data), data.hex())

    def _router(self, number: int) -> str:
        known = self._model.routers[number] if number < len(self._model.routers) else None
        return f"router {number}" if known is None else known.name

    def _port(self, number: int | None) -> Port | None:
        return self._model.ports[number] if number is not None and number < len(self._model.ports) else None

    def _stop(self, stop: Mapping[str, Any]) -> RouterStop:
        ends = []
        for number in (stop["into"], stop["out"]):
            port = self._port(number)
            address = None if port is None else port.address(self._version)
            ends.append((None if address is None else str(address), _where(port)))
        (into, into_on), (out, out_on) = ends
        router = self._router(stop["router"])
        return RouterStop(router, into, into_on, out, out_on, stop["ttl"], stop["mtu"], stop["cut"])

    # The end

    def _end(self, stops: Sequence[RouterStop]) -> str:
        end, to = self._told["journey"]["end"], self._told["header"]["destination"]
        if not stops:
            return "the NIC that leads out of the network is no router's" if end["kind"] == "elsewhere" else "no router"
        last = stops[-1]
        out = last.out_on or "nowhere"
        if self._verdict is Verdict.TTL_EXCEEDED:
            what = "TTL" if self._version == 4 else "hop limit"
            circle = "; its routes lead in a circle" if end["kind"] == "circle" else ""
            return f"{what} runs out at {last.router}{circle}"
        if self._verdict is Verdict.TOO_BIG:
            return f"too big at {last.router} for {out}, whose MTU is {last.mtu:,}, and it may not be cut"
        if self._verdict is Verdict.MALFORMED:
            return f"{last.router} drops it: {self._flaw()}"
        if self._verdict is Verdict.FILTERED:
            held = [rule for rule in self._told["rules"] if not rule["kept"]]
            if not held:
                return f"the route of {last.router} to {to} says that it is prohibited"
            ports = {port.slot for router in self._model.routers for port in router.ports if port.slot}
            at_router = held[-1]["kind"] == "nic" and held[-1]["identity"] in ports
            return f"a filter of {last.router} holds it back" if at_router else f"a filter on {out} holds it back"
        if self._verdict is Verdict.NO_ROUTE:
            return self._no_route(end, last, to)
        if end["kind"] == "router":
            return f"{last.router} has {to} itself"
        return self._at_nic(end, to, out)

    def _no_route(self, end: Mapping[str, Any], last: RouterStop, to: str) -> str:
        if end["kind"] != "refused":
            return f"{last.router} does not send a link-local source on: {self._told['header']['source']}"
        return {
            "no_route": f"{last.router} has no route to {to}",
            "unreachable": f"the route of {last.router} to {to} says unreachable",
            "prohibit": f"the route of {last.router} to {to} says prohibited",
            "blackhole": f"{last.router} drops it without a word: its route to {to} says so, or that is a broadcast",
        }[end["why"]]

    def _at_nic(self, end: Mapping[str, Any], to: str, out: str) -> str:
        """It came as far as the last network, whatever becomes of it there."""
        if end["kind"] == "guest":
            name = self._names.get(end["slot"], f"slot {end['slot']}")
            state = ", which nobody holds" if self._verdict is Verdict.NIC_DOWN else ", which forwards it"
            return f"{name} leads to {to}{state}"
        address = end.get("address", to)
        behind = f", the way to {to}" if address != to else ""
        if self._verdict is Verdict.NO_HOST:
            return f"nobody on {out} has {address}{behind}"
        if self._verdict is Verdict.NIC_DOWN:
            return f"the NIC on {out} that has {address}{behind} is down"
        names = list(dict.fromkeys(self._names.get(each["slot"], "?") for each in self._told["writes"]))
        if behind:
            return f"behind {', '.join(names)} on {out}, which has {address}"
        return f"{', '.join(names)} on {out} has {address}"

    def _flaw(self) -> str:
        header = self._told["header"]
        if header["checksum"] is False:
            return "the header's checksum is wrong"
        if self._told["answer"] is not None:
            return "its options are wrong"
        if self._version == 6 and header["source"] == "::":
            return "its source is unspecified"
        source = ipaddress.ip_address(header["source"])
        if source in self._model.owners:
            return f"its source, {source}, is the router's own"
        return "its header or its addresses are none that a router sends on"


def _where(port: Port | None) -> str | None:
    if port is None:
        return None
    if port.network is not None:
        return port.network.name
    return None if port.wire is None else f"link {port.wire.name}"


def _place(address: str | None, on: str | None) -> str:
    return f"{address} on {on}" if address is not None else f"{on}"


def _says(data: bytes) -> str:
    """What an answer is."""
    six = data[0] >> 4 == 6
    protocol, header = (data[6], 40) if six else (data[9], (data[0] & 15) * 4)
    if protocol == 6:
        return "TCP reset"
    kind, code = data[header], data[header + 1]
    words = _ICMP6 if six else _ICMP
    said = words.get((kind, code)) or words.get((kind, None)) or f"type {kind}, code {code}"
    if (six, kind, code) == (False, 3, 4):
        said += f", MTU {int.from_bytes(data[header + 6 : header + 8], 'big'):,}"
    elif six and kind == 2:
        said += f", MTU {int.from_bytes(data[header + 4 : header + 8], 'big'):,}"
    elif (six, kind) == (False, 12):
        said += f" at byte {data[header + 4]}"
    elif (six, kind) == (True, 4):
        said += f" at byte {int.from_bytes(data[header + 4 : header + 8], 'big')}"
    return f"{'ICMPv6' if six else 'ICMP'} {said}"
