"""Labs with namespaces, as people use them: real ones, with root and without, from the same file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from .kernels import UNPRIVILEGED, links, missing, namespace, nodes, users_of
from .users import Terminal, User, eventually

LAB = """\
name: kernels
networks: {lan: {prefix: [10.0.0.0/24, "fd00::/64"], mtu: 1500}}
nodes:
  host: {serve: {tcp: 80, http: hello}}
  web:
    kind: netns
    env: {COLOUR: red}
    exec:
      - {command: 'exec python3 -m http.server 80 --bind 0.0.0.0', name: http}
      - {command: 'echo $COLOUR; exec sleep 1000', name: bed}
    ready: {port: 80, output: red, command: ip route get 10.0.0.1}
  client: {kind: netns, gateway: host, interface: net0}
"""


@pytest.fixture(autouse=True)
def _namespaces_are_there() -> None:
    if (lack := missing()) is not None:
        pytest.skip(lack)


@pytest.fixture
def up(user: User) -> User:
    """Somebody with the lab up."""
    user.write("kernels.yaml", LAB)
    user.does("up", "kernels.yaml")
    return user


@pytest.fixture
def anyone(request: pytest.FixtureRequest, user: User) -> User:
    """Somebody with and without privilege: what a lab is does not depend on it."""
    if request.param == "without privilege":
        if not UNPRIVILEGED:
            pytest.skip("takes root, who gives privilege away; whoever runs this has none as one is")
        user.through = UNPRIVILEGED
    user.write("kernels.yaml", LAB)
    return user


privileges = pytest.mark.parametrize("anyone", ["as one is", "without privilege"], indirect=True)


@privileges
def test_the_same_file_is_up_with_and_without_privilege(anyone: User) -> None:
    anyone.does("up", "kernels.yaml")
    assert set(links(anyone, "kernels", "client")) == {"lo", "net0"}
    addresses = {each["local"] for each in links(anyone, "kernels", "client")["net0"]["addr_info"]}
    assert {"10.0.0.3", "fd00::3"} < addresses
    spaces = [namespace(anyone, "kernels", name) for name in ("web", "client")]
    assert len({*spaces, os.readlink("/proc/self/ns/net")}) == 3
    # The commands of a node run there, too.
    web = nodes(anyone, "kernels")["web"]
    assert {os.readlink(f"/proc/{each['pid']}/ns/net") for each in web["commands"]} == {spaces[0]}
    said = json.loads(anyone.does("ping", "kernels", "client", "web", "--count", "3", "--interval", "1ms", "--json"))
    assert (said["address"], said["sent"], said["received"], said["loss"]) == ("10.0.0.2", 3, 3, 0)
    assert 0 < said["min"] <= said["avg"] <= said["max"] < 1
    # Killed, the base leaves neither commands nor namespaces.
    (lan,) = json.loads(anyone.does("ls", "--json"))["lans"]
    os.kill(lan["pid"], signal.SIGKILL)
    assert anyone.nothing_is_left(2.0), anyone.left()
    assert [users_of(space) for space in spaces] == [[], []]


def test_a_command_and_a_terminal_in_a_namespace_are_ones_own(up: User) -> None:
    # The environment is the node's.
    where = up.types(
        "exec", "kernels", "web", "--", "sh", "-c", "echo $COLOUR $VNET_NIC $PWD; cat; exit 7", text="through"
    )
    assert (where.returncode, where.stdout) == (7, f"red web {up.directory}\nthrough")
    assert up.types("exec", "kernels", "client", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert "cannot run no-such-program" in up.fails("exec", "kernels", "client", "--", "no-such-program", code=127)
    expected = namespace(up, "kernels", "client")
    terminal = Terminal(up, "exec", "kernels", "client", "--", "sh")
    terminal.press("tty; readlink /proc/self/ns/net\n")
    assert terminal.shows(expected)
    assert terminal.shows("/dev/pts/")
    # Ctrl-C ends what runs in the foreground, not the shell.
    terminal.press("sleep 100; echo slept $?\n")
    time.sleep(0.3)
    terminal.press("\x03")
    terminal.press("echo still here\n")
    assert terminal.shows("still here\r\n")
    terminal.press("exit 7\n")
    assert terminal.end() == 7


def test_each_command_has_its_log_and_its_end_is_shown(up: User) -> None:
    assert up.does("logs", "kernels", "web/bed") == "red\n"
    both = up.does("logs", "kernels", "web").splitlines()
    assert {line.partition(" | ")[0] for line in both} == {"http", "bed"}
    assert "bed | red" in both
    said = json.loads(up.does("logs", "kernels", "web", "--json"))
    assert {each["command"]: each["output"] for each in said["commands"]}["bed"] == "red\n"
    wrong = up.fails("logs", "kernels", "web/bde")
    assert "'web' has no command called 'bde' (did you mean 'bed'?); its commands are http, bed" in wrong
    bed = next(each for each in nodes(up, "kernels")["web"]["commands"] if each["name"] == "bed")
    os.kill(bed["pid"], signal.SIGTERM)
    assert eventually(lambda: nodes(up, "kernels")["web"]["code"] is not None)
    web = nodes(up, "kernels")["web"]
    # The namespace is there, whatever its commands do.
    assert (web["state"], [each["code"] for each in web["commands"]]) == ("up", [None, -signal.SIGTERM])
    assert "up; bed was ended by SIGTERM" in up.does("show", "kernels")


def test_a_machine_without_tun_is_told_so_with_the_place_in_the_file(user: User) -> None:
    user.write("kernels.yaml", LAB)
    hidden = 'mount -t tmpfs none /dev/net; exec "$@"'
    user.through = ["unshare", "--map-root-user", "--mount", "sh", "-c", hidden, "sh"]
    said = user.fails("up", "kernels.yaml", code=3)
    assert said.startswith("vnet: kernels.yaml:5: nodes.web: there is no /dev/net/tun: ")
    assert user.nothing_is_left()


@privileges
def test_a_namespace_that_is_there_is_plugged_into_a_lab_and_unplugged(anyone: User) -> None:
    anyone.does("up", "kernels.yaml")
    own = ["unshare", "--net"] if os.geteuid() == 0 and not anyone.through else ["unshare", "--map-root-user", "--net"]
    with subprocess.Popen(
        [*anyone.through, *own, "sh", "-c", "echo; exec sleep 100"], stdout=subprocess.PIPE, env=anyone.environment
    ) as target:
        try:
            assert target.stdout
            target.stdout.readline()
            pid = str(target.pid)
            said = json.loads(
                anyone.does("plug", "kernels", "guest", "--netns", pid, "--address", "10.0.0.50", "--json")
            )
            assert (said["nic"], said["interface"], said["addresses"][0]) == ("guest", "eth1", "10.0.0.50")
            assert anyone.types("ping", "kernels", "host", "guest", "-c", "2").returncode == 0
            assert anyone.types("ping", "kernels", "client", "10.0.0.50", "-c", "2").returncode == 0
            assert "guest   plug   lan" in anyone.does("show", "kernels")
            assert [each["name"] for each in json.loads(anyone.does("show", "kernels", "--json"))["plugged"]] == [
                "guest"
            ]
            assert "a NIC named 'guest' is on the LAN already" in anyone.fails(
                "plug", "kernels", "guest", "--netns", pid
            )
            assert "named 'eth1'" in anyone.fails("plug", "kernels", "more", "--netns", pid)
            assert anyone.does("unplug", "kernels", "guest") == "guest is off kernels\n"
            assert interfaces(pid) == {"lo"}
            anyone.does("plug", "kernels", "again", "--netns", f"/proc/{pid}/ns/net", "--interface", "lan0")
            assert interfaces(pid) == {"lo", "lan0"}
            # It goes when the lab goes.
            anyone.does("down", "kernels")
            assert eventually(lambda: interfaces(pid) == {"lo"}, 2.0)
        finally:
            target.kill()


def interfaces(pid: str) -> set[str]:
    """The interfaces in the network namespace of a process, as the kernel lists them."""
    with open(f"/proc/{pid}/net/dev") as file:
        return {line.partition(":")[0].strip() for line in file if ":" in line}
