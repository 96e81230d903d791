"""Interfaces in namespaces that others made: by process, path and name; and that they go when they should."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support
from namespaces import UNPRIVILEGED, Target, addresses, base, open_devices

import vnet


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as target:
        yield target


def test_a_process_gets_an_interface_in_its_namespace(lan: vnet.Lan, target: Target) -> None:
    plug = lan.plug("c1", target.pid, ["10.0.0.30", "fd00::30"])
    interface = target.links["eth1"]
    assert interface["address"] == plug.mac == lan.nics["c1"].mac
    assert interface["mtu"] == plug.mtu
    own = [f"{each}/{length}" for each, length in zip(plug.addresses, (24, 64, 64), strict=True)]
    assert addresses(interface) == set(own)
    assert not any(each.get("tentative") for each in interface["addr_info"])
    # What was there is as it was.
    assert "UP" not in target.links["lo"]["flags"]


def test_what_is_plugged_reaches_the_lan_and_is_reached(lan: vnet.Lan, target: Target) -> None:
    plug, host, guest = lan.plug("c1", target.pid), lan.host("host"), lan.netns("guest")
    for destination in (*host.addresses, *guest.addresses[:2]):
        done = target.run("ping", "-c", "2", "-i", "0.01", "-W", "2", destination)
        assert " 0% packet loss" in done.stdout, done.stdout
    for destination in plug.addresses[:2]:
        assert host.ping(destination).loss == 0
        assert guest.run(["ping", "-c", "1", destination], capture_output=True).returncode == 0


@pytest.mark.parametrize("where", [str, lambda pid: f"/proc/{pid}/ns/net", lambda pid: Path(f"/proc/{pid}/ns/net")])
def test_a_namespace_is_found_by_digits_and_by_path(
    lan: vnet.Lan, target: Target, where: Callable[[int], str | Path]
) -> None:
    lan.plug("c1", where(target.pid), interface="vnet0")
    assert "vnet0" in target.links


def test_a_namespace_is_found_by_the_name_that_ip_netns_gave_it() -> None:
    if os.geteuid():
        pytest.skip("ip netns needs root")
    # In a mount namespace of its own: the machine's /run/netns is left alone.
    program = """
import subprocess, vnet
run = lambda *words: subprocess.run(words, check=True, capture_output=True, text=True).stdout
run("mount", "-t", "tmpfs", "none", "/run")
run("ip", "netns", "add", "blue")
with vnet.Lan(None, "10.0.0.0/24") as lan:
    host, plug = lan.host("host"), lan.plug("c1", "blue")
    run("ip", "-n", "blue", "link", "show", "eth1")
    run("ip", "netns", "exec", "blue", "ping", "-c1", host.address)
    try:
        lan.plug("c2", "green")
    except ValueError as error:
        print(error)
    # Nothing of vnet's keeps it.
    run("ip", "netns", "delete", "blue")
    import support
    assert support.eventually(lambda: lan.nics["c1"].state == "down")
