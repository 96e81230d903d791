"""Filters beside Linux's own: nftables says the same of the same datagrams; sockets hear that they are rejected."""

from __future__ import annotations

import errno
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import datagram, eventually

import vnet
from vnet.filtering import compile_filter, read_filter

sys.path.append(str(Path(__file__).parent.parent / "netns"))
import namespaces


@pytest.fixture(autouse=True)
def namespaces_are_there() -> None:
    if (lack := namespaces.missing()) is not None:
        pytest.skip(lack)


# What nftables is given has no ranges that overlap.
SOURCES4 = ("10.9.0.0/16", "10.8.1.0/24", "192.0.2.7/32", "172.16.0.0/12")
SOURCES6 = ("fd00:9::/32", "2001:db8:1::/48", "2001:db8:2::7/128")
TO4 = ("10.0.0.20", "10.0.0.21")
TO6 = ("fd00::20", "fd00::21")
FROM4 = ("10.9.3.4", "10.8.1.255", "10.8.2.0", "192.0.2.7", "192.0.2.8", "172.31.255.255", "10.0.0.1")
FROM6 = ("fd00:9:1::1", "2001:db8:1:ffff::1", "2001:db8:2::7", "2001:db8:2::8", "fd00::1")
PORTS: tuple[int | str, ...] = (22, 80, "1000-2000", 53)
PROTOCOLS = (1, 6, 17, 47, 58, 132)


def _some(chance: random.Random, of: tuple[Any, ...]) -> list[Any]:
    return chance.sample(of, chance.randint(1, min(3, len(of))))


