"""Programs that people look at routes with, and streams that have to find out what a narrow link carries.

::

    a (netns) ── left ── r1 ──── r2 ──── r3 ── right ── b (netns)
                 9,000     4,000   1,400        1,500
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import scene
from programs import iperf3, iperf3_server
from scene import Place

import vnet

from .schemes import line
from .vnet_side import VnetSide

ROUTERS = {
    4: {"there": ["10.1.0.1", "10.255.0.1", "10.255.0.3"], "back": ["10.2.0.1", "10.255.0.2", "10.255.0.0"]},
    6: {"there": ["fd00:1::1", "fd00:ff::1", "fd00:ff::3"], "back": ["fd00:2::1", "fd00:ff::2", "fd00:ff::"]},
}
NARROWEST = 1400

pytestmark = pytest.mark.skipif(scene.missing() is not None, reason=scene.missing() or "")


@pytest.fixture(scope="module")
def lan() -> Iterator[vnet.Lan]:
    """The routers of the picture."""
    with VnetSide(line(3, mtus=[4000, NARROWEST], ends=(9000, 1500)), hosts=False) as side:
        # What makes namespaces starts with the first and ends with the LAN; no test shall seem to leave it behind.
        side.lan.netns("first", network="left").close()
        yield side.lan


@pytest.fixture
def ends(lan: vnet.Lan) -> Iterator[tuple[Place, Place]]:
    """The two guests of the picture, at addresses to which nothing has been said yet: errors to each are limited."""
    number = next(_numbers)
    with ExitStack() as stack:
        places = []
        for at, (name, network) in enumerate((("a", "left"), ("b", "right")), 1):
            addresses = {4: f"10.{at}.1.{number}", 6: f"fd00:{at}::1:{number:x}"}
            guest = stack.enter_context(closing(lan.netns(name, [*addresses.values()], network=network)))
            places.append(Place(name, addresses, guest.mac, guest.mac, guest.interface, guest.enter_words))
        yield places[0], places[1]


_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def no_errors(ends: tuple[Place, Place]) -> Iterator[None]:
    """What the kernels of both ends count of wrong checksums, headers and lengths does not grow meanwhile."""
    before = [place.errors() for place in ends]
    yield
    for place, errors in zip(ends, before, strict=True):
        # Errors that were received as they should be are counted with the wrong ones.
        expected = {"IcmpInErrors", "Icmp6InErrors", "Ip6InTooBigErrors"}
        now = place.errors()
        grown = {name: now[name] - was for name, was in errors.items() if now[name] != was and name not in expected}
        assert not grown, f"{place}: {grown}"


def hops(shown: str) -> list[str]:
    return re.findall(r"^ *\d+  (\S+)", shown, re.MULTILINE)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("method", ["-U", "-I", "-T", "default"])
def test_traceroute_shows_the_routers_in_order(ends: tuple[Place, Place], method: str, family: int) -> None:
    options = [] if method == "default" else [method]
    for one, other, way in ((*ends, "there"), (*ends[::-1], "back")):
        shown = one.output(
            "traceroute", "-n", "-q", "2", "-w", "2", f"-{family}", *options, other.addresses[family], timeout=30
        )
        # The routers of the way, each by the address on the side from which it is asked.
        assert hops(shown) == [*ROUTERS[family][way], other.addresses[family]]
        assert "*" not in shown
        assert "!" not in shown


@pytest.mark.parametrize("family", [4, 6])
def test_tracepath_finds_the_routers_and_what_the_way_carries(ends: tuple[Place, Place], family: int) -> None:
    one, other = ends
    shown = one.output("tracepath", f"-{family}", "-n", other.addresses[family])
    for number, router in enumerate(ROUTERS[family]["there"], 1):
        assert re.search(rf"^ *{number}: +{router} ", shown, re.MULTILINE), shown
    # It learns the MTUs one after the other.
    assert [int(each) for each in re.findall(r"pmtu (\d+)$", shown, re.MULTILINE)][:2] == [9000, 4000]
    assert f"Resume: pmtu {NARROWEST} hops 4 back 4" in shown


@pytest.mark.parametrize("family", [4, 6])
def test_every_address_of_the_routers_answers_ping(ends: tuple[Place, Place], family: int) -> None:
    addresses = sorted(line(3).router_addresses(family))
    assert len(addresses) == 9
    for place in ends:
        for address in addresses:
            place.output("ping", "-n", "-c", "1", "-w", "3", "-s", "1000", address)


def test_ping_records_the_way_there_and_back(ends: tuple[Place, Place]) -> None:
    one, other = ends
    shown = one.output("ping", "-n", "-R", "-c", "1", "-w", "3", other.addresses[4])
    recorded = re.findall(r"^(?:RR: )?\s+(\d+\.\S+)$", shown, re.MULTILINE)
    # Every router writes down the address by which it sends on; so do the ends.
    there = [one.addresses[4], "10.255.0.0", "10.255.0.2", "10.2.0.1", other.addresses[4]]
    assert recorded == [*there, other.addresses[4], "10.255.0.3", "10.255.0.1", "10.1.0.1"][: len(recorded)]
    assert len(recorded) >= 8


def test_ping_gets_the_time_from_every_router(ends: tuple[Place, Place]) -> None:
    one, other = ends
    shown = one.output("ping", "-n", "-T", "tsandaddr", "-c", "1", "-w", "3", other.addresses[4])
    # There is room for four: the sender, and every router by the address on the side from which it came.
    assert re.findall(r"^(?:TS:)?\s+(10\.\S+)\s+-?\d+", shown, re.MULTILINE) == [one.addresses[4], *ROUTERS[4]["there"]]


@pytest.mark.parametrize("family", [4, 6])
def test_ping_learns_what_each_link_carries(ends: tuple[Place, Place], family: int) -> None:
    one, other = ends
    address = other.addresses[family]
    shown = one.run("ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", "-M", "do", "-s", "6000", address).stdout
    # The first is told of by the first router; what follows, the kernel itself knows to be too large.
    assert f"From {ROUTERS[family]['there'][0]}" in shown
    assert re.search(r"mtu ?= ?4000", shown), shown
    shown = one.run("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "3000", address).stdout
    assert f"From {ROUTERS[family]['there'][1]}" in shown
    assert re.search(rf"mtu ?= ?{NARROWEST}", shown), shown
    assert f"mtu {NARROWEST}" in one.output("ip", "route", "get", address)
    header = 28 if family == 4 else 48
    one.output("ping", "-n", "-c", "1", "-w", "3", "-M", "do", "-s", str(NARROWEST - header), address)


@pytest.mark.parametrize("size", [1372, 1373, 4000, 8972, 20_000, 65_507])
def test_ping_without_df_comes_back_whole_across_links_that_cut_it(ends: tuple[Place, Place], size: int) -> None:
    one, other = ends
    for source, target in ((one, other), (other, one)):
        shown = source.output(
            "ping", "-n", "-c", "2", "-i", "0.1", "-w", "5", "-M", "dont", "-s", str(size), target.addresses[4]
        )
        assert " 0% packet loss" in shown
        assert "wrong data" not in shown


@pytest.mark.parametrize("family", [4, 6])
def test_a_flood_of_pings_loses_nothing(ends: tuple[Place, Place], family: int) -> None:
    one, other = ends
    for address in (other.addresses[family], ROUTERS[family]["there"][-1]):
        shown = one.output("ping", "-n", "-f", "-c", "1000", "-w", "20", address)
        assert "1000 packets transmitted, 1000 received, 0% packet loss" in shown


@pytest.mark.parametrize("family", [4, 6])
def test_ping_says_why_there_is_no_answer(ends: tuple[Place, Place], family: int) -> None:
    one, _ = ends
    unknown, nobody = {4: ("203.0.113.1", "10.2.15.77"), 6: ("2001:db8::1", "fd00:2::dead")}[family]
    shown = one.run("ping", "-n", "-c", "1", "-w", "5", unknown).stdout
    assert re.search(rf"From {ROUTERS[family]['there'][0]}.*(Net Unreachable|No route)", shown), shown
    shown = one.run("ping", "-n", "-c", "1", "-w", "5", nobody).stdout
    # By the address by which it sends the error.
    assert re.search(rf"From {ROUTERS[family]['there'][2]}.*(Host Unreachable|Address unreachable)", shown), shown
    shown = one.run("ping", "-n", "-c", "1", "-w", "5", "-t", "2", ends[1].addresses[family]).stdout
    assert re.search(rf"From {ROUTERS[family]['there'][1]}.*(Time to live|Hop limit)", shown), shown


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_streams_find_out_what_the_narrow_link_carries(ends: tuple[Place, Place], back: bool, family: int) -> None:
    one, other = ends
    with iperf3_server(other) as port:
        end = iperf3(one, other.addresses[family], port, "-n", "32M", *(["-R"] if back else []))
        assert end["sum_received"]["bytes"] > 16 << 20
    # Whoever sends the data is told, and tells the other to send no more than that.
    sender, receiver = (other, one) if back else (one, other)
    assert f"mtu {NARROWEST}" in sender.output("ip", "route", "get", receiver.addresses[family])


def test_large_udp_is_cut_by_routers_and_made_whole_by_the_receiver(ends: tuple[Place, Place]) -> None:
    one, other = ends
    before = other.counters()
    # Without DF, whatever the kernel has learned of the way: 4,028 bytes are cut by the first router and by the second.
    sending = f"""
import socket
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, IP_PMTUDISC_DONT = 10, 3, 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    for _ in range(100):
        sender.sendto(bytes(4000), ({other.addresses[4]!r}, 9))
"""
    one.output(*scene.python(sending))

    def whole() -> bool:
        return other.counters()["IpReasmOKs"] - before["IpReasmOKs"] == 100

    scene.until(whole)
    assert other.counters()["IpReasmReqds"] - before["IpReasmReqds"] == 100 * 4


@pytest.mark.parametrize("family", [4, 6])
def test_mtr_sees_every_router_answer_every_time(ends: tuple[Place, Place], family: int) -> None:
    one, other = ends
    shown = one.output(
        "mtr", f"-{family}", "-n", "--report", "-c", "3", "-i", "0.2", "-G", "0.3", other.addresses[family]
    )
    found = re.findall(r"^ *\d+\.\|-- (\S+) +(\S+)%", shown, re.MULTILINE)
    assert found == [(each, "0.0") for each in (*ROUTERS[family]["there"], other.addresses[family])]
