"""Datagrams at random, from plain to absurd, which vnet's routers treat as Linux's do, whatever that is."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from support import examples

from .answers import checksum, differences
from .pair import Pair
from .probes import Way
from .schemes import Fixed, line

# So many blocks of so many datagrams, each with a seed of its own.
BLOCKS, EACH = 4, 75

FIXED = [
    Fixed("r1", "198.18.0.0/16", "10.255.0.1"),
    Fixed("r1", "2001:db8:18::/48", "fd00:ff::1"),
    Fixed("r2", "198.51.100.0/24", "prohibit"),
    Fixed("r1", "198.51.100.0/24", "10.255.0.1"),
    Fixed("r2", "2001:db8:51::/48", "prohibit"),
    Fixed("r1", "2001:db8:51::/48", "fd00:ff::1"),
]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    count = examples(BLOCKS * EACH)
    with Pair(line(3, mtus=[1500, 1280], ends=(2000, 2000), fixed=FIXED, addresses=min(count, 1500) + 2)) as pair:
        yield pair


class Maker:
    """Makes datagrams from a random stream."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chance(self, part: float) -> bool:
        return self.random.random() < part

    def bytes(self, size: int) -> bytes:
        return self.random.randbytes(size)

    def destination(self, way: Way) -> str:
        """Mostly the host at the other end; a router, nobody, everybody."""
        what = self.random.random()
        if what < 0.45:
            return way.dst
        if what < 0.8:
            return self.random.choice(sorted(way.scheme.router_addresses(way.family)))
        far = {
            4: ["203.0.113.5", "198.18.0.9", "198.51.100.7", "10.2.15.255", "239.1.2.3", "127.0.0.1", "240.0.0.9"],
            6: ["2001:db8::5", "2001:db8:18::9", "2001:db8:51::7", "fd00:2::", "ff02::1", "ff02::2", "::1"],
        }
        return self.random.choice(far[way.family])

    def ttl(self) -> int:
        return self.random.choice([0, 1, 2, 3, 4, 5, 64, 64, 64, 255])

    def size(self) -> int:
        return self.random.choice([0, 1, 3, 8, 20, 100, self.random.randrange(1500), 1400, 1900])

    def payload(self, way: Way, dst: str, protocol: int) -> bytes:
        """What a protocol bears: mostly right, at times of another length or with another checksum."""
        random = self.random
        data = self.bytes(self.size())
        if protocol == 17:
            made = struct.pack("!HHHH", 4000, random.choice([0, 9, 33434]), 8 + len(data), 0) + data
            at: int | None = 6
        elif protocol == 6:
            flags = random.choice([2, 16, 18, 1, 17, 4, 20, 0, 41, 255])
            words = 5 if self.chance(0.8) else random.randrange(16)
            made = struct.pack("!HHIIBBHHH", 4000, 80, 1, 2, words << 4, flags, 512, 0, 0) + data
            at = 16
        elif protocol in (1, 58):
            kinds = [0, 3, 5, 8, 8, 8, 11, 12, 42] if protocol == 1 else [1, 2, 3, 4, 100, 128, 128, 128, 129, 200]
            made = bytes([random.choice(kinds), random.choice([0, 0, 0, 1, 5]), 0, 0]) + self.bytes(4) + data
            at = 2
        else:
            return data
        if not self.chance(0.05):
            right = checksum(self._pseudo(way, dst, protocol, len(made)) + made)
            made = made[:at] + (right or 0xFFFF).to_bytes(2, "big") + made[at + 2 :]
        return made[: random.randrange(len(made) + 1)] if self.chance(0.05) else made

    def _pseudo(self, way: Way, dst: str, protocol: int, size: int) -> bytes:
        if protocol == 1:
            return b""
        ends = ip_address(way.src).packed + ip_address(dst).packed
        return ends + (
            struct.pack("!BBH", 0, protocol, size) if way.family == 4 else struct.pack("!II", size, protocol)
        )

    # IPv4

    def options(self, way: Way) -> bytes:
        """None mostly; otherwise some that are right, with a byte of them changed at times."""
        if self.chance(0.6):
            return b""
        random = self.random
        made = b""
        for _ in range(random.randrange(1, 4)):
            slots = random.randrange(0, 5)
            made += random.choice(
                [
                    b"\1",
                    b"\0",
                    bytes([148, 4, 0, 0]),
                    bytes([random.choice([30, 94, 222]), 4, 1, 2]),
                    bytes([7, 3 + 4 * slots, random.choice([4, 4, 8])]) + bytes(4 * slots),
                    bytes([68, 4 + 4 * slots, 5, random.randrange(16) << 4]) + bytes(4 * slots),
                    bytes([68, 4 + 8 * slots, random.choice([5, 5, 13]), 1]) + bytes(8 * slots),
                    bytes([68, 12, 5, 3]) + ip_address(way.router("r2", "lo")).packed + bytes(4),
                    bytes([131, 7, 4]) + ip_address(way.dst).packed,
                ]
            )
        made = made[:40]
        made += b"\0" * (-len(made) % 4)
        return self.changed(made) if self.chance(0.3) else made

    def changed(self, data: bytes) -> bytes:
        """With a byte of it changed."""
        if not data:
            return data
        at = self.random.randrange(len(data))
        return data[:at] + self.bytes(1) + data[at + 1 :]

    def four(self, way: Way) -> bytes:
        random = self.random
        dst, options = self.destination(way), self.options(way)
        protocol = random.choice([17, 17, 6, 1, 1, 99, 253])
        data = self.payload(way, dst, protocol)
        # What is put together again at a router is quoted by Linux with another checksum than it came with; with
        # options it differs from vnet's.
        data = data[: (1280 if options else 2000) - 20 - len(options)]
        flags = random.choice([0, 0, 0, 0, 0x4000, 0x4000, 0x2000, 0x8000, random.randrange(1, 200)])
        words = 5 + len(options) // 4
        total = 20 + len(options) + len(data)
        if self.chance(0.04):
            total += random.choice([-30, -1, 1, 30])
            total = max(total, 0)
        if self.chance(0.03):
            words = random.randrange(16)
        head = struct.pack(
            "!BBHHHBB", 4 << 4 | words, random.randrange(256), total, 0x1234, flags, self.ttl(), protocol
        )
        ends = ip_address(way.src).packed + ip_address(dst).packed
        said = (head + b"\0\0" + ends + options + data)[: 4 * words]
        right = checksum(said) if not self.chance(0.03) else 0x1111
        made = head + right.to_bytes(2, "big") + ends + options + data
        return self.end(made)

    def end(self, made: bytes) -> bytes:
        """Cut or with something behind it, at times."""
        if self.chance(0.03):
            return made[: self.random.randrange(1, len(made))]
        return (made + self.bytes(self.random.randrange(1, 20)))[:2000] if self.chance(0.03) else made

    # IPv6

    def extension(self, way: Way) -> tuple[int, bytes]:
        """An extension header without its first byte."""
        random = self.random
        kind = random.choice([60, 60, 43, 44, 0])
        if kind == 44:
            return 44, b"\0" + struct.pack("!HI", random.choice([0, 0, 1, 9, 80]), 7)
        if kind == 43:
            hops = ip_address(way.router("r3", "lo")).packed
            return 43, bytes([2, random.choice([0, 2, 99]), random.randrange(2)]) + bytes(4) + hops
        body = b""
        for _ in range(random.randrange(3)):
            body += random.choice([b"\0", b"\1\0", b"\5\2\0\0", bytes([random.choice([0x1E, 0x5E, 0x9E, 0xDE]), 1, 0])])
        room = -(len(body) + 2) % 8
        body += b"" if not room else b"\0" if room == 1 else bytes([1, room - 2]) + bytes(room - 2)
        made = bytes([(len(body) + 2) // 8 - 1]) + body
        return kind, self.changed(made) if self.chance(0.1) else made

    def six(self, way: Way) -> bytes:
        random = self.random
        dst = self.destination(way)
        headers = [self.extension(way) for _ in range(random.choice([0, 0, 0, 1, 1, 2, 3]))]
        if self.chance(0.2):
            headers.insert(0, (0, b"\0" + random.choice([b"\5\2\0\0\1\0", b"\1\4\0\0\0\0", b"\x9e\4\0\0\0\0"])))
        final = random.choice([17, 17, 6, 58, 58, 59, 99])
        numbers = [*(kind for kind, _ in headers), final]
        body = b"".join(bytes([then]) + rest for (_, rest), then in zip(headers, numbers[1:], strict=True))
        body += self.payload(way, dst, final)
        body = body[:1960]
        length = len(body)
        if self.chance(0.04):
            length = max(0, length + random.choice([-30, -1, 1, 30]))
        first = 6 << 28 | random.randrange(256) << 20 | random.choice([0, 0x12345])
        made = struct.pack("!IHBB", first, length, numbers[0], self.ttl())
        return self.end(made + ip_address(way.src).packed + ip_address(dst).packed + body)


_used = {4: itertools.count(), 6: itertools.count()}


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("family", [4, 6])
def test_whatever_is_sent_comes_out_as_with_linux(pair: Pair, family: int, block: int) -> None:
    maker = Maker(1000 * family + block)
    make: Callable[[Way], bytes] = maker.four if family == 4 else maker.six
    count = examples(EACH)
    wrong = []
    for number in range(count):
        way = Way(pair.scheme, family, "a", next(_used[family]) % (pair.scheme.addresses - 2))
        datagram = make(way)
        kernel = pair.kernel.exchange("a", [datagram], family=family)
        vnet = pair.vnet.exchange("a", [datagram], family=family)
        if found := differences(kernel, vnet, pair.scheme.speakers(family)):
            wrong.append(f"number {number}, sent {datagram.hex()}:\n{found}")
    shown = "\n\n".join(wrong[:5])
    assert not wrong, f"{len(wrong)} of {count}:\n{shown}"
