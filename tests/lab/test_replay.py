"""Replay: what is read out of captures, and that tshark finds the rewritten datagrams in order."""

from __future__ import annotations

import gzip
import ipaddress
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import ReadLab

from vnet.errors import CaptureError, LabError
from vnet.lab.packets import scapy_names
from vnet.lab.readdress import addresses_of, readdress
from vnet.lab.recording import read_recording
from vnet.lab.steps.replay import ReplayStep

scapy_names()
import scapy.all as scapy  # noqa: E402 - imported quietly above
from scapy.layers.l2 import CookedLinux, CookedLinuxV2  # noqa: E402

PCAPS = Path("/work/shared/data/pcaps")
CHECKS = ("ip", "tcp", "udp")
# Values of tshark's checksum.status fields.
BAD, GOOD = "0", "1"


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


MAP = {
    packed(old): packed(new)
    for old, new in {
        "192.168.1.7": "10.0.0.1",
        "192.168.1.1": "172.31.255.254",
        "2001:db8::7": "fd00::1",
        "2001:db8::1": "fd00:1234:5678:9abc:def0::2",
    }.items()
}


def datagram(packet: scapy.Packet) -> bytes:
    return bytes(packet)


FOUR = scapy.IP(src="192.168.1.7", dst="192.168.1.1", ttl=9)
SIX = scapy.IPv6(src="2001:db8::7", dst="2001:db8::1")
ODD = scapy.Raw(b"an odd number of bytes!")
QUOTED = scapy.IP(src="192.168.1.1", dst="192.168.1.7") / scapy.UDP(sport=53, dport=40000) / ODD
QUOTED_SIX = scapy.IPv6(src="2001:db8::1", dst="2001:db8::7") / scapy.UDP(sport=53, dport=40000) / ODD

RIGHT = {
    "tcp": FOUR / scapy.TCP(sport=1, dport=2, flags="PA") / ODD,
    "udp": FOUR / scapy.UDP(sport=1, dport=2) / ODD,
    "udp without payload": FOUR / scapy.UDP(sport=1, dport=2),
    "icmp": FOUR / scapy.ICMP() / ODD,
    "options": scapy.IP(src="192.168.1.7", dst="192.168.1.1", options=[scapy.IPOption_Timestamp()])
    / scapy.UDP(sport=1, dport=2)
    / ODD,
    "tcp over ipv6": SIX / scapy.TCP(sport=1, dport=2) / ODD,
    "udp over ipv6": SIX / scapy.UDP(sport=1, dport=2) / ODD,
    "icmpv6": SIX / scapy.ICMPv6EchoRequest(data=b"odd"),
    "extension headers": SIX
    / scapy.IPv6ExtHdrHopByHop()
    / scapy.IPv6ExtHdrDestOpt()
    / scapy.UDP(sport=1, dport=2)
    / ODD,
    "icmp error": FOUR / scapy.ICMP(type=3, code=3) / QUOTED,
    "icmpv6 error": SIX / scapy.ICMPv6DestUnreach(code=4) / QUOTED_SIX,
}


@pytest.fixture(scope="module")
def tshark() -> str:
    found = shutil.which("tshark")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("tshark is missing: apt-get install tshark")
        pytest.skip("tshark is missing: apt-get install tshark")
    return found


def ask(tshark: str, path: Path, *fields: str) -> list[list[str]]:
    """The fields of each packet, checksums verified, in the order of the file."""
    settings = [word for check in CHECKS for word in ("-o", f"{check}.check_checksum:TRUE")]
    wanted = [word for field in fields for word in ("-e", field)]
    answer = subprocess.run(
        [tshark, "-r", str(path), *settings, "-T", "fields", *wanted], check=True, capture_output=True, text=True
    )
    return [line.split("\t") for line in answer.stdout.splitlines()]


STATUS = [f"{protocol}.checksum.status" for protocol in ("ip", "tcp", "udp", "icmp", "icmpv6")]


def statuses(tshark: str, path: Path, datagrams: Sequence[bytes]) -> list[set[str]]:
    """What tshark says of the checksums of each datagram."""
    scapy.wrpcap(str(path), [scapy.Raw(data) for data in datagrams], linktype=101)
    return [{value for field in line for value in field.split(",") if value} for line in ask(tshark, path, *STATUS)]