"""
    done = base(program, ["unshare", "--mount"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "there is no namespace named 'green' in /run/netns; there are blue\n"


def test_close_takes_the_interface_back(lan: vnet.Lan, target: Target) -> None:
    plug = lan.plug("c1", target.pid)
    plug.close()
    plug.close()
    assert set(target.links) == {"lo"}
    assert "c1" not in lan.nics
    # At once, under the same names.
    lan.plug("c1", target.pid)
    assert set(target.links) == {"lo", "eth1"}
    lan.remove("c1")
    assert support.eventually(lambda: set(target.links) == {"lo"})


def test_the_interface_goes_with_the_lan(target: Target) -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        lan.plug("c1", target.pid)
        lan.plug("c2", target.pid, interface="eth2")
        assert set(target.links) == {"lo", "eth1", "eth2"}
    assert set(target.links) == {"lo"}


def test_a_namespace_that_ends_takes_its_nic_down_and_no_other(lan: vnet.Lan) -> None:
    one, other = Target(), lan.netns("other")
    host = lan.host("host")
    plug = lan.plug("c1", one.pid)
    # In the middle of a transfer.
    run = host.start_ping(plug.address, count=200, interval=0.001, timeout=0.2)
    one.end()
    # Neither the base nor its nursery keeps it alive, nor is anything of it left to read.
    assert support.eventually(lambda: lan.nics["c1"].state == "down")
    run.result(20)
    assert host.ping(other.address, count=3).loss == 0
    assert host.ping(plug.address).received == 0
    plug.close()
    with Target() as another:
        lan.plug("c1", another.pid, plug.address)
        assert host.ping(plug.address).loss == 0


def test_an_interface_name_that_is_taken_there_is_refused(lan: vnet.Lan, target: Target) -> None:
    lan.plug("c1", target.pid)
    with pytest.raises(vnet.NameTaken, match="'eth1'"):
        lan.plug("c2", target.pid)
    assert set(lan.nics) == {"c1"}
    assert set(target.links) == {"lo", "eth1"}
    assert len([each for each in open_devices() if "tun" in each]) == 1


def test_a_process_that_is_gone_is_said_to_be(lan: vnet.Lan) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    for where in (process.pid, str(process.pid), 0, -1):
        with pytest.raises(ValueError, match="there is no process"):
            lan.plug("c1", where)
    assert not lan.nics


def test_what_is_no_network_namespace_is_refused(lan: vnet.Lan, tmp_path: Path, target: Target) -> None:
    os.mkfifo(tmp_path / "fifo")
    for where in (tmp_path, tmp_path / "fifo", "/etc/passwd", f"/proc/{target.pid}/ns/mnt", "/dev/null"):
        with pytest.raises(ValueError, match="is no network namespace"):
            lan.plug("c1", where)
    for missing in (tmp_path / "none", "./none", "a\0/b"):
        with pytest.raises(ValueError, match="cannot be opened"):
            lan.plug("c1", missing)
    with pytest.raises(ValueError, match="no namespace named 'none'"):
        lan.plug("c1", "none")
    with pytest.raises(TypeError):
        lan.plug("c1", 1.5)  # type: ignore[arg-type]
    assert not lan.nics
    assert not open_devices()


def test_a_container_with_ipv6_off_gets_it_on_the_new_interface(lan: vnet.Lan, target: Target) -> None:
    off = "for each in all default; do echo 1 > /proc/sys/net/ipv6/conf/$each/disable_ipv6; done"
    assert target.run("sh", "-c", off).returncode == 0
    plug = lan.plug("c1", target.pid)
    assert f"{plug.addresses[1]}/64" in addresses(target.links["eth1"])


def test_without_root_one_plugs_namespaces_of_ones_own_user_namespaces_and_no_others() -> None:
    program = """
import os, vnet
from namespaces import Target
with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"]) as lan:
    # One in a user namespace of its own, one in that of the namespaces that the LAN makes.
    own = lan.netns("own")
    words, files = own.enter_words(["true"])
    with Target(["unshare", "--user", "--map-root-user", "--net"]) as target:
        host, plug = lan.host("host"), lan.plug("c1", target.pid)
        assert host.ping(plug.address).loss == 0
        plug = lan.plug("c2", f"/proc/self/fd/{files[0]}")
        assert host.ping(plug.addresses[1]).loss == 0
        for where in (os.getpid(), 1):
            try:
                lan.plug("c3", where)
            except vnet.NotPermitted as error:
                print(error)
"""
    done = base(program, UNPRIVILEGED)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "the namespace belongs to another user: run as root, or as that user"
    assert "another user" in said[1]


def test_a_base_that_is_killed_leaves_no_interface_in_there(
    target: Target, guest: Callable[..., support.Guest]
) -> None:
    program = f"""
lan = vnet.Lan(None, "10.0.0.0/24")
lan.plug("c1", {target.pid})
say("up")
signal.pause()
"""
    killed = guest(program)
    killed.hear()
    assert "eth1" in target.links
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    assert support.eventually(lambda: set(target.links) == {"lo"})
