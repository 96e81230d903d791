"""What a filter means, once it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

__all__ = ["PROTOCOLS", "WITH_PORTS", "Action", "AttachedFilter", "Filter", "Rule", "Table"]

PROTOCOLS: Mapping[str, int] = MappingProxyType(
    {
        "icmp": 1,
        "igmp": 2,
        "ipip": 4,
        "tcp": 6,
        "udp": 17,
        "ip6ip": 41,
        "gre": 47,
        "esp": 50,
        "ah": 51,
        "icmp6": 58,
        "ospf": 89,
        "pim": 103,
        "vrrp": 112,
        "sctp": 132,
    }
)
"""The protocols that rules know by name (Assigned Internet Protocol Numbers, IANA)."""

WITH_PORTS = ("tcp", "udp", "sctp")
"""Those of them whose header begins with the ports: what a rule with ports and without a protocol is about."""

_NAMES = {number: name for name, number in PROTOCOLS.items()}


class Action(Enum):
    """What a rule says of the datagrams that it matches."""

    ALLOW = "allow"
    """They pass."""
    DENY = "deny"
    """They do not; whoever sent them hears nothing."""
    REJECT = "reject"
    """They do not, and their sender is told by ICMP that this is prohibited (RFC 1812 section 5.2.7.1: type 3, code 13;
    RFC 4443 section 3.1: type 1, code 1)."""

    @property
    def number(self) -> int:
        """Its number in the compiled form."""
        return tuple(Action).index(self)


@dataclass(frozen=True)
class Table:
    """What a datagram must be for a rule to match, column by column; ``None`` is anything.

    Attributes:
        sources: where it comes from: prefixes, addresses, and names of NICs and networks.
        destinations: where it goes to, likewise.
        protocols: numbers of protocols, one of which IP carries in it.
        ports: where its destination port is, as ranges of first and last.
        from_ports: where its source port is, likewise.
    """

    sources: tuple[str, ...] | None = None
    destinations: tuple[str, ...] | None = None
    protocols: tuple[int, ...] | None = None
    ports: tuple[tuple[int, int], ...] | None = None
    from_ports: tuple[tuple[int, int], ...] | None = None

    def __str__(self) -> str:
        parts = []
        if self.protocols is not None:
            parts.append(_some([_NAMES.get(number, f"protocol {number}") for number in self.protocols]))
        if self.sources is not None:
            parts.append(f"from {_some(self.sources)}")
        if self.from_ports is not None:
            parts.append(f"from port {_ranges(self.from_ports)}")
        if self.destinations is not None:
            parts.append(f"to {_some(self.destinations)}")
        if self.ports is not None:
            parts.append(f"to port {_ranges(self.ports)}")
        return " ".join(parts)


@dataclass(frozen=True)
class Rule:
    """One rule: an action, and the datagrams that it is for.

    Attributes:
        action: what is said of them.
        match: an expression in tcpdump's language, a table, or ``None`` for every datagram.
    """

    action: Action
    match: str | Table | None = None

    def __str__(self) -> str:
        return f"{self.action.value} {'any' if self.match is None else self.match}"


@dataclass(frozen=True)
class Filter:
    """A list of rules, of which the first that matches judges a datagram.

    Attributes:
        rules: the rules in order.
        default: what is said of datagrams that no rule matches.
    """

    rules: tuple[Rule, ...] = ()
    default: Action = Action.ALLOW

    def __str__(self) -> str:
        return "; ".join([*map(str, self.rules), f"default {self.default.value}"])


@dataclass(frozen=True)
class AttachedFilter:
    """A filter, and what it stands before.

    Attributes:
        kind: ``nic`` or ``network``.
        name: the name of the NIC or the network.
        direction: ``in``, what the NIC is given or what enters the network; ``out``, what the NIC sends.
        filter: its rules, as they were written.
    """

    kind: str
    name: str
    direction: str
    filter: Filter


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - 4:,} more" if len(words) > 4 else ""
    return ",".join(words[:4]) + more


def _ranges(ranges: Sequence[tuple[int, int]]) -> str:
    return _some([str(first) if first == last else f"{first}-{last}" for first, last in ranges])
