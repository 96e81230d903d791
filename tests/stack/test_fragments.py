"""Fragments: what hosts and stacks send and understand beyond the MTU; Linux is the other side, and the oracle."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import kernel_side
import pytest
from kernel_side import Kernel
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP, defragment, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
    defragment6,
    fragment6,
)
from scapy.packet import Packet, Raw

import vnet

pytestmark = pytest.mark.skipif(bool(kernel_side.missing()), reason=str(kernel_side.missing()))

PREFIXES = ["10.0.0.0/24", "fd00::/64"]
KERNEL = ["10.0.0.100", "fd00::100"]
FAMILIES = [pytest.param(0, id="IPv4"), pytest.param(1, id="IPv6")]


@pytest.fixture(params=[1280, 1500, 65_521])
def mtu(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def lan(mtu: int) -> Iterator[vnet.Lan]:
    with vnet.Lan("fragments", PREFIXES, mtu=mtu) as lan:
        yield lan


@pytest.fixture
def kernel(lan: vnet.Lan, mtu: int) -> Iterator[Kernel]:
    with Kernel(lan, KERNEL, mtu) as kernel:
        yield kernel


# Sizes and both directions


def test_the_kernel_pings_a_host_at_every_size(lan: vnet.Lan, kernel: Kernel, mtu: int) -> None:
    host = lan.host("host")
    for address, headers in zip(host.addresses, (28, 48), strict=True):
        for size in (mtu - headers, mtu - headers + 1, 20_000, 65_507):
            answer = kernel.run("ping", "-c", "3", "-i", "0.01", "-W", "5", "-s", str(size), address)
            assert "3 received" in answer, (address, size, answer)


def test_a_host_pings_the_kernel_at_every_size(lan: vnet.Lan, kernel: Kernel, mtu: int) -> None:
    host = lan.host("host")
    for address, headers in zip(KERNEL, (28, 48), strict=True):
        for size in (mtu - headers, mtu - headers + 1, 20_000, 65_507):
            assert host.ping(address, count=3, size=size, timeout=5).received == 3, (address, size)


@pytest.mark.parametrize("family", FAMILIES)
def test_udp_of_every_size_goes_to_and_fro_between_the_kernel_and_a_stack(
    lan: vnet.Lan, kernel: Kernel, family: int
) -> None:
    sizes = [1232, 1472, 1473, 9000, 65_507]
    echo = kernel.python(
        "import socket\n"
        f"sock = socket.socket(socket.AF_INET{'6' * family}, socket.SOCK_DGRAM)\n"
        f"sock.bind(({KERNEL[family]!r}, 7))\n"
        "print('bound')\n"
        f"for _ in range({len(sizes)}):\n"
        "    sock.sendto(*sock.recvfrom(1 << 16))\n"
    )
    assert echo.stdout
    assert echo.stdout.readline() == "bound\n"
    kinds = (socket.AF_INET, socket.AF_INET6)
    with lan.attach("ours").stack() as stack, stack.socket(kinds[family], socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        for size in sizes:
            data = kernel_side.stream(size, size)
            assert sock.sendto(data, (KERNEL[family], 7)) == size
            assert sock.recvfrom(1 << 16)[0] == data
    echo.communicate(timeout=20)


def test_a_service_echoes_datagrams_that_came_in_fragments(lan: vnet.Lan, kernel: Kernel) -> None:
    lan.host("echo", "10.0.0.80").serve(udp=7, echo=True)
    client = kernel.python(
        "import socket\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sock.settimeout(10)\n"
        "sock.connect(('10.0.0.80', 7))\n"
        "for size in (1473, 20_000, 65_507):\n"
        "    sock.send(bytes(size))\n"
        "    assert sock.recv(1 << 16) == bytes(size)\n"
        "print('done')\n"
    )
    output, errors = client.communicate(timeout=60)
    assert output == "done\n", errors


# Linux has memory for few of the tiniest fragments: its sockets' buffers are counted by buffers, not by bytes.
@pytest.mark.parametrize(("mtu", "size"), [(68, 500), (576, 65_507)])
def test_large_pings_cross_the_smallest_mtus_of_ipv4(mtu: int, size: int) -> None:
    with vnet.Lan("fragments", PREFIXES[0], mtu=mtu) as lan, Kernel(lan, KERNEL[:1], mtu) as kernel:
        host = lan.host("host")
        assert host.ping(KERNEL[0], size=size, timeout=10).received == 1
        assert "1 received" in kernel.run("ping", "-c", "1", "-W", "10", "-s", str(size), host.address)


# Fragments that somebody made: whatever they are, a host answers what Linux answers

ATTACKER = ["10.0.0.66", "fd00::66"]
TARGET = ["10.0.0.2", "fd00::2"]
BYTES = kernel_side.stream(1, 3992)
ECHO4 = bytes(ICMP(id=7, seq=1) / Raw(BYTES))
ECHO6 = bytes(IPv6(src=ATTACKER[1], dst=TARGET[1]) / ICMPv6EchoRequest(id=7, seq=1, data=BYTES))[40:]
UDP4 = bytes(IP(src=ATTACKER[0], dst=TARGET[0]) / UDP(sport=5, dport=9) / Raw(BYTES))[20:]
UDP6 = bytes(IPv6(src=ATTACKER[1], dst=TARGET[1]) / UDP(sport=5, dport=9) / Raw(BYTES))[40:]

# From byte, to byte, whether more come.
Part = tuple[int, int, int]
A: Part = (0, 1480, 1)
B: Part = (1480, 2960, 1)
C: Part = (2960, 4000, 0)


def four(*parts: Part, payload: bytes = ECHO4, proto: int = 1, number: int = 9, **fields: Any) -> list[bytes]:
    """Fragments of an IPv4 datagram."""
    ip = IP(src=ATTACKER[0], dst=TARGET[0], id=number, proto=proto, **fields)
    pieces = []
    for start, end, more in parts:
        piece = ip.copy()
        piece.flags, piece.frag = ip.flags.value | more, start // 8
        pieces.append(bytes(piece / Raw(payload[start:end])))
    return pieces


def six(
    *parts: Part, payload: bytes = ECHO6, nh: int = 58, number: int = 9, before: Packet | None = None, **fields: Any
) -> list[bytes]:
    """Fragments of an IPv6 datagram; `before` stands before the Fragment header."""
    pieces = []
    for start, end, more in parts:
        ip = IPv6(src=ATTACKER[1], dst=TARGET[1], **fields)
        head = ip / before if before else ip
        pieces.append(
            bytes(head / IPv6ExtHdrFragment(nh=nh, id=number, offset=start // 8, m=more) / Raw(payload[start:end]))
        )
    return pieces


Maker = Callable[..., list[bytes]]


def both(make: Maker, last: int) -> dict[str, list[bytes]]:
    """Cases of either family. The payload of the largest datagram ends at byte `last`."""
    large = (ECHO4 if make is four else ECHO6)[:8] + bytes(last - 8)
    steps = [(at, min(at + 1480, last), int(at + 1480 < last)) for at in range(0, last, 1480)]
    tiny = [(at, at + 8, int(at < 3992)) for at in range(0, 4000, 8)]
    return {
        "in order": make(A, B, C),
        "last first": make(C, B, A),
        "middle first": make(B, A, C),
        "the first last": make(B, C, A),
        "each twice": make(A, A, B, B, C),
        "twice whole": make(A, B, C, A, B, C),
        "a part of one again": make(A, (8, 16, 1), B, (1488, 1496, 1), C),
        "two that came in order again as one": make(A, B, (0, 2960, 1), C),
        "two that came out of order again as one": make(B, A, (0, 2960, 1), C),
        "a larger first again": make(A, (0, 1488, 1), B, C),
        "an overlap behind": make(A, (1472, 2960, 1), C),
        "an overlap before": make(B, (0, 1488, 1), C),
        "an overlap of the last": make(A, C, (1480, 2968, 1)),
        "an overlap, then all": make(A, (1472, 2960, 1), A, B, C),
        "an overlap, then all but what came": make(A, (1472, 2960, 1), B, C),
        "one that covers all": make(B, (0, 4000, 0)),
        "a hole": make(A, C),
        "no last": make(A, B),
        "no first": make(B, C),
        "an end before what came": make(A, B, (1480, 2000, 0), C),
        "an end in what came, then all": make(A, B, (1480, 2000, 0), A, B, C),
        "two ends": make(A, B, (2960, 3960, 0), C),
        "the longer end first": make(C, (2960, 3960, 0), A, B),
        "more behind the end": make(C, (4000, 4008, 1), A, B),
        "the end says there is more, too": make(A, B, (2960, 4000, 1), C),
        "nothing in the last": make(A, B, (2960, 4000, 1), (4000, 4000, 0)),
        "nothing in the middle": make(A, (1480, 1480, 1), B, C),
        "one that begins and ends": make((0, 4000, 0)),
        "eight bytes each": make(*tiny),
        "eight bytes each, backwards": make(*tiny[::-1]),
        "every other, then the rest": make(*tiny[::2], *tiny[1::2]),
        "the largest": make(*steps, payload=with_checksum(make, large)),
        "the largest, backwards": make(*steps[::-1], payload=with_checksum(make, large)),
        "two in turns": [piece for pair in zip(make(A, B, C), make(A, B, C, number=10), strict=True) for piece in pair],
        "one of each of two": make(A, B) + make(C, number=10),
    }


def with_checksum(make: Maker, message: bytes) -> bytes:
    """An ICMP message with the checksum that it needs."""
    if make is four:
        return bytes(ICMP(id=7, seq=1) / Raw(message[8:]))
    return bytes(IPv6(src=ATTACKER[1], dst=TARGET[1]) / ICMPv6EchoRequest(id=7, seq=1, data=message[8:]))[40:]


def congested(make: Maker, marks: tuple[int, int, int]) -> list[bytes]:
    """Fragments whose bits for congestion differ."""
    field = "tos" if make is four else "tc"
    return [make(part, **{field: mark})[0] for part, mark in zip((A, B, C), marks, strict=True)]


def wrong_sum(datagram: bytes) -> bytes:
    return datagram[:10] + bytes([datagram[10] ^ 1]) + datagram[11:]


def cases4() -> dict[str, list[bytes]]:
    options = {"options": [IPOption_NOP()] * 4}
    ip = IP(src=ATTACKER[0], dst=TARGET[0], id=3)
    return both(four, 65_515) | {
        "more that does not end on a unit": four((0, 1483, 1), B, C),
        "behind the largest end": four(A, (65_520, 65_536, 0), payload=bytes(65_536)),
        "a header that was changed": [*four(A), wrong_sum(four(B)[0]), *four(C)],
        "another protocol": four(A, B) + four(C, proto=17),
        "another source": [*four(A, B), *(bytes(IP(piece, src="10.0.0.67")) for piece in four(C))],
        "not to be cut": four(A, B, C, flags="DF"),
        "options in the first": four(A, **options) + four(B, C),
        "options in the last": four(A, B) + four(C, **options),
        "a little time to live": four(A, B, C, ttl=1),
        "udp for nobody": four(A, B, C, payload=UDP4, proto=17),
        "udp for nobody, not to be cut": four(B, A, C, payload=UDP4, proto=17, flags="DF", tos=0x28, ttl=9),
        "udp whose header is cut": four((0, 8, 1), (8, 4000, 0), payload=UDP4, proto=17),
        "a protocol that nobody speaks": four(A, B, C, proto=253),
        "cut by scapy": [bytes(each) for each in fragment(ip / ICMP(id=7) / Raw(BYTES), fragsize=504)],
        **{f"congestion {marks}": congested(four, marks) for marks in MARKS},
    }


MARKS = [(1, 1, 1), (2, 3, 2), (1, 2, 3), (3, 3, 3), (0, 0, 3), (0, 2, 2), (1, 2, 1)]


def cases6() -> dict[str, list[bytes]]:
    nested = bytes(IPv6ExtHdrFragment(nh=58, id=1)) + ECHO6
    ip = IPv6(src=ATTACKER[1], dst=TARGET[1])
    hops = IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
    reserved = bytearray(six(B)[0])
    reserved[41], reserved[43] = 0xFF, reserved[43] | 6
    jumbo = bytearray(six(A)[0])
    jumbo[4:6] = b"\0\0"
    return both(six, 65_535) | {
        "more that does not end on a unit": six((0, 1483, 1), B, C),
        "behind the largest end": six(A, (65_528, 65_540, 0), payload=bytes(65_540)),
        "a fragment of its own": six((0, 4000, 0)),
        "fragments of their own": six((0, 4000, 0), number=9) + six((0, 4000, 0), number=9),
        "one of its own among others": six(A) + six((0, 4000, 0)) + six(B, C),
        "a header that is cut": six((0, 0, 1), (0, 4000, 0)),
        "icmp whose header is cut": six((0, 0, 1), B),
        "udp for nobody": six(A, B, C, payload=UDP6, nh=17),
        "udp for nobody, the first last": six(C, B, A, payload=UDP6, nh=17, tc=0x28, fl=0x12345, hlim=9),
        "tcp whose header is cut": six((0, 16, 1), (16, 4000, 0), nh=6),
        "other names of what comes later": six(A) + six(B, nh=17) + six(C, nh=253),
        "a protocol that nobody speaks": six(A, B, C, nh=253),
        "a header after which nothing comes": six(A, B, C, nh=59),
        "behind hop-by-hop options": six(A, B, C, before=hops),
        "hop-by-hop options before the first": six(A, before=hops) + six(B, C),
        "a fragment in fragments": six((0, 1480, 1), (1480, 2960, 1), (2960, 4008, 0), payload=nested, nh=44),
        "a fragment in one": [bytes(ip / IPv6ExtHdrFragment(nh=44, id=2) / Raw(nested))],
        "what is behind the end of one": [six((0, 4000, 0))[0] + b"behind"],
        "bits that are reserved": [*six(A), bytes(reserved), *six(C)],
        "no length": [bytes(jumbo), *six(B, C)],
        "cut off": [six(A)[0][:44], *six(B, C)],
        "cut by scapy": [bytes(each) for each in fragment6(ip / IPv6ExtHdrFragment(nh=58) / Raw(ECHO6), 600)],
        **{f"congestion {marks}": congested(six, marks) for marks in MARKS},
    }


def answers(nic: vnet.Nic, family: int, datagrams: list[bytes], number: int) -> list[tuple[int, int, bytes]]:
    """What comes back for these: protocol, length and all behind the IP header, made whole."""
    if family == 0:
        fence: Packet = IP(src=ATTACKER[0], dst=TARGET[0]) / ICMP(id=0xFFFF, seq=number)
    else:
        fence = IPv6(src=ATTACKER[1], dst=TARGET[1]) / ICMPv6EchoRequest(id=0xFFFF, seq=number)
    nic.send_many([*datagrams, bytes(fence)], block=True, timeout=10)
    end = bytes(fence.payload)[4:8]
    came: list[Packet] = []
    while True:
        answer = nic.recv(timeout=30)
        if answer[(20, 40)[family] :][4:8] == end:
            break
        packet = IP(answer) if family == 0 else IPv6(answer)
        # Not what Linux says to everybody, such as that it looks for routers.
        if packet.src == TARGET[family]:
            came.append(packet)
    if family == 0:
        whole = [IP(bytes(each)) for kind in defragment(came) if kind for each in kind]
        return sorted((each.proto, len(each), bytes(each)[each.ihl * 4 :]) for each in whole)
    fragments = [each for each in came if each.nh == 44]
    rest = [each for each in came if each.nh != 44]
    for number in sorted({each[IPv6ExtHdrFragment].id for each in fragments}):
        rest.append(IPv6(bytes(defragment6([each for each in fragments if each[IPv6ExtHdrFragment].id == number]))))
    return sorted((each.nh, len(each), bytes(each)[40:]) for each in rest)


@contextlib.contextmanager
def linux() -> Iterator[vnet.Nic]:
    """A NIC beside Linux, which answers as often as it is asked."""
    with vnet.Lan("linux", PREFIXES) as lan, Kernel(lan, TARGET, 65_535) as kernel:
        for name in ("ipv4.icmp_ratelimit", "ipv6.icmp.ratelimit"):
            assert kernel.run("sysctl", "-w", f"net.{name}=0")
        yield lan.attach("attacker", ATTACKER)


@contextlib.contextmanager
def built_in() -> Iterator[vnet.Nic]:
    """A NIC beside a built-in host."""
    with vnet.Lan(None, PREFIXES) as lan:
        lan.host("host", TARGET)
        yield lan.attach("attacker", ATTACKER)


@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_of_every_kind_get_the_answers_that_linux_gives(family: int) -> None:
    cases = cases6() if family else cases4()

    def run(world: Callable[[], contextlib.AbstractContextManager[vnet.Nic]]) -> dict[str, list[tuple[int, int, str]]]:
        with world() as nic:
            return {
                name: [
                    (protocol, length, data[:16].hex() + " " + hashlib.sha256(data).hexdigest()[:16])
                    for protocol, length, data in answers(nic, family, renumbered(datagrams, family, number), number)
                ]
                for number, (name, datagrams) in enumerate(cases.items())
            }

    expected = run(linux)
    # Enough is answered, and enough is not, for the comparison to mean something.
    assert sum(map(bool, expected.values())) > 20
    assert sum(not answer for answer in expected.values()) > 10
    assert run(built_in) == expected


def renumbered(datagrams: list[bytes], family: int, number: int) -> list[bytes]:
    """The same with identifications of their own: what one case leaves incomplete is not to become another's."""
    result = []
    for datagram in datagrams:
        piece = bytearray(datagram)
        if family == 0:
            (before,) = struct.unpack_from("!H", piece, 4)
            struct.pack_into("!H", piece, 4, before + number * 64)
            # RFC 1624, for a checksum that may be wrong on purpose.
            total = (~struct.unpack_from("!H", piece, 10)[0] & 0xFFFF) + (~before & 0xFFFF) + before + number * 64
            while total > 0xFFFF:
                total = (total & 0xFFFF) + (total >> 16)
            struct.pack_into("!H", piece, 10, ~total & 0xFFFF)
        else:
            at = 40 if piece[6] == 44 else 48
            if len(piece) >= at + 8:
                struct.pack_into("!I", piece, at + 4, struct.unpack_from("!I", piece, at + 4)[0] + number * 64)
        result.append(bytes(piece))
    return result
