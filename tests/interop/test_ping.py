"""Echo requests of all sizes between every pair of guest kinds, whatever the network's MTU."""

from __future__ import annotations

import re

import pytest
from scene import LARGEST_TAP, Place, Scene

import vnet

# Nothing, the usual, the last that fits 1,500 and the first that does not, several fragments, and all that IPv4 can.
SIZES = [0, 56, 1472, 1473, 8000, 65_507]

pytestmark = pytest.mark.usefixtures("no_errors")


@pytest.fixture(scope="module", params=[1280, 1500, 9000, 65_535])
def mtu(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def ping_each(source: Place, targets: list[tuple[str, int]]) -> list[str]:
    """Pings each address with a size; returns what did not come back whole, and once."""
    script = """
    while read address size; do
        echo "== $address $size"
        ping -n -c 1 -w 3 -s $size $address </dev/null || true
    done
    """
    replies = ("IcmpInEchoReps", "Icmp6InEchoReplies")
    before = source.counters()
    found = source.shell(script, input="".join(f"{address} {size}\n" for address, size in targets)).split("== ")[1:]
    assert len(found) == len(targets)
    good = re.compile(r"1 packets transmitted, 1 received, 0% packet loss")
    bad = re.compile(r"errors|truncated|wrong data")
    failures = [f"{source} to {each.strip()}" for each in found if not good.search(each) or bad.search(each)]
    # ping goes after the first reply; a second one is seen here.
    now = source.counters()
    came = sum(now[each] - before[each] for each in replies)
    return failures or [f"{source} had {came} replies for {len(targets)}"] * (came != len(targets))


def is_carried(one: Place, other: Place, size: int, scene: Scene) -> bool:
    """What a stack of ours sends on a network without an MTU may be larger than what a kernel's bridge forwards."""
    ours = {"host", "stack"} & {one.name, other.name}
    return not (ours and "far" in (one.name, other.name) and scene.mtu > LARGEST_TAP and size + 48 > LARGEST_TAP)


@pytest.mark.parametrize("family", [4, 6])
def test_every_kernel_reaches_every_guest_with_every_size(scene: Scene, family: int) -> None:
    failures = []
    for source in scene.kernels:
        others = [place for place in scene.places.values() if place.name not in (source.name, "scapy")]
        failures += ping_each(
            source,
            [
                (each.addresses[family], size)
                for each in others
                for size in SIZES
                if is_carried(source, each, size, scene)
            ],
        )
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("family", [4, 6])
def test_a_built_in_host_reaches_every_guest_with_every_size(scene: Scene, family: int) -> None:
    failures = []
    for place in scene.places.values():
        if place.name in ("host", "scapy"):
            continue
        for size in [each for each in SIZES if is_carried(scene["host"], place, each, scene)]:
            result = scene.host.ping(place.addresses[family], count=2, size=size, timeout=2.0)
            if result.received != 2:
                failures.append(f"{place} {size}: {result}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("family", [4, 6])
def test_scapy_in_a_process_gets_its_answer_from_every_guest(scene: Scene, family: int) -> None:
    from scapy.all import ICMP, IP, ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, Raw, raw, sr1

    failures = []
    for place in scene.places.values():
        if place.name == "scapy":
            continue
        # What scapy sends it does not cut for IPv6, and it takes fragments for answers.
        for size in [size for size in SIZES if size + 48 <= scene.mtu]:
            address, data = place.addresses[family], bytes(each % 251 for each in range(size))
            packet = IP(dst=address) / ICMP() if family == 4 else IPv6(dst=address) / ICMPv6EchoRequest()
            if family == 4:
                reply = sr1(packet / Raw(data), iface=scene.scapy, timeout=2, verbose=0)
                whole = reply is not None and raw(reply[ICMP].payload)[:size] == data
            else:
                packet[ICMPv6EchoRequest].data = data
                reply = sr1(packet, iface=scene.scapy, timeout=2, verbose=0)
                whole = reply is not None and reply[ICMPv6EchoReply].data == data
            if not whole or reply.src != address:
                failures.append(f"{place} {size}: {reply!r}")
    assert not failures, "\n".join(failures)


def test_what_a_kernel_sends_is_no_larger_than_the_network_allows(scene: Scene) -> None:
    # `ip link` as the guest sees it: what the kernel cuts fragments and segments by.
    for name in ("alice", "bob", "box"):
        place = scene[name]
        link = place.output("ip", "link", "show", "dev", place.interface)
        assert f" mtu {min(scene.mtu, LARGEST_TAP)} " in link
    counted = scene.lan.statistics()
    assert counted.total(vnet.Verdict.TOO_BIG) == 0
    assert counted.total(vnet.Verdict.MALFORMED) == 0
