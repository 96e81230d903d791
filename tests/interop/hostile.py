"""Sends frames that no guest should: hostile.py INTERFACE WHAT [ARGUMENTS].  Python's standard library alone."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

SOL_PACKET, PACKET_VNET_HDR = 263, 15
ALL = b"\xff" * 6
dice = random.Random(4)


def ethernet(source: bytes, kind: int, payload: bytes, destination: bytes = ALL) -> bytes:
    return destination + source + kind.to_bytes(2, "big") + payload


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    header += ip_address(source).packed + ip_address(destination).packed
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def ipv6(source: str, destination: str, protocol: int, payload: bytes, hops: int = 255) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + addresses + payload


def icmpv6(source: str, destination: str, message: bytes) -> bytes:
    pseudo = ip_address(source).packed + ip_address(destination).packed + struct.pack("!IHBB", len(message), 0, 0, 58)
    total = checksum(pseudo + message)
    return ipv6(source, destination, 58, message[:2] + total.to_bytes(2, "big") + message[4:])


def arp(operation: int, sender_mac: bytes, sender: str, target: str, target_mac: bytes = bytes(6)) -> bytes:
    fixed = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return fixed + sender_mac + ip_address(sender).packed + target_mac + ip_address(target).packed


def solicitation(mac: bytes, source: str, target: str) -> bytes:
    message = b"\x87\0\0\0" + bytes(4) + ip_address(target).packed + b"\x01\x01" + mac
    return icmpv6(source, "ff02::1:ff00:" + target.rsplit(":", 1)[1], message)


def advertisement(mac: bytes, target: str) -> bytes:
    message = b"\x88\0\0\0\x20\0\0\0" + ip_address(target).packed + b"\x02\x01" + mac
    return icmpv6(target, "ff02::1", message)


def made_up() -> bytes:
    return b"\x02" + dice.randbytes(5)


def cut(mac: bytes) -> Iterator[bytes]:
    """Good frames that end too early, each at every byte."""
    whole = [
        (0x0806, arp(1, mac, "10.0.0.66", "10.0.0.1")),
        (0x0800, ipv4("10.0.0.66", "10.0.0.1", 17, struct.pack("!HHHH", 9, 9, 28, 0) + bytes(20))),
        (0x86DD, solicitation(mac, "fd00::66", "fd00::1")),
        (0x86DD, advertisement(mac, "fd00::66")),
    ]
    for kind, packet in whole:
        for length in range(len(packet)):
            yield ethernet(mac, kind, packet[:length])


def lies(mac: bytes) -> Iterator[bytes]:
    """Lengths, versions and header lengths that are not so."""
    good = ipv4("10.0.0.66", "10.0.0.1", 17, struct.pack("!HHHH", 9, 9, 108, 0) + bytes(100))
    for first in range(256):
        yield ethernet(mac, 0x0800, bytes([first]) + good[1:])
    for length in (0, 1, 19, 20, 21, 127, 129, 1500, 0xFFFF):
        yield ethernet(mac, 0x0800, good[:2] + length.to_bytes(2, "big") + good[4:])
    good = ipv6("fd00::66", "fd00::1", 17, struct.pack("!HHHH", 9, 9, 108, 1) + bytes(100))
    for length in (0, 1, 7, 107, 109, 1500, 0xFFFF):
        yield ethernet(mac, 0x86DD, good[:4] + length.to_bytes(2, "big") + good[6:])
    for following in range(256):
        yield ethernet(mac, 0x86DD, good[:6] + bytes([following]) + good[7:40] + dice.randbytes(108))
    question = solicitation(mac, "fd00::66", "fd00::1")
    for length in range(256):  # of the option, in units of eight bytes; 0 never ends
        yield ethernet(mac, 0x86DD, question[:65] + bytes([length]) + question[66:])
    request = arp(1, mac, "10.0.0.66", "10.0.0.1")
    for at in range(8):
        for value in (0, 1, 255):
            yield ethernet(mac, 0x0806, request[:at] + bytes([value]) + request[at + 1 :])


def foreign(mac: bytes) -> Iterator[bytes]:
    """What is no IP: every kind of frame, tags, spanning tree, LLDP."""
    for kind in itertools.chain(range(0, 0x10000, 97), (0x8100, 0x88A8, 0x88CC, 0x8863, 0x8847)):
        if kind not in (0x0800, 0x0806, 0x86DD):
            yield ethernet(mac, kind, dice.randbytes(64))
    yield ethernet(mac, 0x8100, b"\0\7\x08\0" + ipv4("10.0.0.66", "10.0.0.1", 17, bytes(20)))
    yield ethernet(mac, 38, b"\x42\x42\3" + bytes(35), bytes.fromhex("0180c2000000"))


def anything(mac: bytes) -> Iterator[bytes]:
    for _ in range(20_000):
        kind = dice.choice([0x0800, 0x0806, 0x86DD, dice.getrandbits(16)])
        start = dice.choice([b"", b"\x45", b"\x60", b"\0\1\x08\0\6\4\0\1"])
        yield ethernet(
            dice.choice([mac, made_up()]),
            kind,
            start + dice.randbytes(dice.randrange(200)),
            dice.choice([ALL, made_up()]),
        )


def arp_flood(mac: bytes) -> Iterator[bytes]:
    """Each address of the network and many beside it claimed, each with a MAC of its own, again and again."""
    for _ in range(40):
        for host in range(67, 200):
            mac = made_up()
            yield ethernet(
                mac, 0x0806, arp(dice.choice([1, 2]), mac, f"10.0.0.{host}", f"10.0.0.{dice.randrange(67, 250)}")
            )
            yield ethernet(mac, 0x0806, arp(1, mac, str(ip_address(dice.getrandbits(32))), f"10.0.0.{host}"))


def ndp_flood(mac: bytes) -> Iterator[bytes]:
    for number in range(10_000):
        mac, address = made_up(), f"fd00::{0x1000 + number:x}"
        yield ethernet(
            mac, 0x86DD, solicitation(mac, address, f"fd00::{0x6000 + number % 999:x}"), b"\x33\x33\xff\0\0\1"
        )
        yield ethernet(mac, 0x86DD, advertisement(mac, address), b"\x33\x33\0\0\0\1")


def questions(mac: bytes) -> Iterator[bytes]:
    """Who has an address that nobody has? Each of them goes to all other guests, if it is let."""
    for number in range(20_000):
        yield ethernet(mac, 0x0806, arp(1, mac, "10.0.0.66", f"10.0.0.{100 + number % 99}"))


def moves(mac: bytes) -> Iterator[bytes]:
    """Another MAC with each frame, and the right one in the end."""
    for _ in range(5_000):
        other = made_up()
        yield ethernet(other, 0x0806, arp(1, other, "10.0.0.66", "10.0.0.66"))


def forgeries(mac: bytes, *victims: str) -> Iterator[bytes]:
    """Claims to addresses that others have: requests, replies, announcements, advertisements, and datagrams."""
    for _ in range(50):
        for victim in victims:
            if ":" in victim:
                yield ethernet(mac, 0x86DD, advertisement(mac, victim), b"\x33\x33\0\0\0\1")
                yield ethernet(mac, 0x86DD, solicitation(mac, victim, "fd00::66"), b"\x33\x33\xff\0\0\x66")
            else:
                yield ethernet(mac, 0x0806, arp(1, mac, victim, victim))
                yield ethernet(mac, 0x0806, arp(2, mac, victim, "10.0.0.1", ALL))
                yield ethernet(mac, 0x0806, arp(1, mac, victim, "10.0.0.254"))


def offloads(mac: bytes, *victim: str) -> Iterator[bytes]:
    """A virtio-net header before each frame: its fields and the packet say different things."""
    destination, four, six = bytes.fromhex(victim[0].replace(":", "")), victim[1], victim[2]
    segment = struct.pack("!HHIIBBHHH", 9, 9, 1, 0, 0x50, 0x10, 0xFFFF, 0, 0)
    sizes = (0, 1, 20, 60, 1400, 9000, 60_000)
    packets = []
    for size in sizes:
        packets.append(ethernet(mac, 0x0800, ipv4("10.0.0.66", four, 6, segment + bytes(size)), destination))
        packets.append(
            ethernet(
                mac,
                0x0800,
                ipv4("10.0.0.66", four, 17, struct.pack("!HHHH", 9, 9, 8 + size, 0) + bytes(size)),
                destination,
            )
        )
        packets.append(ethernet(mac, 0x86DD, ipv6("fd00::66", six, 6, segment + bytes(size)), destination))
    packets.append(ethernet(mac, 0x0806, arp(1, mac, "10.0.0.66", four)))
    edges = [0, 1, 13, 14, 34, 54, 66, 100, 1448, 0x7FFF, 0xFFFF]
    for _ in range(30_000):
        flags, kind = dice.choice([0, 1, 2, 3, 255]), dice.choice([0, 1, 3, 4, 5, 0x81, 0x84, 255])
        fields = [dice.choice(edges) if dice.random() < 0.5 else dice.randrange(1600) for _ in range(4)]
        yield struct.pack("=BBHHHH", flags, kind, *fields) + dice.choice(packets)


def main(interface: str, what: str, *arguments: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((interface, 0))
        mac = wire.getsockname()[4]
        makers = {
            each.__name__: each
            for each in (cut, lies, foreign, arp_flood, ndp_flood, questions, moves, forgeries, offloads)
        }
        makers["random"] = anything
        if what == "offloads":
            wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        frames: Iterable[bytes] = makers[what](mac, *arguments)
        sent = 0
        for frame in frames:
            # The kernel refuses some, and has no room for others now and then.
            with contextlib.suppress(OSError):
                wire.send(frame)
                sent += 1
        assert sent > 50, sent
        if what == "moves":
            wire.send(ethernet(mac, 0x0806, arp(1, mac, "10.0.0.66", "10.0.0.66")))


if __name__ == "__main__":
    main(*sys.argv[1:])
