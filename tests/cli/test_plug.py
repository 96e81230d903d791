"""vnet plug and unplug on the LAN of a program: what comes, what goes, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import eventually

import vnet
from vnet.calls import call

sys.path.insert(0, str(Path(__file__).parents[1] / "netns"))

import namespaces

VNET = [sys.executable, "-W", "error", "-m", "vnet"]


@pytest.fixture(autouse=True)
def _namespaces_are_there() -> None:
    if (lack := namespaces.missing()) is not None:
        pytest.skip(lack)


@pytest.fixture
def target() -> Iterator[int]:
    """A process in a network namespace that vnet has not made."""
    words = [*namespaces.OWN, "sh", "-c", "echo; exec sleep 100"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.fixture
def descriptor(target: int) -> Iterator[int]:
    """A descriptor of its namespace."""
    fd = os.open(f"/proc/{target}/ns/net", os.O_RDONLY)
    yield fd
    os.close(fd)


def interfaces(pid: int) -> set[str]:
    """The interfaces in the network namespace of a process, as the kernel lists them."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    return {line.partition(":")[0].strip() for line in lines if ":" in line}


def types(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VNET, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_a_namespace_is_plugged_into_the_lan_of_a_program_and_unplugged(named: vnet.Lan, target: int) -> None:
    host = named.host("host")
    done = types("plug", "office", "guest", "--netns", str(target), "--address", "10.0.0.9", "--address", "fd00::9")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"guest is on office: eth1 in the namespace of process {target} has 10.0.0.9 fd00::9")
    assert interfaces(target) == {"lo", "eth1"}
    assert [host.ping(address, timeout=5).received for address in ("10.0.0.9", "fd00::9")] == [1, 1]
    shown = json.loads(types("show", "office", "--json").stdout)
    assert {node["name"]: node["kind"] for node in shown["nodes"]} == {"host": "host", "guest": "plug"}
    offered = types("_complete", "--", "unplug", "office", "")
    assert [line.split("\t")[0] for line in offered.stdout.splitlines()] == ["guest"]
    done = types("unplug", "office", "guest", "--json")
    assert json.loads(done.stdout) == {"format": 1, "lan": "office", "nic": "guest"}
    assert interfaces(target) == {"lo"}
    assert "guest" not in named.nics


def test_what_is_plugged_goes_with_the_lan_and_with_its_namespace(descriptor: int, target: int) -> None:
    with vnet.Lan("office", "10.0.0.0/24") as lan:
        call("office", "plug", files=[descriptor], nic="one", interface="lan0")
        assert interfaces(target) == {"lo", "lan0"}
        call("office", "plug", files=[descriptor], nic="two", interface="lan1")
        with subprocess.Popen([*namespaces.OWN, "sh", "-c", "echo; exec sleep 100"], stdout=subprocess.PIPE) as other:
            assert other.stdout
            other.stdout.readline()
            lan.plug("short", other.pid)
            other.kill()
        assert eventually(lambda: lan.nics["short"].state == "down")
        assert lan.nics["one"].state == "up"
    assert eventually(lambda: interfaces(target) == {"lo"})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"nic": "host"}, "a NIC named 'host' is on the LAN already"),
    ({"nic": "x", "interface": "a-name-far-too-long"}, "at most 15 bytes"),
    ({"nic": "x", "interface": "lo"}, "'lo'"),
    ({"nic": "x", "network": "wan"}, "no network named 'wan'"),
    ({"nic": "x", "addresses": ["10.9.0.1"]}, "10.9.0.1 is outside network 'lan'"),
    ({"nic": "x", "addresses": ["10.0.0.1"]}, "10.0.0.1 belongs to NIC 'host'"),
    ({"nic": "x", "addresses": [7]}, "'addresses' is a list of addresses"),
    ({}, "'plug' needs 'nic'"),
]


def test_what_cannot_be_is_refused_and_leaves_nothing(named: vnet.Lan, descriptor: int, target: int) -> None:
    named.host("host")
    for arguments, says in REFUSED:
        with pytest.raises((vnet.VnetError, ValueError)) as caught:
            call("office", "plug", files=[descriptor], **arguments)
        assert says in str(caught.value), arguments
    with pytest.raises(vnet.VnetError, match="the namespace comes as one descriptor"):
        call("office", "plug", nic="x")
    with open(os.devnull) as file, pytest.raises((vnet.VnetError, ValueError), match="no network namespace"):
        call("office", "plug", files=[file.fileno()], nic="x")
    with pytest.raises(vnet.VnetError, match=r"no NIC is called 'hsot' \(did you mean 'host'\?\); on office are host"):
        call("office", "unplug", nic="hsot")
    with pytest.raises(
        vnet.VnetError, match="'host' is a host of office, which nobody plugged; those plugged are none"
    ):
        call("office", "unplug", nic="host")
    assert interfaces(target) == {"lo"}
    assert list(named.nics) == ["host"]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("4194305", "there is no process 4194305"),
        ("no-such-name", "there is no namespace named 'no-such-name'"),
        ("/dev/null", "/dev/null is no network namespace"),
    ],
)
def test_a_namespace_that_is_none_is_one_sentence(named: vnet.Lan, where: str, says: str) -> None:
    done = types("plug", "office", "x", "--netns", where)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert says in done.stderr


def test_networks_are_completed(named: vnet.Lan) -> None:
    offered = types("_complete", "--", "plug", "office", "x", "--network", "l")
    assert [line.split("\t")[0] for line in offered.stdout.splitlines()] == ["lan"]
