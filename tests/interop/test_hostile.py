"""A guest that sends whatever it likes: the base survives it and counts it, and the others' traffic goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import iperf3, iperf3_server
from scene import Place, Scene, until

# A program with nothing but AF_PACKET; it runs in mallory's namespace.
SENDER = Path(__file__).parent / "hostile.py"


@pytest.fixture(scope="module")
def mallory(scene: Scene) -> Iterator[Place]:
    with contextlib.closing(scene.lan.netns("mallory", ["10.0.0.66", "fd00::66"])) as netns:
        yield Place("mallory", {4: "10.0.0.66", 6: "fd00::66"}, netns.mac, netns.mac, "eth0", netns.enter_words)


@pytest.fixture
def others_go_on(scene: Scene) -> Iterator[None]:
    """Meanwhile the others carry TCP and lose no ping; afterwards they know one another by the right MACs."""
    alice, bob, far = (scene[each] for each in ("alice", "bob", "far"))
    pings = ["ping", "-n", "-q", "-i", "0.01", "-W", "3"]
    with (
        alice.start(*pings, bob.addresses[4]) as first,
        far.start(*pings, alice.addresses[6]) as second,
        alice.start(*pings, scene["host"].addresses[4]) as third,
    ):
        yield
        with iperf3_server(bob) as port:
            for family in (4, 6):
                assert iperf3(alice, bob.addresses[family], port, "-n", "8M")["sum_received"]["bytes"] > 1 << 20
        for each in (first, second, third):
            each.send_signal(2)
            shown, _ = each.communicate(timeout=10)
            # One may be on its way as it ends.
            sent, received = (int(word) for word in shown.split("---\n")[1].replace(",", "").split()[0:4:3])
            assert sent - received <= 1, shown
            assert received > 0
    for one, other in ((alice, bob), (bob, alice), (alice, scene["host"]), (far, bob), (bob, far)):
        for address in other.addresses.values():
            one.output("ping", "-c", "1", "-w", "5", address)
            assert one.neighbours()[address]["lladdr"] == other.mac_for(one), f"{one} about {other}"


def counted(scene: Scene) -> dict[str, int]:
    return dict(scene.lan.statistics().nics["mallory"].frames)


def sends(mallory: Place, what: str, *arguments: str) -> None:
    done = mallory.run("python3", str(SENDER), mallory.interface, what, *arguments, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("others_go_on")
@pytest.mark.parametrize(
    ("what", "reasons"),
    [
        ("cut", ["malformed"]),
        ("lies", ["malformed"]),
        ("foreign", ["not_ip"]),
        ("random", ["not_ip", "malformed"]),
        ("arp_flood", ["not_learned", "rate_limited"]),
        ("ndp_flood", ["not_learned", "rate_limited"]),
        ("questions", ["rate_limited"]),
        ("moves", ["rate_limited"]),
    ],
)
def test_what_no_guest_should_send_is_counted_by_its_reason(
    scene: Scene, mallory: Place, what: str, reasons: list[str]
) -> None:
    before = counted(scene)
    sends(mallory, what)
    for reason in reasons:
        until(lambda reason=reason: counted(scene)[reason] > before[reason])
    assert scene.lan.attached("mallory")


@pytest.mark.usefixtures("others_go_on")
def test_forged_claims_to_others_addresses_change_nothing(scene: Scene, mallory: Place) -> None:
    before = counted(scene)
    victims = [scene[name].addresses[family] for name in ("alice", "bob", "host", "far", "gate") for family in (4, 6)]
    sends(mallory, "forgeries", *victims)
    until(lambda: counted(scene)["conflict"] >= before["conflict"] + len(victims))


@pytest.mark.usefixtures("others_go_on")
def test_offload_fields_that_contradict_the_packet_are_survived(scene: Scene, mallory: Place) -> None:
    # The kernel in there refuses some of these, and puts others right; what is left is the driver's.
    sends(mallory, "offloads", scene["bob"].mac, scene["bob"].addresses[4], scene["bob"].addresses[6])
    assert scene.lan.attached("mallory")


def test_after_all_that_the_hostile_guest_is_a_guest_as_any_other(scene: Scene, mallory: Place) -> None:
    for place in scene.places.values():
        if place.name != "scapy":
            for address in place.addresses.values():
                mallory.output("ping", "-c", "1", "-w", "10", address)
    # What was heard of it is bounded: the host table has no room for lies.
    assert len(mallory.neighbours()) < 1000
    assert scene.lan.statistics().nics["mallory"].frames["learned"] <= 16 * 8
