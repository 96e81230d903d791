"""IPv4 headers that are wrong, or bear options: what a router drops, what it says, what it writes into them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from .answers import checksum
from .pair import Pair
from .probes import Probe, Way, cases
from .schemes import line


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(line(3)) as pair:
        yield pair


def by_hand(
    way: Way,
    *,
    dst: str = "",
    options: bytes = b"",
    data: bytes = b"\x0f\xa0\x0f\xa1\x00\x0c\x00\x00data",
    version: int = 4,
    words: int | None = None,
    total: int | None = None,
    flags: int = 0,
    ttl: int = 64,
    protocol: int = 17,
    right: bool = True,
    then: bytes = b"",
) -> bytes:
    """A datagram byte for byte: `words` of header and `total` bytes are what it says, whatever it has."""
    length = 20 + len(options)
    head = bytearray(length)
    head[0] = version << 4 | (length // 4 if words is None else words)
    struct.pack_into("!HHHBB", head, 2, length + len(data) if total is None else total, 0x1234, flags, ttl, protocol)
    head[12:20] = ip_address(way.src).packed + ip_address(dst or way.dst).packed
    head[20:] = options
    # As a router works it out: over the header that it is said to have.
    said = (bytes(head) + data)[: 4 * (head[0] & 15)]
    head[10:12] = (checksum(said) if right else 0xDEAD).to_bytes(2, "big")
    return bytes(head) + data + then


def ping(way: Way, options: bytes, router: str = "r2", attached: str = "lo", **more: Any) -> bytes:
    """An echo request with options for a router."""
    message = b"\x08\x00\x00\x00\x00\x77\x00\x03abcdefgh"
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return by_hand(way, dst=way.router(router, attached), options=options, data=message, protocol=1, **more)


def padded(options: bytes) -> bytes:
    return options + b"\0" * (-len(options) % 4)


def recording(slots: int, pointer: int = 4, first: str = "") -> bytes:
    """Record route: RFC 791, section 3.1."""
    room = (ip_address(first).packed if first else b"").ljust(4 * slots, b"\0")
    return padded(bytes([7, 3 + 4 * slots, pointer]) + room)


def stamping(entries: int, flag: int, pointer: int = 5, overflow: int = 0, room: bytes = b"") -> bytes:
    """Timestamp: with flag 0 times, 1 addresses and times, 3 times at addresses that are given."""
    size = 4 if flag == 0 else 8
    return bytes([68, 4 + size * entries, pointer, overflow << 4 | flag]) + room.ljust(size * entries, b"\0")


def stamping_at(way: Way, *routers: tuple[str, str]) -> bytes:
    room = b"".join(ip_address(way.router(*each)).packed + bytes(4) for each in routers)
    return stamping(len(routers), 3, room=room)


def sourced(kind: int, way: Way, *hops: str, pointer: int = 4) -> bytes:
    """A source route: 131 loose, 137 strict."""
    return padded(bytes([kind, 3 + 4 * len(hops), pointer]) + b"".join(ip_address(each).packed for each in hops))


ALERT = bytes([148, 4, 0, 0])
REPLIED, ARRIVED, PROBLEM = "a: echo-reply", "b: UDP", "a: parameter-problem 0"
SILENCE = "silence"

WRONG = [
    Probe("as it should be", lambda w: by_hand(w), ARRIVED, (4,)),
    Probe("a wrong header checksum", lambda w: by_hand(w, right=False), SILENCE, (4,)),
    Probe("a wrong header checksum and a TTL that ends", lambda w: by_hand(w, right=False, ttl=1), SILENCE, (4,)),
    Probe("a wrong header checksum for a router", lambda w: ping(w, b"", right=False), SILENCE, (4,)),
    *(Probe(f"version {version}", lambda w, v=version: by_hand(w, version=v), SILENCE, (4,)) for version in (0, 5, 15)),
    *(
        Probe(f"a header of {words} words", lambda w, n=words: by_hand(w, words=n), SILENCE, (4,))
        for words in (0, 1, 4)
    ),
    Probe("a header said to be longer than the datagram", lambda w: by_hand(w, words=15), SILENCE, (4,)),
    Probe("a header of 24 bytes whose options are data", lambda w: by_hand(w, words=6), PROBLEM, (4,)),
    Probe("a total length beyond the data", lambda w: by_hand(w, total=100), SILENCE, (4,)),
    Probe("a total length one beyond the data", lambda w: by_hand(w, total=33), SILENCE, (4,)),
    Probe("a total length that cuts the data", lambda w: by_hand(w, total=30), ARRIVED, (4,)),
    Probe("a total length that cuts all data", lambda w: by_hand(w, total=20), "b: protocol 17", (4,)),
    Probe("a total length that cuts the header", lambda w: by_hand(w, total=19), SILENCE, (4,)),
    Probe("a total length of 0", lambda w: by_hand(w, total=0), SILENCE, (4,)),
    Probe("bytes behind its end, which do not travel on", lambda w: by_hand(w, then=b"trailer"), ARRIVED, (4,)),
    Probe(
        "bytes behind its end are not quoted", lambda w: by_hand(w, then=b"trailer", ttl=2), "a: time-exceeded 0", (4,)
    ),
    Probe("bytes behind an echo request", lambda w: ping(w, b"", then=b"trailer"), REPLIED, (4,)),
    *(Probe(f"{size} bytes in all", lambda w, n=size: by_hand(w)[:n], SILENCE, (4,)) for size in (1, 4, 12, 16, 19)),
    Probe("DF and MF", lambda w: by_hand(w, flags=0x6000), ARRIVED, (4,)),
    Probe("the reserved flag", lambda w: by_hand(w, flags=0x8000), ARRIVED, (4,)),
    Probe("all flags", lambda w: by_hand(w, flags=0xE000), ARRIVED, (4,)),
    Probe("a fragment beyond 65,535 bytes", lambda w: by_hand(w, flags=0x1FFF, data=bytes(100)), "b: the rest", (4,)),
    Probe(
        "a fragment whose length is no multiple of 8", lambda w: by_hand(w, flags=0x2000, data=bytes(13)), ARRIVED, (4,)
    ),
    Probe("a fragment without data", lambda w: by_hand(w, flags=0x2010, data=b""), "b: the rest", (4,)),
]

OPTIONS = [
    Probe("record route across all routers", lambda w: by_hand(w, options=recording(9)), ARRIVED, (4,)),
    Probe("record route with room for two", lambda w: by_hand(w, options=recording(2)), ARRIVED, (4,)),
    Probe("record route with room for none", lambda w: by_hand(w, options=recording(0)), ARRIVED, (4,)),
    Probe(
        "record route with part of a place left",
        lambda w: by_hand(w, options=padded(bytes([7, 9, 8]) + bytes(6))),
        PROBLEM,
        (4,),
    ),
    Probe("record route that is full", lambda w: by_hand(w, options=recording(2, 12)), ARRIVED, (4,)),
    Probe("record route that began before", lambda w: by_hand(w, options=recording(5, 8, "192.0.2.1")), ARRIVED, (4,)),
    Probe("record route whose pointer is 3", lambda w: by_hand(w, options=recording(3, 3)), PROBLEM, (4,)),
    Probe("record route whose pointer is 5", lambda w: by_hand(w, options=recording(3, 5)), PROBLEM, (4,)),
    Probe("record route whose pointer is far off", lambda w: by_hand(w, options=recording(3, 200)), ARRIVED, (4,)),
    Probe("record route of 2 bytes", lambda w: by_hand(w, options=padded(bytes([7, 2]))), PROBLEM, (4,)),
    Probe("record route to a router, and back", lambda w: ping(w, recording(9)), REPLIED, (4,)),
    Probe("record route to a router's near address", lambda w: ping(w, recording(9), "r1", "left"), REPLIED, (4,)),
    Probe("record route to a router's far address", lambda w: ping(w, recording(9), "r2", "r3"), REPLIED, (4,)),
    Probe("record route with little room to a router", lambda w: ping(w, recording(2)), REPLIED, (4,)),
    Probe(
        "record route that ends is quoted as it was then",
        lambda w: by_hand(w, options=recording(9), ttl=2),
        "a: time-exceeded 0",
        (4,),
    ),
    Probe(
        "record route that ends at the first router",
        lambda w: by_hand(w, options=recording(9), ttl=1),
        "a: time-exceeded 0",
        (4,),
    ),
    Probe(
        "record route to an unknown network",
        lambda w: by_hand(w, options=recording(9), dst="203.0.113.1"),
        "a: dest-unreach 0",
        (4,),
    ),
    Probe("record route from the other side", lambda w: by_hand(w, options=recording(9)), "a: UDP", (4,), "b"),
    Probe("record route twice", lambda w: by_hand(w, options=recording(3) + recording(3)), ARRIVED, (4,)),
    Probe("times across all routers", lambda w: by_hand(w, options=stamping(9, 0)), ARRIVED, (4,)),
    Probe("addresses and times across all routers", lambda w: by_hand(w, options=stamping(4, 1)), ARRIVED, (4,)),
    Probe(
        "times at two routers that are given",
        lambda w: by_hand(w, options=stamping_at(w, ("r1", "left"), ("r3", "right"))),
        ARRIVED,
        (4,),
    ),
    Probe(
        "times at a router's other address",
        lambda w: by_hand(w, options=stamping_at(w, ("r2", "lo"), ("r3", "lo"))),
        ARRIVED,
        (4,),
    ),
    Probe(
        "times at a router that is not on the way",
        lambda w: by_hand(w, options=stamping(2, 3, room=b"\xc0\x00\x02\x01" + bytes(12))),
        ARRIVED,
        (4,),
    ),
    Probe("times with room for two", lambda w: by_hand(w, options=stamping(2, 0)), ARRIVED, (4,)),
    Probe("times without room are counted", lambda w: by_hand(w, options=stamping(1, 0, 9)), ARRIVED, (4,)),
    Probe("times that have been counted 13 times", lambda w: by_hand(w, options=stamping(1, 0, 9, 13)), PROBLEM, (4,)),
    Probe("times that cannot be counted any more", lambda w: by_hand(w, options=stamping(1, 0, 9, 15)), PROBLEM, (4,)),
    Probe("times with an unknown flag", lambda w: by_hand(w, options=stamping(2, 2)), ARRIVED, (4,)),
    Probe("times whose pointer is 4", lambda w: by_hand(w, options=stamping(2, 0, 4)), PROBLEM, (4,)),
    Probe("times whose pointer is 6", lambda w: by_hand(w, options=stamping(2, 0, 6)), PROBLEM, (4,)),
    Probe(
        "times with half a place", lambda w: by_hand(w, options=padded(bytes([68, 10, 5, 1]) + bytes(6))), PROBLEM, (4,)
    ),
    Probe("times of 3 bytes", lambda w: by_hand(w, options=padded(bytes([68, 3, 5]))), PROBLEM, (4,)),
    Probe("times to a router, and back", lambda w: ping(w, stamping(9, 0)), REPLIED, (4,)),
    Probe("addresses and times to a router, and back", lambda w: ping(w, stamping(4, 1)), REPLIED, (4,)),
    Probe(
        "times at given routers, and back",
        lambda w: ping(w, stamping_at(w, ("r1", "left"), ("r2", "lo"))),
        REPLIED,
        (4,),
    ),
    Probe(
        "times that end are quoted as they were then",
        lambda w: by_hand(w, options=stamping(9, 0), ttl=3),
        "a: time-exceeded 0",
        (4,),
    ),
    Probe("router alert across all routers", lambda w: by_hand(w, options=ALERT), ARRIVED, (4,)),
    Probe("router alert to a router", lambda w: ping(w, ALERT), REPLIED, (4,)),
    Probe("router alert with a value", lambda w: by_hand(w, options=bytes([148, 4, 0, 7])), ARRIVED, (4,)),
    Probe("router alert of 3 bytes", lambda w: by_hand(w, options=bytes([148, 3, 0, 0])), PROBLEM, (4,)),
    Probe("router alert that ends", lambda w: by_hand(w, options=ALERT, ttl=2), "a: time-exceeded 0", (4,)),
    Probe(
        "loose source route",
        lambda w: by_hand(w, options=sourced(131, w, w.dst), dst=w.router("r2", "lo")),
        SILENCE,
        (4,),
    ),
    Probe(
        "loose source route through two routers",
        lambda w: by_hand(w, options=sourced(131, w, w.router("r3", "r2"), w.dst), dst=w.router("r2", "r1")),
        SILENCE,
        (4,),
    ),
    Probe(
        "strict source route",
        lambda w: by_hand(
            w, options=sourced(137, w, w.router("r2", "r1"), w.router("r3", "r2"), w.dst), dst=w.router("r1", "left")
        ),
        SILENCE,
        (4,),
    ),
    Probe(
        "strict source route that leaves one out",
        lambda w: by_hand(w, options=sourced(137, w, w.router("r3", "r2"), w.dst), dst=w.router("r1", "left")),
        SILENCE,
        (4,),
    ),
    Probe("source route that is done", lambda w: by_hand(w, options=sourced(131, w, w.src, pointer=8)), SILENCE, (4,)),
    Probe(
        "source route that is done, to a router",
        lambda w: ping(w, sourced(131, w, w.router("r1", "lo"), pointer=8)),
        SILENCE,
        (4,),
    ),
    Probe(
        "source route not yet at a router of it",
        lambda w: by_hand(w, options=sourced(131, w, w.router("r3", "lo"))),
        SILENCE,
        (4,),
    ),
    Probe(
        "both source routes",
        lambda w: by_hand(w, options=sourced(131, w, w.dst) + sourced(137, w, w.dst), dst=w.router("r2", "lo")),
        SILENCE,
        (4,),
    ),
    Probe(
        "source route whose pointer is 3",
        lambda w: by_hand(w, options=sourced(131, w, w.dst, pointer=3)),
        PROBLEM,
        (4,),
    ),
    Probe("source route without an address", lambda w: by_hand(w, options=sourced(131, w)), SILENCE, (4,)),
    Probe("no operation, four times", lambda w: by_hand(w, options=b"\1\1\1\1"), ARRIVED, (4,)),
    Probe("end of options, and then something", lambda w: by_hand(w, options=b"\0\7\3\4"), ARRIVED, (4,)),
    Probe("end of options, and then zeroes", lambda w: by_hand(w, options=bytes(8)), ARRIVED, (4,)),
    Probe("an unknown option", lambda w: by_hand(w, options=bytes([30, 4, 1, 2])), ARRIVED, (4,)),
    Probe("an unknown option that is to be copied", lambda w: by_hand(w, options=bytes([222, 4, 1, 2])), ARRIVED, (4,)),
    Probe("an unknown option to a router, and back", lambda w: ping(w, bytes([30, 4, 1, 2])), REPLIED, (4,)),
    Probe("security, which few know", lambda w: by_hand(w, options=padded(bytes([130, 11]) + bytes(9))), ARRIVED, (4,)),
    Probe("a stream number", lambda w: by_hand(w, options=bytes([136, 4, 0, 1])), ARRIVED, (4,)),
    Probe("CIPSO", lambda w: by_hand(w, options=padded(bytes([134, 6, 0, 0, 0, 1]))), PROBLEM, (4,)),
    Probe("an option of 0 bytes", lambda w: by_hand(w, options=bytes([30, 0, 0, 0])), PROBLEM, (4,)),
    Probe("an option of 1 byte", lambda w: by_hand(w, options=bytes([30, 1, 0, 0])), PROBLEM, (4,)),
    Probe("an option that ends behind the header", lambda w: by_hand(w, options=bytes([30, 8, 0, 0])), PROBLEM, (4,)),
    Probe("an option without a length", lambda w: by_hand(w, options=bytes([1, 1, 1, 30])), PROBLEM, (4,)),
    Probe(
        "an option that is wrong, behind one that is right",
        lambda w: by_hand(w, options=b"\1" + recording(3)[:-1] + bytes([68, 3, 0, 0])),
        PROBLEM,
        (4,),
    ),
    Probe(
        "an option that is wrong, in an error: told of nobody",
        lambda w: by_hand(w, options=bytes([30, 0, 0, 0]), data=b"\3\1\0\0" + bytes(28), protocol=1),
        SILENCE,
        (4,),
    ),
    Probe(
        "an option that is wrong, in a later fragment",
        lambda w: by_hand(w, options=bytes([30, 0, 0, 0]), flags=0x2010),
        SILENCE,
        (4,),
    ),
    Probe(
        "an option that is wrong, with a TTL that ends",
        lambda w: by_hand(w, options=bytes([30, 0, 0, 0]), ttl=1),
        PROBLEM,
        (4,),
    ),
    Probe("an option that is wrong, to a far router", lambda w: ping(w, bytes([30, 0, 0, 0])), PROBLEM, (4,)),
    Probe(
        "an option that is wrong, to the near router",
        lambda w: ping(w, bytes([30, 0, 0, 0]), "r1", "r2"),
        PROBLEM,
        (4,),
    ),
    Probe("40 bytes of options", lambda w: by_hand(w, options=recording(6) + stamping(2, 0)), ARRIVED, (4,)),
    Probe(
        "record route and times to a router, and back", lambda w: ping(w, recording(4) + stamping(3, 0)), REPLIED, (4,)
    ),
    Probe(
        "record route to a closed port: the error has the options, too",
        lambda w: by_hand(w, options=recording(9), dst=w.router("r2", "lo")),
        "a: dest-unreach 3",
        (4,),
    ),
    Probe(
        "times to a closed port",
        lambda w: by_hand(w, options=stamping(4, 1), dst=w.router("r2", "lo")),
        "a: dest-unreach 3",
        (4,),
    ),
    Probe(
        "record route in a TCP SYN to a router",
        lambda w: by_hand(w, options=recording(9), dst=w.router("r2", "lo"), data=tcp_syn(w), protocol=6),
        "a: TCP",
        (4,),
    ),
]


def tcp_syn(way: Way) -> bytes:
    from scapy.all import IP, TCP, raw

    return bytes(raw(IP(src=way.src, dst=way.router("r2", "lo")) / TCP(sport=4000, dport=80, flags="S")))[20:]


@pytest.mark.parametrize(("probe", "family"), cases(WRONG))
def test_a_header_that_is_wrong_is_treated_as_by_linux(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)


@pytest.mark.parametrize(("probe", "family"), cases(OPTIONS))
def test_options_are_treated_as_by_linux(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)
