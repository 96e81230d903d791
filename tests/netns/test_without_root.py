"""Namespaces without privilege, in a user namespace; and what a machine may lack, in one sentence each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest
from namespaces import OWN, UNPRIVILEGED, base

import vnet

# A user namespace whose limits are its own.
_LIMITS = ["unshare", "--user", "--map-root-user", "sh", "-c"]


def test_without_root_a_namespace_is_the_same() -> None:
    program = """
import vnet
from namespaces import addresses, own_links
with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"]) as lan:
    one, two = lan.netns("one", gateway="10.0.0.254"), lan.netns("two")
    interface = own_links(one)["eth0"]
    assert addresses(interface) == {"10.0.0.1/24", "fd00::1/64", one.addresses[2] + "/64"}
    assert (interface["address"], interface["mtu"]) == (one.mac, 65521)
    assert "default via 10.0.0.254" in one.run(["ip", "route"], capture_output=True, text=True).stdout
    for address in two.addresses[:2]:
        assert one.run(["ping", "-c1", "-W2", address], capture_output=True).returncode == 0
    # Its programs are root in there, and may do what root does.
    assert one.run(["id", "-u"], capture_output=True, text=True).stdout == "0\\n"
    one.run(["ip", "address", "add", "10.0.0.77/24", "dev", "eth0"], check=True)
    one.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
    assert one.run(["sh", "-c", "exit 3"]).returncode == 3
    # Both are in one user namespace: a program of one may look into the other.
    link = ["readlink", "/proc/self/ns/user"]
    assert len({guest.run(link, capture_output=True).stdout for guest in (one, two)}) == 1
"""
    done = base(program, UNPRIVILEGED)
    assert done.returncode == 0, done.stderr


def test_namespaces_that_are_closed_do_not_count_any_more() -> None:
    # The kernel's own count: a user namespace that may have twelve, in which twenty-four are made, six at a time.
    program = """
import vnet
for _ in range(4):
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        for number in range(6):
            lan.netns(f"n{number}")
    # The kernel clears up in its own time, which a test may wait for.
    import time
    time.sleep(0.3)
"""
    enter = [*_LIMITS, 'echo 12 > /proc/sys/user/max_net_namespaces; exec "$@"', "sh"]
    done = base(program, enter)
    assert done.returncode == 0, done.stderr


_MAKE = 'lan.netns("n")'


def _lacks(program: str, before: Sequence[str]) -> str:
    """What a program says that cannot make a namespace."""
    body = f"""
import support, vnet
with vnet.Lan(None, "10.0.0.0/24") as lan:
    try:
        {program}
    except vnet.MachineLacks as error:
        print(error)
    assert "n" not in lan.nics
assert not support.children()
"""
    done = base(body, before)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout


def test_a_file_in_place_of_tun_is_told_from_the_device() -> None:
    # As an image has it that was unpacked without device nodes.
    file = 'mount -t tmpfs none /dev/net; touch /dev/net/tun; exec "$@"'
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", file, "sh"]
    assert "mknod -m 0666 /dev/net/tun c 10 200` makes it" in _lacks(_MAKE, before)


def test_a_machine_without_tun_is_told_how_to_get_it() -> None:
    hide = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none /dev/net; exec "$@"',
        "sh",
    ]
    assert "there is no /dev/net/tun: `modprobe tun`" in _lacks(_MAKE, hide)


def test_a_user_who_may_not_open_tun_is_told_who_may() -> None:
    if os.geteuid():
        pytest.skip("who may open /dev/net/tun is root's to change")
    close = 'mount -t tmpfs none /dev/net; touch /dev/net/tun; chown 1:1 /dev/net/tun; exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", close, "sh", *UNPRIVILEGED]
    assert "may not open /dev/net/tun (Permission denied): `chmod 0666 /dev/net/tun`" in _lacks(_MAKE, before)


def test_a_user_without_user_namespaces_is_told_the_setting() -> None:
    none = [*_LIMITS, 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh", *UNPRIVILEGED]
    if not UNPRIVILEGED:
        pytest.skip("root of a user namespace needs none: setpriv takes that away only from root")
    assert "this user may have 0, which `sysctl -w user.max_user_namespaces=N` raises" in _lacks(_MAKE, none)


def test_one_namespace_too_many_is_refused_with_the_setting_and_the_others_stay() -> None:
    few = [*_LIMITS, 'echo 3 > /proc/sys/user/max_net_namespaces; exec "$@"', "sh"]
    program = '[lan.netns(name) for name in ("a", "b", "c", "n")]'
    assert "this user may have 3, which `sysctl -w user.max_net_namespaces=N` raises" in _lacks(program, few)


def test_one_file_too_many_is_refused_with_the_setting_and_the_others_stay() -> None:
    program = """
import resource, support, vnet
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
with vnet.Lan(None, "10.0.0.0/16") as lan:
    made = []
    try:
        for number in range(100):
            made.append(lan.netns(f"n{number}"))
    except vnet.MachineLacks as error:
        print(error)
    assert 20 < len(made) == len(lan.nics) < 50
    # A few are left for other things.
    assert made[0].run(["ping", "-c1", made[5].address], capture_output=True).returncode == 0
    made[0].close()
    lan.netns("again")
"""
    done = base(program)
    assert done.returncode == 0, done.stderr
    assert "raise `ulimit -n`" in done.stdout


def test_where_more_files_may_be_opened_the_limit_is_raised() -> None:
    program = """
import resource, vnet
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 400))
with vnet.Lan(None, "10.0.0.0/16") as lan:
    for number in range(60):
        lan.netns(f"n{number}")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 400
"""
    done = base(program)
    assert done.returncode == 0, done.stderr


def test_without_nsenter_a_command_is_refused_with_its_package(lan: vnet.Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = lan.netns("bob")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(vnet.MachineLacks, match="`apt-get install util-linux`"):
        guest.run(["true"])


def test_a_command_is_words(lan: vnet.Lan) -> None:
    guest = lan.netns("bob")
    for words in ("ip address", [], b"ip"):
        with pytest.raises(ValueError, match="a list of words"):
            guest.run(words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shell=True"):
        guest.run(["ip"], shell=True)


def test_a_root_who_may_not_make_namespaces_works_as_a_user_does() -> None:
    if not UNPRIVILEGED:
        pytest.skip("takes root")
    # Privileged for interfaces alone, as Docker's --cap-add NET_ADMIN makes it.
    before = ["setpriv", "--bounding-set=-all,+net_admin,+setfcap", "--inh-caps=-all"]
    program = """
import vnet
with vnet.Lan(None, "10.0.0.0/24") as lan:
    assert lan.netns("n").run(["ip", "link", "show", "eth0"], capture_output=True).returncode == 0
"""
    done = base(program, before)
    assert done.returncode == 0, done.stderr


def test_a_base_in_a_namespace_of_its_own_touches_nothing_of_it() -> None:
    # What would be the machine's own namespace, before and after.
    program = """
import subprocess, vnet
look = lambda: subprocess.run("ip address; ip route show table all; ip -6 route show table all; ip neigh", shell=True,
    capture_output=True, check=True).stdout
before = look()
with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"]) as lan:
    one, two = lan.netns("one"), lan.netns("two")
    assert one.run(["ping", "-c1", two.address], capture_output=True).returncode == 0
    assert look() == before
assert look() == before
"""
    done = base(program, OWN)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([*OWN, "true"], check=False).returncode == 0
