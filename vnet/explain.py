"""What would become of a datagram, and why: the steps of ``forward()`` in words and facts, without sending it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .journey import Answer, Journey
from .journey import Teller as JourneyTeller
from .verdict import Verdict

if TYPE_CHECKING:
    from .lan import Lan
    from .network import Network

__all__ = ["ADVICE", "Explanation", "Step", "explain"]

ADVICE: Mapping[Verdict, str] = MappingProxyType(
    {
        Verdict.NO_ROUTE: "send to a network that a router leads to, or give the NIC a gateway",
        Verdict.NO_HOST: "look up who is there with `vnet stats LAB`; give a NIC this address, or send to one that is",
        Verdict.BUFFER_FULL: "have the receiver read faster, send with block=True, or give it a larger buffer",
        Verdict.NIC_DOWN: "start its guest, or see why that ended; the address is kept for it",
        Verdict.TOO_BIG: "send less at once, have the sender's stack fragment, or raise the MTU of the network or link",
        Verdict.MALFORMED: "begin with a whole and right IP header; frames with an Ethernet header are no datagrams",
        Verdict.TTL_EXCEEDED: "send with a larger TTL, or look for routes that lead in a circle",
        Verdict.FILTERED: "see which rule it was, and change the filter or what is sent",
    }
)
"""What to do about each reason for which a datagram is dropped."""

# Assigned Internet Protocol Numbers (IANA), those that one meets.
_PROTOCOLS = {
    0: "hop-by-hop options",
    1: "ICMP",
    2: "IGMP",
    4: "IPv4 in IP",
    6: "TCP",
    17: "UDP",
    41: "IPv6 in IP",
    43: "routing header",
    44: "fragment header",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    59: "no next header",
    60: "destination options",
    89: "OSPF",
    103: "PIM",
    112: "VRRP",
    132: "SCTP",
}
# Names that a sentence about many receivers spells out.
_NAMED = 5


@dataclass(frozen=True)
class Step:
    """One of the five steps, if the datagram comes that far.

    Attributes:
        number: 1 to 5.
        name: ``read``, ``look up``, ``apply``, ``write`` or ``ring``.
        text: what happens in it, in words.
        facts: the same as values; bytes, counts and names.
    """

    number: int
    name: str
    text: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """What would become of a datagram as the LAN stands; made by :meth:`vnet.Lan.explain`, printed by :func:`print`.

    Attributes:
        nic: the NIC that would send it.
        length: its bytes.
        verdict: what :meth:`vnet.Nic.send` would return.
        reason: the verdict in a sentence.
        receivers: the names of the NICs whose input buffers it would reach.
        steps: the steps that it would take, the one that drops it last.
        journey: its way across routers, if it leaves its network by one.
        answer: what its sender would hear about it: an ICMP error, or the reply of a router that it is for.  Rate
            limits, and whatever is in its way back, may keep it from coming.
    """

    nic: str
    length: int
    verdict: Verdict
    reason: str
    receivers: tuple[str, ...]
    steps: tuple[Step, ...]
    journey: Journey | None = None
    answer: Answer | None = None

    def __str__(self) -> str:
        lines = []
        for step in self.steps:
            lines.append(f"{step.number} {step.name:<8} {step.text}")
            if step.name == "apply" and self.journey is not None:
                lines += self.journey.lines()
        if self.answer is not None:
            lines.append(f"  {'answer':<8} {self.answer}")
        lines.append(f"  {'verdict':<8} {self.verdict.name.lower()}: {self.reason}")
        advice = ADVICE.get(self.verdict)
        if advice:
            lines.append(f"  {'to do':<8} {advice}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for JSON."""
        return {
            "from": self.nic,
            "length": self.length,
            "verdict": self.verdict.name.lower(),
            "reason": self.reason,
            "receivers": list(self.receivers),
            "steps": [
                {"number": each.number, "name": each.name, "text": each.text, "facts": dict(each.facts)}
                for each in self.steps
            ],
            "journey": None if self.journey is None else self.journey.as_dict(),
            "answer": None if self.answer is None else asdict(self.answer),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Explanation:
        """Makes an explanation of what :meth:`as_dict` returned."""
        steps = (
            Step(each["number"], each["name"], each["text"], MappingProxyType(each["facts"])) for each in plain["steps"]
        )
        return cls(
            nic=plain["from"],
            length=plain["length"],
            verdict=Verdict[plain["verdict"].upper()],
            reason=plain["reason"],
            receivers=tuple(plain["receivers"]),
            steps=tuple(steps),
            journey=Journey.from_dict(plain["journey"]) if plain.get("journey") else None,
            answer=Answer(**plain["answer"]) if plain.get("answer") else None,
        )


def explain(lan: Lan, nic: str, datagram: Any) -> Explanation:
    """Explains a datagram; see :meth:`vnet.Lan.explain`."""
    register = lan._register
    # Nobody comes, goes or changes hands between the look and the names, but for guests that die.
    with register.lock:
        entry = register.nics[nic]
        told = lan._segment.explain(entry.slot, datagram)
        model = register.routing.model
        # Routers on no network have a slot of their own, by which captures know them.
        names = {router.slot: router.name for router in model.routers if router.slot}
        names |= {each.slot: each.name for each in register.nics.values()}
        way = JourneyTeller(told, model, names)
        way_and_answer = way.journey(), way.answer()
        filters = [_filter(lan, rule) for rule in told["rules"] if rule["rule"] == "filter"]
    own = tuple(map(str, entry.addresses))
    return _Teller(told, nic, entry.network, own, names, filters, *way_and_answer).explanation()


def _filter(lan: Lan, rule: Mapping[str, Any]) -> dict[str, Any]:
    """What a filter says, in the words in which it was written."""
    from .filtering import Action

    kind, identity, direction = rule["kind"], rule["identity"], rule["direction"]
    register = lan._register
    known: Iterable[Any] = register.nics.values() if kind == "nic" else register.networks.values()
    number = "slot" if kind == "nic" else "_number"
    name = next((each.name for each in known if getattr(each, number) == identity), f"{kind} {identity}")
    written = lan._keeping.find(kind, identity, direction)
    says = tuple(Action)[rule["says"]].value
    rules = () if written is None else written.rules
    # What stands in the segment without anybody having written it is damaged, and denies everything.
    words = f"default {says}"
    if rule["matched"] is not None:
        words = str(rules[rule["matched"]]) if rule["matched"] < len(rules) else says
    return {
        "rule": "filter",
        "of": kind,
        "name": name,
        "direction": direction,
        "number": None if rule["matched"] is None else rule["matched"] + 1,
        "words": words,
        "says": says,
        "kept": rule["kept"],
    }


class _Teller:
    """Says in words what the native part found."""

    def __init__(
        self,
        told: Mapping[str, Any],
        nic: str,
        network: Network,
        own: tuple[str, ...],
        names: Mapping[int, str],
        filters: Sequence[Mapping[str, Any]],
        journey: Journey | None,
        answer: Answer | None,
    ) -> None:
        self.told = told
        self.filters = filters
        self.journey = journey
        self.answer = answer
        self.length = told["length"]
        self.nic = nic
        self.network = network
        self.own = own
        self.names = names
        self.header = told["header"]
        self.to = self.header and self.header["destination"]
        self.verdict = Verdict(told["verdict"])

    def explanation(self) -> Explanation:
        steps = [self.read()]
        if self.told["look_up"]:
            steps.append(self.look_up())
        if self.told["rules"]:
            steps.append(self.apply())
        stopped = self.verdict in (Verdict.TOO_BIG, Verdict.FILTERED)
        if self.told["writes"] or (self.is_for_many() and not stopped):
            steps.append(self.write())
            if self.reached():
                steps.append(self.ring())
        return Explanation(
            nic=self.nic,
            length=self.length,
            verdict=self.verdict,
            reason=self.reason(),
            receivers=self.receivers(),
            steps=tuple(steps),
            journey=self.journey,
            answer=self.answer,
        )

    def receivers(self) -> tuple[str, ...]:
        # The fragments of a datagram have one.
        return tuple(dict.fromkeys(self.name(write["slot"]) for write in self.reached()))

    def is_for_many(self) -> bool:
        look_up = self.told["look_up"]
        return bool(look_up and (look_up["everyone"] or look_up["bridged"]))

    def name(self, slot: int) -> str:
        return self.names.get(slot, f"slot {slot}")

    def reached(self) -> list[Mapping[str, Any]]:
        return [write for write in self.told["writes"] if write["verdict"] is Verdict.DELIVERED]

    def prefixes(self) -> str:
        return " and ".join(map(str, self.network.prefixes))

    # The steps

    def read(self) -> Step:
        flaw, header = self.told["flaw"], self.header
        if flaw:
            return _step(1, "read", self.flaw(flaw), length=self.length, flaw=flaw["kind"])
        protocol = _protocol(header["version"], header["protocol"])
        hops = "TTL" if header["version"] == 4 else "hop limit"
        text = (
            f"IPv{header['version']} with a header of {header['header_bytes']} bytes, {protocol}, "
            f"{_bytes(self.length)}, {header['source']} → {self.to}, {hops} {header['hops']}"
        )
        spoofed = header["source"] not in self.own
        oddities = [
            *([f"the header says {_bytes(header['claimed'])}"] if header["claimed"] != self.length else []),
            *(["the header's checksum is wrong"] if header["checksum"] is False else []),
            *([f"the source is no address of {self.nic}"] if spoofed else []),
        ]
        if oddities:
            text += "; vnet carries it as it is, but " + " and ".join(oddities)
        return _step(1, "read", text, length=self.length, protocol_name=protocol, spoofed=spoofed, **header)

    def flaw(self, flaw: Mapping[str, Any]) -> str:
        if flaw["kind"] == "too_long":
            return f"{_bytes(self.length)}; no IP datagram has more than {flaw['most']:,}"
        if flaw["kind"] == "empty":
            return "no byte at all"
        if flaw["kind"] == "version":
            return f"the first four bits say version {flaw['version']}; IP has 4 and 6"
        return f"{_bytes(self.length)} of IPv{flaw['version']}, whose fixed header alone has {flaw['needs']}"

    def look_up(self) -> Step:
        found = self.told["look_up"]
        row, version = found["row"], self.header["version"]
        facts: dict[str, Any] = {
            "network": self.network.name,
            "table": f"IPv{version}",
            "bucket": found["bucket"],
            "buckets": found["buckets"],
            "everyone": found["everyone"],
            "bridged": found["bridged"],
            "gateway": None if found["gateway"] is None else self.name(found["gateway"]),
        }
        where = f"network {self.network.name} ({self.prefixes()}), IPv{version} table, bucket {found['bucket']:,}"
        where += f" of {found['buckets']:,}"
        if row is None:
            return _step(
                2, "look up", f"{where}: no row for {self.to}; {self.class_of_destination()}", **facts, row=None
            )
        name = self.name(row["slot"])
        further = f", found in bucket {row['bucket']:,}" if row["bucket"] != found["bucket"] else ""
        text = (
            f"{where}{further}: {self.to} → {name}, slot {row['slot']}, generation {row['generation']}, {row['state']}"
        )
        return _step(2, "look up", text, **facts, row={"address": self.to, "nic": name, **row})

    def class_of_destination(self) -> str:
        found = self.told["look_up"]
        if found["everyone"]:
            kind = "a multicast address" if ipaddress.ip_address(self.to).is_multicast else "a broadcast address"
            return f"{kind}: every other NIC of the network"
        if found["bridged"]:
            return "inside the network, and nobody on the LAN has it: NICs that bridge may lead to it"
        if found["gateway"] is not None:
            return f"outside the network: {self.name(found['gateway'])} leads out of it"
        if found["refused"] is Verdict.NO_HOST:
            return "inside the network, but nobody has it"
        version = self.header["version"]
        spoken = any(prefix.version == version for prefix in self.network.prefixes)
        return "outside the network" if spoken else f"the network has no IPv{version}"

    def apply(self) -> Step:
        said, facts = [], []
        for rule in self.told["rules"]:
            if rule["rule"] == "filter":
                continue
            than = "at most" if rule["kept"] else "over"
            said.append(f"MTU: {_bytes(self.length)} is {than} {rule['most']:,}")
            facts.append(dict(rule))
        # Where everybody gets a copy, those filters tell that hold one back.
        telling = [rule for rule in self.filters if not rule["kept"]] or self.filters
        said.extend(_filter_words(rule) for rule in telling[:_NAMED])
        if len(telling) > _NAMED:
            said.append(f"and {len(telling) - _NAMED:,} more filters")
        facts.extend(map(dict, self.filters))
        return _step(3, "apply", "; ".join(said), rules=facts)

    def write(self) -> Step:
        writes = self.told["writes"]
        facts = [self.write_facts(write) for write in writes]
        if self.is_for_many() or len({write["slot"] for write in writes}) > 1:
            text = self.many(writes)
        else:
            pieces = f"{len(writes):,} fragments into the " if len(writes) > 1 else ""
            text = f"{pieces}input buffer of {self.name(writes[0]['slot'])}: {_buffer(writes[0]['buffer'])}"
        return _step(4, "write", text, receivers=facts)

    def write_facts(self, write: Mapping[str, Any]) -> dict[str, Any]:
        buffer = write["buffer"]
        return {
            "nic": self.name(write["slot"]),
            "slot": write["slot"],
            "generation": write["generation"],
            "verdict": write["verdict"].name.lower(),
            **({} if buffer is None else {**buffer, "free": buffer["size"] - buffer["used"]}),
        }

    def many(self, writes: Sequence[Mapping[str, Any]]) -> str:
        if not writes:
            return "nobody else is on the network and up: nothing is written, and nothing lost"
        full = [self.name(write["slot"]) for write in writes if write["verdict"] is Verdict.BUFFER_FULL]
        text = f"input buffers of {len(writes):,} NICs ({_some(self.name(write['slot']) for write in writes)}): "
        return text + (f"no room at {len(full):,} ({_some(full)})" if full else "room in each")

    def ring(self) -> Step:
        reached = self.reached()
        rings = {self.name(write["slot"]): str(write["ring"]) for write in reached}
        if not self.is_for_many() and len(rings) == 1:
            (name,) = rings
            how = {
                "nobody": f"{name} does not sleep: it polls, or is busy with what came before; nobody is woken",
                "guest": f"{name} sleeps, and is woken",
                "worker": f"base worker {reached[0]['worker']}, which serves {name}, is told, and woken if it sleeps",
            }
            return _step(5, "ring", how[rings[name]], rings=rings)
        words = {
            "guest": "asleep, woken",
            "worker": "served by a base worker, which is told",
            "nobody": "busy, left alone",
        }
        counts = {ring: sum(each == ring for each in rings.values()) for ring in words}
        text = "; ".join(f"{count:,} {words[ring]}" for ring, count in counts.items() if count)
        return _step(5, "ring", text, rings=rings)

    def reason(self) -> str:
        """The verdict in a sentence."""
        if self.verdict is Verdict.DELIVERED and self.receivers():
            return f"to {_some(self.receivers())}"
        held = [rule for rule in self.filters if not rule["kept"]]
        if self.verdict is Verdict.FILTERED and held:
            return _filter_words(held[0])
        if self.journey is not None and self.verdict is not Verdict.BUFFER_FULL:
            return self.journey.end
        if self.verdict is Verdict.DELIVERED:
            return "nobody else is there to get it"
        if self.verdict is Verdict.NO_ROUTE:
            return f"{self.to} is outside {self.prefixes()}, the network of {self.nic}"
        if self.verdict is Verdict.NO_HOST:
            return f"{self.to} is inside {self.network.name}, but no NIC has the address"
        if self.verdict is Verdict.NIC_DOWN:
            row = self.told["look_up"]["row"]
            return f"{self.to} is kept for {self.name(row['slot'])}, which nobody holds" if row else "the NIC has gone"
        if self.verdict is Verdict.BUFFER_FULL:
            whose = _some(dict.fromkeys(self.name(write["slot"]) for write in self.told["writes"]))
            return f"the input buffer of {whose} has no room"
        if self.verdict is Verdict.TOO_BIG and self.told["rules"]:
            return f"{_bytes(self.length)} are over the MTU of {self.network.name}, {self.network.mtu:,}"
        if self.verdict is Verdict.TOO_BIG:
            return f"{_bytes(self.length)} are more than an IP datagram has"
        return "no readable IP version and destination"


def _filter_words(rule: Mapping[str, Any]) -> str:
    """``the filter of bob (in) denies it: rule 2, deny tcp port 22``."""
    does = {"allow": "allows it", "deny": "denies it", "reject": "rejects it"}[rule["says"]]
    which = rule["words"] if rule["number"] is None else f"rule {rule['number']}, {rule['words']}"
    of = f"network {rule['name']}" if rule["of"] == "network" else f"{rule['name']} ({rule['direction']})"
    return f"the filter of {of} {does}: {which}"


def _step(number: int, name: str, text: str, **facts: Any) -> Step:
    return Step(number, name, text, MappingProxyType(facts))


def _protocol(version: int, number: int) -> str:
    extension = number in (0, 43, 44, 59, 60)
    return _PROTOCOLS[number] if number in _PROTOCOLS and not (version == 4 and extension) else f"protocol {number}"


def _bytes(count: int) -> str:
    return f"{count:,} byte{'' if count == 1 else 's'}"


def _some(names: Iterable[str]) -> str:
    named = list(names)
    rest = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def _buffer(buffer: Mapping[str, Any] | None) -> str:
    if buffer is None:
        return "it has none any more"
    free = buffer["size"] - buffer["used"]
    fits = "it fits" if buffer["fits"] else "it does not fit"
    lock = "held by another sender at this moment, for up to 80 ms" if buffer["locked"] else "free"
    return f"{free:,} of {buffer['size']:,} bytes free, {buffer['needed']:,} needed, {fits}; lock {lock}"
