"""What traceroute and tcpdump see from inside a namespace."""

from __future__ import annotations

import re

import pytest
from programs import iperf3, iperf3_server
from scene import Scene

pytestmark = pytest.mark.usefixtures("no_errors")


@pytest.mark.parametrize("how", ["", "-T", "-I"], ids=["udp", "tcp", "icmp"])
@pytest.mark.parametrize("family", [4, 6])
def test_traceroute_finds_everybody_one_hop_away(scene: Scene, how: str, family: int) -> None:
    for place in scene.kernels:
        for other in scene.places.values():
            if other is place or other.name == "scapy":
                continue
            address = other.addresses[family]
            # One probe at a time: answers to a second would find no socket any more, and count as errors.
            shown = place.output("traceroute", "-n", "-q", "1", "-N", "1", "-m", "4", "-w", "2", *how.split(), address)
            hops = re.findall(r"^ *(\d+)  (\S+)", shown, re.MULTILINE)
            assert hops == [("1", address)], f"{place} to {other}: {shown}"


@pytest.mark.parametrize("family", [4, 6])
def test_tcpdump_sees_large_segments_with_unfinished_checksums_between_kernels(scene: Scene, family: int) -> None:
    """Offloads as both sides of a wire show them: the receiver, too, sees what the sender's kernel left undone."""
    alice, bob = scene["alice"], scene["bob"]
    with iperf3_server(bob) as port:
        words = ["tcpdump", "-l", "-n", "-v", "-c", "200", "-i", "eth0", f"tcp dst port {port} and greater 1000"]
        with bob.start(*words, until="listening on") as dump:
            iperf3(alice, bob.addresses[family], port, "-n", "64M")
            heard, _ = dump.communicate(timeout=20)
    lengths = [int(each) for each in re.findall(r"length (\d+)\n", heard)]
    assert max(lengths) > 20 * scene.mtu
    assert "(incorrect" in heard
    # The kernel that got them has counted no wrong checksum: see the fixture.


def test_tcpdump_sees_finished_checksums_and_segments_that_fit_from_a_process(scene: Scene) -> None:
    bob = scene["bob"]
    words = ["tcpdump", "-l", "-n", "-v", "-c", "60", "-i", "eth0", "src", scene["stack"].addresses[4]]
    with bob.start("socat", "-u", "TCP4-LISTEN:9999", "/dev/null"), bob.start(*words, until="listening on") as dump:
        while True:
            try:
                sock = scene.stack.connect((bob.addresses[4], 9999), timeout=5)
                break
            except ConnectionRefusedError:
                continue
        with sock:
            sock.sendall(bytes(200_000))
        heard, _ = dump.communicate(timeout=20)
    assert "incorrect" not in heard
    assert "(correct)" in heard
    lengths = [int(each) for each in re.findall(r"proto TCP \(6\), length (\d+)\)", heard)]
    assert scene.mtu - 12 <= max(lengths) <= scene.mtu