@pytest.mark.parametrize("packet", RIGHT.values(), ids=RIGHT.keys())
def test_right_checksums_are_right_after_new_addresses(tshark: str, tmp_path: Path, packet: scapy.Packet) -> None:
    old = datagram(packet)
    new = readdress(old, MAP)
    assert addresses_of(new) == tuple(MAP[address] for address in addresses_of(old) or ())
    (status,) = statuses(tshark, tmp_path / "x.pcap", [new])
    assert status == {GOOD}


@pytest.mark.parametrize("packet", RIGHT.values(), ids=RIGHT.keys())
def test_the_way_back_gives_the_recorded_bytes(packet: scapy.Packet) -> None:
    old = datagram(packet)
    assert readdress(readdress(old, MAP), {new: old for old, new in MAP.items()}) == old


@pytest.mark.parametrize("packet", RIGHT.values(), ids=RIGHT.keys())
def test_a_datagram_without_a_mapped_address_is_left_alone(packet: scapy.Packet) -> None:
    assert readdress(datagram(packet), {packed("192.0.2.1"): packed("10.0.0.1")}) == datagram(packet)


def test_the_quoted_datagram_of_an_icmp_error_gets_the_new_addresses(tshark: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    new = [readdress(datagram(RIGHT[name]), MAP) for name in ("icmp error", "icmpv6 error")]
    statuses(tshark, path, new)
    first, second = ask(tshark, path, "ip.src", "ip.dst", "ipv6.src", "ipv6.dst")
    assert first[:2] == ["10.0.0.1,172.31.255.254", "172.31.255.254,10.0.0.1"]
    assert second[2:] == ["fd00::1,fd00:1234:5678:9abc:def0::2", "fd00:1234:5678:9abc:def0::2,fd00::1"]


@pytest.mark.parametrize("protocol", ["tcp", "udp", "tcp over ipv6", "udp over ipv6", "icmp", "icmpv6"])
def test_a_wrong_checksum_stays_wrong(tshark: str, tmp_path: Path, protocol: str) -> None:
    packet = RIGHT[protocol].copy()
    layer = packet.lastlayer() if protocol == "icmpv6" else packet.payload
    field = "cksum" if protocol == "icmpv6" else "chksum"
    right = getattr(type(packet)(bytes(packet)).getlayer(type(layer)), field)
    setattr(layer, field, (right + 0x0101) % 0xFFFF)
    (status,) = statuses(tshark, tmp_path / "x.pcap", [readdress(datagram(packet), MAP)])
    assert BAD in status


def pseudo(packet: scapy.Packet, length: int) -> int:
    """What a kernel leaves in the checksum field for the network card: the folded sum of the pseudo-header."""
    data = datagram(packet)
    source, destination = addresses_of(data) or (b"", b"")
    words = source + destination + struct.pack("!II", length, 6 if scapy.TCP in packet else 17)
    number = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while number >> 16:
        number = (number & 0xFFFF) + (number >> 16)
    return number


@pytest.mark.parametrize("protocol", ["tcp", "udp", "tcp over ipv6", "udp over ipv6"])
def test_a_checksum_left_to_the_card_is_put_right(tshark: str, tmp_path: Path, protocol: str) -> None:
    packet = RIGHT[protocol].copy()
    packet.payload.chksum = pseudo(packet, len(packet.payload))
    assert BAD in statuses(tshark, tmp_path / "x.pcap", [datagram(packet)])[0]
    assert statuses(tshark, tmp_path / "y.pcap", [readdress(datagram(packet), MAP)]) == [{GOOD}]


def test_zeros_left_to_the_card_are_put_right(tshark: str, tmp_path: Path) -> None:
    packet = scapy.IP(src="192.168.1.7", dst="192.168.1.1", chksum=0) / scapy.TCP(chksum=0) / ODD
    assert statuses(tshark, tmp_path / "x.pcap", [readdress(datagram(packet), MAP)]) == [{GOOD}]


@pytest.mark.parametrize("base", [FOUR, SIX])
def test_udp_without_a_checksum_stays_without(base: scapy.Packet) -> None:
    new = readdress(datagram(base / scapy.UDP(chksum=0) / ODD), MAP)
    assert type(base)(new)[scapy.UDP].chksum == 0


def test_fragments_reassemble_with_a_right_checksum(tshark: str, tmp_path: Path) -> None:
    whole = FOUR / scapy.UDP(sport=1, dport=2) / scapy.Raw(bytes(range(256)) * 10)
    whole.id = 77
    pieces = [readdress(bytes(piece), MAP) for piece in scapy.fragment(scapy.IP(bytes(whole)), fragsize=800)]
    assert len(pieces) > 3
    found = statuses(tshark, tmp_path / "x.pcap", pieces)
    assert found[-1] == {GOOD}
    assert ask(tshark, tmp_path / "x.pcap", "udp.checksum.status")[-1] == [GOOD]


@pytest.mark.parametrize("packet", RIGHT.values(), ids=RIGHT.keys())
def test_a_datagram_that_was_cut_short_gets_what_the_whole_would(packet: scapy.Packet) -> None:
    # An ICMP checksum covers the quoted addresses; of a cut datagram the change alone says how it moves, too.
    old = datagram(packet)
    cut = len(old) - 5
    assert readdress(old[:cut], MAP) == readdress(old, MAP)[:cut]


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x45", b"\x46", b"\x60"]))
def test_any_bytes_come_back_at_their_length(data: bytes, start: bytes) -> None:
    data = start + data
    source, destination = addresses_of(data) or (b"", b"")
    assert len(readdress(data, {source: bytes(len(source)), destination: bytes(len(destination))})) == len(data)


@pytest.mark.parametrize("name", ["dcerpc_privacy_ntlm.pcapng.gz", "http_chunk.pcap.gz", "ikev2_nat_t.pcapng"])
def test_real_captures_are_read_whole_and_come_out_right(tshark: str, tmp_path: Path, name: str) -> None:
    if not (PCAPS / name).exists():
        pytest.skip(f"{PCAPS / name} is missing")
    recording = read_recording(PCAPS / name)
    lines = ask(tshark, PCAPS / name, "ip.src", "ip.dst", "frame.time_relative", "ip.len")
    assert not recording.warnings
    assert len(recording.datagrams) == len([line for line in lines if line[0]])
    for record, (source, destination, time, length) in zip(recording.datagrams, lines, strict=True):
        assert addresses_of(record.datagram) == (packed(source), packed(destination))
        assert record.time == pytest.approx(float(time), abs=1e-6)
        assert len(record.datagram) == int(length)
    everyone = sorted({address for record in recording.datagrams for address in addresses_of(record.datagram) or ()})
    mapping = {old: bytes([10, 9, 8, number]) for number, old in enumerate(everyone, 1)}
    new = [readdress(record.datagram, mapping) for record in recording.datagrams]
    for status in statuses(tshark, tmp_path / "x.pcap", new):
        assert BAD not in status
        assert GOOD in status


INSIDE = bytes(FOUR / scapy.UDP(sport=1, dport=2) / b"hi")
INSIDE_SIX = bytes(SIX / scapy.UDP(sport=1, dport=2) / b"hi")
ETHERNET = b"\x02\0\0\0\0\2\x02\0\0\0\0\1"

LINKS = {
    "ethernet": (1, ETHERNET + b"\x08\0", ETHERNET + b"\x86\xdd", bytes(18)),
    "vlan": (1, ETHERNET + b"\x81\0\0\x14\x08\0", ETHERNET + b"\x81\0\0\x14\x86\xdd", b""),
    "two vlans": (1, ETHERNET + b"\x88\xa8\0\1\x81\0\0\x14\x08\0", ETHERNET + b"\x81\0\0\1\x81\0\0\x14\x86\xdd", b""),
    "cooked": (113, bytes(CookedLinux(proto=0x0800)), bytes(CookedLinux(proto=0x86DD)), b""),
    "cooked 2": (276, bytes(CookedLinuxV2(proto=0x0800)), bytes(CookedLinuxV2(proto=0x86DD)), b""),
    "raw": (101, b"", b"", b""),
    "loopback of linux": (0, b"\2\0\0\0", b"\x0a\0\0\0", b""),
    "loopback of macos": (0, b"\2\0\0\0", b"\x1e\0\0\0", b""),
    "loopback of openbsd": (108, b"\0\0\0\2", b"\0\0\0\x18", b""),
}


@pytest.mark.parametrize("form", ["pcap", "pcap.gz", "pcapng"])
@pytest.mark.parametrize(("link", "four", "six", "padding"), LINKS.values(), ids=LINKS.keys())
def test_datagrams_come_out_of_every_link_and_form(
    tmp_path: Path, form: str, link: int, four: bytes, six: bytes, padding: bytes
) -> None:
    path = tmp_path / f"x.{form}"
    frames = [four + INSIDE + padding, six + INSIDE_SIX + padding]
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, link)
    records = b"".join(struct.pack("<IIII", 5, n * 1000, len(f), len(f)) + f for n, f in enumerate(frames))
    if form == "pcap":
        path.write_bytes(header + records)
    elif form == "pcap.gz":
        path.write_bytes(gzip.compress(header + records))
    else:
        path.write_bytes(pcapng(link, frames))
    recording = read_recording(path)
    assert [record.datagram for record in recording.datagrams] == [INSIDE, INSIDE_SIX]
    assert [record.time for record in recording.datagrams] == pytest.approx([0, 1e-6], abs=3e-7)


