"""Guests that do for themselves what others leave to the receiver, in all combinations on both sides."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import iperf3_server, sent_by_socat, udp_arrives
from scene import Place, Scene

pytestmark = pytest.mark.usefixtures("no_errors")

MIB = 1 << 20
KNOBS = ("tso", "tx", "gro", "sg")
COMBINATIONS = [{}, {"tso": "off"}, {"tx": "off"}, {"gro": "off"}, dict.fromkeys(KNOBS, "off")]
NAMES = ["all on", "no tso", "no tx", "no gro", "none"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("offloads") / "small"
    file.write_bytes(os.urandom(8 * MIB))
    return file


@pytest.fixture
def as_they_were(scene: Scene) -> Iterator[None]:
    yield
    for name in ("alice", "bob", "far"):
        turn(scene[name], {})


def turn(place: Place, wanted: dict[str, str]) -> None:
    """Switches a guest's offloads; what is not named is on."""
    words = [word for knob in KNOBS for word in (knob, wanted.get(knob, "on"))]
    # On first: what depends on another knob cannot be on while that is off.
    place.output("ethtool", "-K", place.interface, *words)
    shown = place.output("ethtool", "-k", place.interface)
    for knob, long in (
        ("tso", "tcp-segmentation-offload"),
        ("tx", "tx-checksumming"),
        ("gro", "generic-receive-offload"),
    ):
        if knob in wanted:
            assert f"{long}: off" in shown, shown


@pytest.mark.usefixtures("as_they_were")
@pytest.mark.parametrize(
    ("mine", "yours"),
    [
        pytest.param(*pair, id=f"{NAMES[COMBINATIONS.index(pair[0])]}-{NAMES[COMBINATIONS.index(pair[1])]}")
        for pair in itertools.product(COMBINATIONS, repeat=2)
    ],
)
def test_a_stream_arrives_whatever_either_side_leaves_to_the_other(
    scene: Scene, small: Path, mine: dict[str, str], yours: dict[str, str]
) -> None:
    import hashlib

    expected = hashlib.sha256(small.read_bytes()).hexdigest()
    turn(scene["alice"], mine)
    turn(scene["bob"], yours)
    turn(scene["far"], yours)
    for receiver, family in (("bob", 4), ("bob", 6), ("far", 4), ("far", 6)):
        assert sent_by_socat(scene["alice"], scene[receiver], family, small, 1) == expected, receiver
    assert sent_by_socat(scene["far"], scene["alice"], 4, small, 1) == expected


@pytest.mark.usefixtures("as_they_were")
def test_udp_fragments_and_segments_arrive_without_offloads(scene: Scene) -> None:
    turn(scene["alice"], dict.fromkeys(KNOBS, "off"))
    with iperf3_server(scene["bob"]) as port:
        for family in (4, 6):
            udp_arrives(scene["alice"], scene["bob"], family, port, "-l", "4000")