def _table(chance: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if chance.random() < 0.5:
        made["from"] = chance.choice(
            [_some(chance, SOURCES4), _some(chance, SOURCES6), [*_some(chance, SOURCES4), *_some(chance, SOURCES6)]]
        )
    if chance.random() < 0.3:
        made["to"] = [chance.choice(TO4), chance.choice(TO6)]
    for column in ("ports", "from_ports"):
        if chance.random() < 0.4:
            made[column] = _some(chance, PORTS)
    ports = "ports" in made or "from_ports" in made
    if not made or chance.random() < 0.6:
        made["protocol"] = _some(chance, (6, 17, 132) if ports else PROTOCOLS)
    return made


def _probe(chance: random.Random, number: int) -> bytes:
    """A datagram that Linux does not drop before nftables sees it, with its number as identification or flow label."""
    port = [chance.choice((22, 80, 999, 1000, 1500, 2000, 2001, 53, 7)) for _ in range(2)]
    transport = b"".join(each.to_bytes(2, "big") for each in port) + bytes(chance.choice((0, 4, 16)))
    transport = transport[: chance.choice((*[len(transport)] * 5, 0, 2, 3))]
    protocol = chance.choice(PROTOCOLS)
    if chance.random() < 0.5:
        fragment = chance.choice((0, 0, 0x4000, 0x2000, 5, 0x2007))
        if fragment & 0x1FFF:
            # nftables takes what lies there in a later fragment of IPv4 for ports; tcpdump and filters do not.
            transport = bytes(len(transport))
        made = bytearray(datagram(chance.choice(FROM4), chance.choice(TO4), transport, protocol=protocol))
        made[4:6] = number.to_bytes(2, "big")
        made[6:8] = fragment.to_bytes(2, "big")
        made[10:12] = bytes(2)
        total = sum(int.from_bytes(made[at : at + 2], "big") for at in range(0, 20, 2))
        made[10:12] = (0xFFFF - (total % 0xFFFF)).to_bytes(2, "big")
        return bytes(made)
    kinds = [*chance.choices((43, 44, 51, 60), k=chance.choice((0, 0, 1, 1, 2, 3))), protocol]
    if chance.random() < 0.2:
        kinds.insert(0, 0)
    behind = b""
    for kind, following in itertools.pairwise(kinds):
        if kind == 44:
            behind += bytes([following, 0]) + chance.choice((0, 1, 8, 9, 0x0550)).to_bytes(2, "big") + bytes(4)
        elif kind == 51:
            behind += bytes([following, 1]) + bytes(10)
        else:
            # A PadN option of four bytes (RFC 8200 section 4.2); a routing header of type 253 with no segments left.
            behind += bytes([following, 0, *((1, 4) if kind != 43 else (253, 0)), 0, 0, 0, 0])
    made = bytearray(datagram(chance.choice(FROM6), chance.choice(TO6), behind + transport, protocol=kinds[0]))
    made[1:4] = number.to_bytes(3, "big")
    return bytes(made)


def _set(words: list[Any]) -> str:
    return "{ " + ", ".join(map(str, words)) + " }"


def _nft(table: dict[str, Any], version: int) -> str | None:
    """The table as nftables has it, for one family; None where it can match nothing of that."""
    words = [f"meta nfproto ipv{version}"]
    name = "ip" if version == 4 else "ip6"
    for column, field in (("from", "saddr"), ("to", "daddr")):
        if column in table:
            own = [prefix for prefix in table[column] if (":" in prefix) == (version == 6)]
            if not own:
                return None
            words.append(f"{name} {field} {_set(own)}")
    ports = "ports" in table or "from_ports" in table
    if "protocol" in table or ports:
        words.append(f"meta l4proto {_set(table.get('protocol', [6, 17, 132]))}")
    for column, field in (("from_ports", "sport"), ("ports", "dport")):
        if column in table:
            words.append(f"th {field} {_set(table[column])}")
    return " ".join(words)


def _ruleset(lists: list[list[dict[str, Any]]]) -> str:
    """A chain for each list of rules; the first rule that matches notes the datagram's number in a set."""
    lines = []
    for number, rules in enumerate(lists):
        body, sets = [], []
        for rule, table in enumerate([*rules, {}]):
            sets.append(f"set s4_{rule} {{ typeof ip id; flags dynamic; size 65535; }}")
            sets.append(f"set s6_{rule} {{ typeof ip6 flowlabel; flags dynamic; size 65535; }}")
            for version, key in ((4, "ip id"), (6, "ip6 flowlabel")):
                if (match := _nft(table, version)) is not None:
                    body.append(f"{match} add @s{version}_{rule} {{ {key} }} accept")
        lines.append(f"table inet list{number} {{")
        lines += sets
        lines.append(f"chain first {{ type filter hook prerouting priority {number - 390}; policy accept;")
        lines += body
        lines += ["}", "}"]
    return "\n".join(lines)


def _noted(guest: vnet.Netns, number: int) -> dict[tuple[int, int], int]:
    """The rule that matched, by version and number of the datagram."""
    words = ["nft", "-j", "list", "table", "inet", f"list{number}"]
    told = json.loads(guest.run(words, stdout=subprocess.PIPE, check=True).stdout)
    found = {}
    for each in told["nftables"]:
        if "set" in each:
            version, rule = each["set"]["name"].removeprefix("s").split("_")
            for element in each["set"].get("elem", []):
                # What Linux says to neighbours has no number.
                if element:
                    found[int(version), int(element)] = int(rule)
    return found


def test_nftables_says_the_same_of_the_same_datagrams() -> None:
    chance = random.Random(11)
    lists = [[_table(chance) for _ in range(chance.randint(1, 6))] for _ in range(10)]
    probes = [_probe(chance, number + 1) for number in range(400)]
    with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"]) as lan:
        guest = lan.netns("linux", [*TO4, *TO6])
        sender = lan.attach("sender")
        guest.run(["nft", "-f", "-"], input=_ruleset(lists).encode(), check=True)
        for few in _batched(probes, 50):
            assert set(sender.send_many(few, block=True)) == {vnet.Verdict.DELIVERED}
        last = len(lists) - 1
        assert eventually(lambda: len(_noted(guest, last)) == len(probes), timeout=10.0)
        judged = set()
        for number, rules in enumerate(lists):
            compiled = compile_filter(read_filter([{"deny": table} for table in rules]))
            noted = _noted(guest, number)
            for probe in probes:
                version = probe[0] >> 4
                own = int.from_bytes(probe[4:6] if version == 4 else probe[1:4], "big")
                rule = compiled.judge(probe)[1]
                assert noted[version, own] == (len(rules) if rule is None else rule), (rules, probe.hex())
                judged.add((number, rule))
        # Most rules had something to match.
        assert len(judged) > sum(map(len, lists)) * 0.7


def _batched(of: list[bytes], count: int) -> Iterator[list[bytes]]:
    return (of[at : at + count] for at in range(0, len(of), count))


_CONNECT = """
import errno, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(family, kind) as one:
        one.settimeout(5)
        try:
            one.connect((sys.argv[1], 9))
            one.send(b"?")
            one.recv(9)
        except OSError as error:
            print(errno.errorcode.get(error.errno, error))
"""


@pytest.mark.parametrize(("address", "expected"), [("10.0.0.9", errno.EHOSTUNREACH), ("fd00::9", errno.EACCES)])
def test_linux_sockets_hear_that_they_are_rejected(lan: vnet.Lan, address: str, expected: int) -> None:
    guest = lan.netns("linux")
    lan.host("bob", ["10.0.0.9", "fd00::9"])
    lan.set_filter("bob", [{"reject": {"protocol": ["tcp", "udp"]}}])
    told = guest.run(
        [sys.executable, "-c", _CONNECT, address], stdout=subprocess.PIPE, text=True, check=True, timeout=30
    )
    # As of errors that routers send about what is prohibited: icmp_err_convert and icmpv6_err_convert of the kernel.
    assert told.stdout.split() == [errno.errorcode[expected]] * 2
    assert lan.statistics().nics["linux"].verdicts[vnet.Verdict.FILTERED] >= 2
