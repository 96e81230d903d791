"""IPv6 headers that are wrong, and extension headers: what a router drops, says and lets through."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from .pair import Pair
from .probes import Probe, Way, cases
from .schemes import line

ICMP6, UDP_, NONE, HOPS, ROUTING, FRAGMENT, DESTINATION, AH = 58, 17, 59, 0, 43, 44, 60, 51


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(line(3)) as pair:
        yield pair


def by_hand(
    way: Way,
    *headers: tuple[int, bytes],
    dst: str = "",
    data: bytes = b"",
    final: int = UDP_,
    length: int | None = None,
    hops: int = 64,
    version: int = 6,
    then: bytes = b"",
    label: int = 0,
) -> bytes:
    """A datagram byte for byte: each extension header is given without its first byte, which says what follows."""
    dst = dst or way.dst
    numbers = [*(number for number, _ in headers), final]
    body = b"".join(bytes([following]) + rest for (_, rest), following in zip(headers, numbers[1:], strict=True))
    body += data or (udp(way, dst) if final == UDP_ else b"")
    head = struct.pack("!IHBB", version << 28 | label, len(body) if length is None else length, numbers[0], hops)
    return head + ip_address(way.src).packed + ip_address(dst).packed + body + then


def udp(way: Way, dst: str) -> bytes:
    from scapy.all import UDP, IPv6, raw

    return bytes(raw(IPv6(src=way.src, dst=dst) / UDP(sport=4000, dport=4001) / b"data"))[40:]


def ping(way: Way, *headers: tuple[int, bytes], router: str = "r2", attached: str = "lo", **more: Any) -> bytes:
    """An echo request behind extension headers, for a router."""
    from scapy.all import ICMPv6EchoRequest, IPv6, raw

    dst = way.router(router, attached)
    data = bytes(raw(IPv6(src=way.src, dst=dst) / ICMPv6EchoRequest(id=7, seq=1, data=b"abcd")))[40:]
    return by_hand(way, *headers, dst=dst, data=data, final=ICMP6, **more)


def options(number: int, *each: bytes) -> tuple[int, bytes]:
    """A header of options, padded to eight bytes: PadN, RFC 8200 section 4.2."""
    body = b"".join(each)
    room = -(len(body) + 2) % 8
    body += b"" if not room else b"\0" if room == 1 else bytes([1, room - 2]) + bytes(room - 2)
    return number, bytes([(len(body) + 2) // 8 - 1]) + body


def option(kind: int, data: bytes = b"\0\0") -> bytes:
    return bytes([kind, len(data)]) + data


def routing(kind: int, left: int, *hops: str, length: int | None = None) -> tuple[int, bytes]:
    body = b"".join(ip_address(each).packed for each in hops)
    return ROUTING, bytes([2 * len(hops) if length is None else length, kind, left]) + bytes(4) + body


def overlong(way: Way) -> bytes:
    """Where its headers say that a message of ICMPv6 is, the datagram has ended, and something lies."""
    option, cut = (HOPS, bytes([0, TELL, 4, 0, 0, 0, 0])), (DESTINATION, bytes([0, 1, 0, 0, 0]))
    return by_hand(way, option, cut, data=b"\0", final=ICMP6, length=14, then=bytes([128] * 9))


def via_r3(way: Way, kind: int, left: int) -> tuple[int, bytes]:
    return routing(kind, left, way.router("r3", "lo"))


def fragment(offset: int, more: bool, reserved: int = 0) -> tuple[int, bytes]:
    return FRAGMENT, bytes([0]) + struct.pack("!HI", offset << 3 | reserved << 1 | more, 0x77)


# RFC 8200, section 4.2: the two highest bits say what to do with an option that one does not know.
SKIP, DROP, TELL, TELL_UNLESS_GROUP = 0x1E, 0x5E, 0x9E, 0xDE
ALERT = option(5)
HEADER, NEXT, OPTION = "a: ICMPv6 Parameter Problem 0", "a: ICMPv6 Parameter Problem 1", "a: ICMPv6 Parameter Problem 2"
ARRIVED, REPLIED, SILENCE = "b: UDP", "a: ICMPv6 Echo Reply", "silence"
ENDED, CLOSED = "a: ICMPv6 Time Exceeded 0", "a: ICMPv6 Destination Unreachable 4"
# What a router says to one that is for it.
UNKNOWN = {SKIP: REPLIED, DROP: SILENCE, TELL: OPTION, TELL_UNLESS_GROUP: OPTION}

WRONG = [
    Probe("as it should be", lambda w: by_hand(w), ARRIVED, (6,)),
    Probe("a flow label and a class travel on", lambda w: by_hand(w, label=0xABCDEF), ARRIVED, (6,)),
    *(Probe(f"version {version}", lambda w, v=version: by_hand(w, version=v), SILENCE, (6,)) for version in (0, 5, 7)),
    Probe("a length beyond the data", lambda w: by_hand(w, length=100), SILENCE, (6,)),
    Probe("a length one beyond the data", lambda w: by_hand(w, length=13), SILENCE, (6,)),
    Probe("a length that cuts the data", lambda w: by_hand(w, length=10), ARRIVED, (6,)),
    Probe("a length of 0", lambda w: by_hand(w, length=0), "b: protocol 17", (6,)),
    Probe("a length of 0 and nothing behind", lambda w: by_hand(w, final=NONE), "b: protocol 59", (6,)),
    Probe("bytes behind its end, which do not travel on", lambda w: by_hand(w, then=b"trailer"), ARRIVED, (6,)),
    Probe("bytes behind its end are not quoted", lambda w: by_hand(w, then=b"trailer", hops=2), ENDED, (6,)),
    Probe("bytes behind an echo request", lambda w: ping(w, then=b"trailer"), REPLIED, (6,)),
    *(Probe(f"{size} bytes in all", lambda w, n=size: by_hand(w)[:n], SILENCE, (6,)) for size in (1, 8, 24, 39)),
    Probe(
        "a jumbogram of few bytes",
        lambda w: by_hand(w, options(HOPS, option(194, struct.pack("!I", 70_000))), length=0),
        SILENCE,
        (6,),
    ),
    Probe(
        "a jumbo option with a length",
        lambda w: by_hand(w, options(HOPS, option(194, struct.pack("!I", 70_000)))),
        HEADER,
        (6,),
    ),
    Probe("a jumbo option of 3 bytes", lambda w: by_hand(w, options(HOPS, option(194, bytes(3)))), SILENCE, (6,)),
]

HOP_BY_HOP = [
    Probe("padding alone", lambda w: by_hand(w, options(HOPS)), ARRIVED, (6,)),
    Probe("padding alone, to a router", lambda w: ping(w, options(HOPS)), REPLIED, (6,)),
    Probe("single bytes of padding", lambda w: by_hand(w, (HOPS, bytes([0, 0, 0, 0, 0, 0, 0]))), ARRIVED, (6,)),
    Probe("padding that is not zero", lambda w: by_hand(w, (HOPS, bytes([0, 1, 4, 1, 2, 3, 4]))), SILENCE, (6,)),
    Probe("eight bytes of padding", lambda w: by_hand(w, options(HOPS, option(1, bytes(8)))), SILENCE, (6,)),
    Probe("router alert", lambda w: by_hand(w, options(HOPS, ALERT)), ARRIVED, (6,)),
    Probe("router alert to a router", lambda w: ping(w, options(HOPS, ALERT)), REPLIED, (6,)),
    Probe("router alert of 4 bytes", lambda w: by_hand(w, options(HOPS, option(5, bytes(4)))), SILENCE, (6,)),
    Probe("router alert that ends", lambda w: by_hand(w, options(HOPS, ALERT), hops=2), ENDED, (6,)),
    *(
        Probe(f"an unknown option {kind:#x}", lambda w, k=kind: by_hand(w, options(HOPS, option(k))), told, (6,))
        for kind, told in {**UNKNOWN, SKIP: ARRIVED}.items()
    ),
    *(
        Probe(f"an unknown option {kind:#x} to r2", lambda w, k=kind: ping(w, options(HOPS, option(k))), told, (6,))
        for kind, told in UNKNOWN.items()
    ),
    *(
        Probe(
            f"an unknown option {kind:#x} to r1",
            lambda w, k=kind: ping(w, options(HOPS, option(k)), router="r1", attached="left"),
            told,
            (6,),
        )
        for kind, told in UNKNOWN.items()
    ),
    Probe(
        "an unknown option behind others",
        lambda w: by_hand(w, options(HOPS, ALERT, option(SKIP, bytes(5)), option(TELL))),
        OPTION,
        (6,),
    ),
    Probe(
        "an unknown option and a hop limit that ends",
        lambda w: by_hand(w, options(HOPS, option(TELL)), hops=1),
        OPTION,
        (6,),
    ),
    Probe(
        "an option that ends behind the header",
        lambda w: by_hand(w, (HOPS, bytes([0, SKIP, 9, 0, 0, 0, 0]))),
        SILENCE,
        (6,),
    ),
    Probe("an option without a length", lambda w: by_hand(w, (HOPS, bytes([0, 1, 3, 0, 0, 0, SKIP]))), SILENCE, (6,)),
    Probe(
        "a header that ends behind the datagram",
        lambda w: by_hand(w, (HOPS, bytes([5, 1, 4, 0, 0, 0, 0]))),
        SILENCE,
        (6,),
    ),
    Probe(
        "a header cut in its first eight bytes",
        lambda w: by_hand(w, (HOPS, bytes([0, 1, 0])), final=NONE),
        SILENCE,
        (6,),
    ),
    Probe("more than one header", lambda w: by_hand(w, options(HOPS), options(HOPS)), ARRIVED, (6,)),
    Probe("more than one header, to a router", lambda w: ping(w, options(HOPS), options(HOPS)), NEXT, (6,)),
    Probe("behind another header", lambda w: by_hand(w, options(DESTINATION), options(HOPS)), ARRIVED, (6,)),
    Probe("behind another header, to a router", lambda w: ping(w, options(DESTINATION), options(HOPS)), NEXT, (6,)),
    Probe(
        "eight unknown options to be skipped",
        lambda w: by_hand(w, options(HOPS, *[option(SKIP, b"")] * 8)),
        ARRIVED,
        (6,),
    ),
    Probe(
        "nine unknown options to be skipped",
        lambda w: by_hand(w, options(HOPS, *[option(SKIP, b"")] * 9)),
        SILENCE,
        (6,),
    ),
    Probe(
        "a flow option with a fragment", lambda w: by_hand(w, options(HOPS, ALERT), fragment(0, True)), ARRIVED, (6,)
    ),
]

OTHERS = [
    Probe("a wrong option before a message that is not there, but for bytes behind", overlong, SILENCE, (6,)),
    Probe("destination options pass", lambda w: by_hand(w, options(DESTINATION, option(TELL))), ARRIVED, (6,)),
    Probe(
        "destination options that end", lambda w: by_hand(w, options(DESTINATION, option(TELL)), hops=2), ENDED, (6,)
    ),
    *(
        Probe(
            f"destination option {kind:#x} to a router",
            lambda w, k=kind: ping(w, options(DESTINATION, option(k))),
            told,
            (6,),
        )
        for kind, told in UNKNOWN.items()
    ),
    Probe(
        "a home address option to a router",
        lambda w: ping(w, options(DESTINATION, option(201, bytes(16)))),
        OPTION,
        (6,),
    ),
    Probe(
        "a header of destination options cut short, to a router",
        lambda w: ping(w, (DESTINATION, bytes([9, 1, 4, 0, 0, 0, 0]))),
        SILENCE,
        (6,),
    ),
    *(
        Probe(
            f"routing header {kind} with {left} left passes",
            lambda w, k=kind, n=left: by_hand(w, via_r3(w, k, n)),
            ARRIVED,
            (6,),
        )
        for kind in (0, 2, 3, 4, 99)
        for left in (0, 1)
    ),
    *(
        Probe(
            f"routing header {kind} with {left} left to a router",
            lambda w, k=kind, n=left: ping(w, via_r3(w, k, n)),
            told,
            (6,),
        )
        # Linux goes along segments (3 and 4) only where it has been told to, and otherwise says nothing.
        for kind, left, told in (
            *((0, 0, REPLIED), (0, 1, HEADER), (2, 1, HEADER), (99, 0, REPLIED), (99, 1, HEADER)),
            *((3, 0, SILENCE), (3, 1, SILENCE), (4, 0, SILENCE), (4, 1, SILENCE)),
        )
    ),
    Probe("a routing header of an odd length", lambda w: ping(w, routing(0, 1, length=1)), SILENCE, (6,)),
    Probe("a first fragment passes", lambda w: by_hand(w, fragment(0, True)), ARRIVED, (6,)),
    Probe("an atomic fragment passes", lambda w: by_hand(w, fragment(0, False)), ARRIVED, (6,)),
    Probe("an atomic fragment to a router", lambda w: ping(w, fragment(0, False)), REPLIED, (6,)),
    Probe("an atomic fragment that ends", lambda w: by_hand(w, fragment(0, False), hops=2), ENDED, (6,)),
    Probe("a fragment with reserved bits to a router", lambda w: ping(w, fragment(0, False, 3)), REPLIED, (6,)),
    Probe(
        "a fragment of a length that is no multiple of 8, to a router",
        lambda w: ping(w, fragment(0, True)),
        HEADER,
        (6,),
    ),
    Probe("a fragment beyond 65,535 bytes, to a router", lambda w: ping(w, fragment(8191, False)), HEADER, (6,)),
    Probe(
        "a fragment header without anything behind, to a router",
        lambda w: by_hand(w, fragment(0, True), dst=w.router("r2", "lo"), final=NONE),
        SILENCE,
        (6,),
    ),
    Probe(
        "a fragment header cut short, to a router",
        lambda w: by_hand(w, (FRAGMENT, bytes(3)), dst=w.router("r2", "lo"), final=NONE),
        HEADER,
        (6,),
    ),
    Probe(
        "many headers pass",
        lambda w: by_hand(w, options(HOPS, ALERT), options(DESTINATION), routing(2, 1, w.dst), fragment(0, True)),
        ARRIVED,
        (6,),
    ),
    Probe(
        "many headers to a router",
        lambda w: ping(w, options(HOPS, ALERT), options(DESTINATION), fragment(0, False), options(DESTINATION)),
        REPLIED,
        (6,),
    ),
    Probe("an unknown header that ends", lambda w: by_hand(w, final=253, data=bytes(20), hops=2), ENDED, (6,)),
    Probe(
        "an unknown header behind options, to a router",
        lambda w: by_hand(w, options(DESTINATION), dst=w.router("r2", "lo"), final=99, data=bytes(9)),
        NEXT,
        (6,),
    ),
    Probe("no next header, with bytes behind", lambda w: by_hand(w, final=NONE, data=bytes(9)), "b: protocol 59", (6,)),
    Probe(
        "an authentication header that ends", lambda w: by_hand(w, (AH, bytes([4]) + bytes(22)), hops=2), ENDED, (6,)
    ),
    Probe(
        "an error behind a header that ends: told of nobody",
        lambda w: by_hand(w, options(DESTINATION), final=ICMP6, data=bytes([1, 3]) + bytes(50), hops=2),
        SILENCE,
        (6,),
    ),
    Probe(
        "an error behind a fragment header that ends",
        lambda w: by_hand(w, fragment(0, True), final=ICMP6, data=bytes([1, 3]) + bytes(50), hops=2),
        SILENCE,
        (6,),
    ),
    Probe(
        "an error in a later fragment that ends",
        lambda w: by_hand(w, fragment(10, True), final=ICMP6, data=bytes([1, 3]) + bytes(54), hops=2),
        ENDED,
        (6,),
    ),
    Probe(
        "a chain that is cut short and ends",
        lambda w: by_hand(w, (DESTINATION, bytes([9, 1, 4, 0, 0, 0, 0])), final=ICMP6, data=b"\0", hops=2),
        SILENCE,
        (6,),
    ),
    Probe(
        "UDP to a closed port behind options",
        lambda w: by_hand(w, options(DESTINATION), dst=w.router("r2", "lo")),
        CLOSED,
        (6,),
    ),
    Probe(
        "UDP to a closed port in an atomic fragment",
        lambda w: by_hand(w, fragment(0, False), dst=w.router("r2", "lo")),
        CLOSED,
        (6,),
    ),
]


@pytest.mark.parametrize(("probe", "family"), cases(WRONG))
def test_an_ipv6_header_that_is_wrong_is_treated_as_by_linux(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)


@pytest.mark.parametrize(("probe", "family"), cases(HOP_BY_HOP))
def test_hop_by_hop_options_are_treated_as_by_linux(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)


@pytest.mark.parametrize(("probe", "family"), cases(OTHERS))
def test_extension_headers_are_treated_as_by_linux(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)