def pcapng(link: int, frames: list[bytes]) -> bytes:
    """A big-endian section with one interface; times in microseconds."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(">II", kind, len(body) + 12) + body + struct.pack(">I", len(body) + 12)

    head = block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, struct.pack(">HHI", link, 0, 0))
    packets = [block(6, struct.pack(">IIIII", 0, 0, 7 + n, len(f), len(f)) + f) for n, f in enumerate(frames)]
    return head + interface + b"".join(packets)


def test_what_is_not_ip_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    scapy.wrpcap(
        str(path), [scapy.Ether() / scapy.ARP(), scapy.Ether() / FOUR / scapy.UDP(), scapy.Dot3() / scapy.LLC()]
    )
    recording = read_recording(path)
    assert (len(recording.datagrams), recording.skipped) == (1, 2)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no pcap or pcapng file"),
        (b"hello, world, this is text", "is no pcap or pcapng file"),
        (gzip.compress(b"hello, world, this is text"), "is no pcap or pcapng file"),
        (b"\x1f\x8b\0\0\0", "is no pcap or pcapng file"),
        (
            struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 147) + struct.pack("<IIII", 0, 0, 4, 4) + b"abcd",
            "link",
        ),
    ],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=says):
        read_recording(path)


def test_a_capture_that_ends_in_the_middle_of_a_record_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    whole = pcapng(101, [INSIDE, INSIDE, INSIDE])
    path.write_bytes(whole[:-20])
    recording = read_recording(path)
    assert len(recording.datagrams) == 2
    assert recording.warnings


LAB = "networks: {lan: 10.0.0.0/24}\nnodes: {a: , b: }\nsteps:\n  - replay: {file: x.pcap, speed: max%s}\n"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    packets = [
        scapy.IP(src="192.168.1.7", dst="192.168.1.1") / scapy.UDP(),
        scapy.IP(src="192.168.1.1", dst="192.168.1.7") / scapy.UDP(),
        scapy.IP(src="192.168.1.9", dst="192.168.1.7") / scapy.UDP(),
        scapy.IP(src="192.168.1.9", dst="192.168.1.7") / scapy.UDP(),
    ]
    scapy.wrpcap(str(tmp_path / "x.pcap"), packets)
    return tmp_path / "x.pcap"


def test_each_datagram_goes_out_as_the_owner_of_its_new_source(read: ReadLab, capture: Path) -> None:
    lab = read(LAB % ", map: {192.168.1.7: a, 192.168.1.1: 10.0.0.2, 192.168.1.9: b}")
    (step,) = lab.steps
    assert isinstance(step, ReplayStep)
    assert [departure.sender for departure in step.departures] == ["a", "b", "b", "b"]


def test_from_sends_everything_as_one_node(read: ReadLab, capture: Path) -> None:
    (step,) = read(LAB % ", from: b").steps
    assert isinstance(step, ReplayStep)
    assert {departure.sender for departure in step.departures} == {"b"}


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("", "1 of 4 datagrams come from 192.168.1.7, which is no node's address (so do 2 other addresses); map it"),
        (", map: {192.168.1.7: a, 192.168.1.1: b}", "2 of 4 datagrams come from 192.168.1.9, which is no node's"),
        (", map: {192.168.1.77: a}", "192.168.1.77 does not occur in the recording (did you mean '192.168.1.7'?)"),
        (", map: {192.168.1.7: c}", "'c' is neither a node nor an IP address"),
        (', map: {192.168.1.7: "fd00::1"}', "fd00::1 cannot stand for 192.168.1.7, which is IPv4"),
        (", map: {alice: a}", "'alice' is not an IP address; expected one that was recorded"),
        (", from: c", "no node is called 'c'"),
    ],
)
def test_a_replay_that_cannot_be_is_an_error(read: ReadLab, capture: Path, said: str, says: str) -> None:
    with pytest.raises(LabError) as caught:
        read(LAB % said)
    assert says in caught.value.message
    assert caught.value.line == 4
