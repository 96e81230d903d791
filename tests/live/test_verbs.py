"""What the verbs for a lab that is up print and do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import vnet.cli.complete

from .users import VNET, Terminal, User, eventually

LAB = """\
name: office
networks: {desk: [10.1.0.0/24, "fd00:1::/64"]}
nodes:
  alice:
  bob: {networks: {desk: 10.1.0.20}}
  web: {kind: process, exec: "python3 -u web.py", env: {COLOUR: red}, ready: {output: up}}
  spare: {kind: process, env: {COLOUR: blue}}
"""
WEB = """\
import sys, time, vnet
nic = vnet.attach()
print("started", *nic.addresses)
print("up", file=sys.stderr)
while True:
    time.sleep(1000)
"""


@pytest.fixture
def office(user: User) -> User:
    user.write("web.py", WEB)
    user.write("office.yaml", LAB)
    user.does("up", "office.yaml")
    return user


def test_ls_and_show_tell_what_is_there(office: User) -> None:
    (lan,) = json.loads(office.does("ls", "--json"))["lans"]
    file = str(office.directory.resolve() / "office.yaml")
    assert (lan["name"], lan["kind"], lan["nodes"], lan["file"]) == ("office", "lab", 4, file)
    assert 0 <= lan["uptime"] < 60
    shown = json.loads(office.does("show", "office", "--json"))
    assert (shown["format"], shown["pid"], shown["file"]) == (1, lan["pid"], file)
    assert shown["networks"] == [{"name": "desk", "prefixes": ["10.1.0.0/24", "fd00:1::/64"], "mtu": 65535}]
    nodes = {node["name"]: node for node in shown["nodes"]}
    assert {name: node["addresses"] for name, node in nodes.items()} == {
        "alice": ["10.1.0.1", "fd00:1::1"],
        "bob": ["10.1.0.20", "fd00:1::2"],
        "web": ["10.1.0.2", "fd00:1::3"],
        "spare": ["10.1.0.3", "fd00:1::4"],
    }
    assert {name: node["state"] for name, node in nodes.items()} == {
        "alice": "up",
        "bob": "up",
        "web": "up",
        "spare": "down",
    }
    assert Path(f"/proc/{nodes['web']['pid']}").exists()
    os.kill(nodes["web"]["pid"], signal.SIGKILL)
    assert eventually(lambda: "was ended by SIGKILL" in office.does("show", "office"))


def test_exec_runs_a_command_with_the_nodes_environment_and_directory(office: User) -> None:
    said = office.does("exec", "office", "spare", "--", "sh", "-c", "echo $VNET_LAN $VNET_NIC $COLOUR; pwd")
    assert said == f"office spare blue\n{office.directory.resolve()}\n"
    attach = "import vnet; nic = vnet.attach(); print(nic.name, *nic.addresses)"
    assert office.does("exec", "office", "spare", "python3", "-c", attach) == "spare 10.1.0.3 fd00:1::4\n"


def test_exec_passes_input_output_and_options_through(office: User) -> None:
    done = office.types("exec", "office", "spare", "sh", "-c", "cat; echo to stderr >&2", text="to stdin\n")
    assert (done.stdout, done.stderr) == ("to stdin\n", "to stderr\n")
    assert office.does("exec", "office", "spare", "--", "echo", "--help", "--", "-x") == "--help -- -x\n"


@pytest.mark.parametrize(
    ("command", "code"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
)
def test_exec_returns_the_commands_own_code(office: User, command: str, code: int) -> None:
    done = office.types("exec", "office", "spare", "--", "sh", "-c", command)
    assert (done.returncode, done.stderr) == (code, "")


def test_exec_says_what_cannot_be_run_and_where(office: User) -> None:
    assert (
        office.fails("exec", "office", "spare", "no-such", code=127)
        == "vnet: cannot run no-such: no such file or directory"
    )
    assert office.fails("exec", "office", "spare", "/etc", code=126) == "vnet: cannot run /etc: permission denied"
    assert "'alice' is a built-in host, which runs no commands; those that do are web, spare" in office.fails(
        "exec", "office", "alice", "ls"
    )
    assert "lab 'office' has no node 'spair' (did you mean 'spare'?)" in office.fails("exec", "office", "spair", "ls")
    assert "no LAN named 'ofice' is up (did you mean 'office'?)" in office.fails("exec", "ofice", "spare", "ls")


def test_exec_in_a_terminal_has_the_terminal_and_ctrl_c_is_the_commands(office: User) -> None:
    program = (
        "import os, signal, time\n"
        "try:\n"
        "    print(os.isatty(0), os.isatty(1), os.isatty(2), os.tcgetpgrp(0) == os.getpgrp(), flush=True)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt: print('heard it', flush=True); raise SystemExit(9)\n"
    )
    terminal = Terminal(office, "exec", "office", "spare", "--", "python3", "-c", program)
    assert terminal.shows("True True True True")
    terminal.press("\x03")
    assert terminal.end() == 9
    assert "heard it" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_exec_ended_by_ctrl_c_is_130_and_a_signal_is_passed_on(office: User) -> None:
    terminal = Terminal(office, "exec", "office", "spare", "sleep", "60")
    assert eventually(lambda: any(each.endswith(": sleep 60 ") for each in office.left()))
    terminal.press("\x03")
    assert terminal.end() == 130
    client = office.starts("exec", "office", "spare", "sleep", "61")
    assert eventually(lambda: any(each.endswith(": sleep 61 ") for each in office.left()))
    client.terminate()
    client.communicate(timeout=20)
    assert client.returncode == 143


def test_ping_prints_as_ping_does(office: User) -> None:
    lines = office.does("ping", "office", "alice", "bob", "--count", "2").splitlines()
    assert lines[0] == "PING bob (10.1.0.20) from alice: 56 data bytes"
    assert [line.split(" time=")[0] for line in lines[1:3]] == [
        f"64 bytes from 10.1.0.20: icmp_seq={number}" for number in (1, 2)
    ]
    assert lines[4] == "--- bob ping statistics ---"
    assert lines[5].startswith("2 packets transmitted, 2 received, 0% packet loss, time ")
    assert lines[6].startswith("rtt min/avg/max/mdev = ")
    said = json.loads(office.does("ping", "office", "alice", "fd00:1::2", "-c", "3", "-i", "0", "--json"))
    assert (said["address"], said["sent"], said["received"], said["loss"]) == ("fd00:1::2", 3, 3, 0)
    assert 0 < said["min"] <= said["avg"] <= said["max"] < 1
    assert office.does("ping", "office", "alice", "bob", "-6", "-c", "1").startswith("PING bob (fd00:1::2)")


def test_ping_that_gets_no_answer_is_exit_code_1(office: User) -> None:
    done = office.types("ping", "office", "alice", "10.1.0.99", "-c", "2", "-i", "0")
    assert done.returncode == 1
    assert "From alice icmp_seq=2: no_host" in done.stdout
    assert "2 packets transmitted, 0 received, +2 errors, 100% packet loss" in done.stdout
    # The program is there, and does not answer.
    done = office.types("ping", "office", "alice", "web", "-c", "1", "-W", "0.05")
    assert (done.returncode, "no answer to icmp_seq=1" in done.stdout) == (1, True)


def test_ping_says_what_is_wrong(office: User) -> None:
    for arguments, says in (
        (["web", "bob"], "'web' is a process node, whose program owns its NIC; pings start at a host"),
        (["alise", "bob"], "lab 'office' has no node 'alise' (did you mean 'alice'?)"),
        (["alice", "bop"], "'bop' is neither a node of the lab nor an IP address (did you mean 'bob'?)"),
        (["alice", "10.1.0.20", "-6"], "10.1.0.20 is no IPv6 address"),
        (["alice", "bob", "-i", "nan"], "--interval is a time such as 50ms, or a number of seconds, not nan"),
        (["alice", "bob", "-i", "soon"], "--interval: "),
        (["alice", "bob", "-W", "0s"], "--timeout is above 0"),
    ):
        assert says in office.fails("ping", "office", *arguments)


def test_ctrl_c_ends_a_ping_with_its_statistics(office: User) -> None:
    terminal = Terminal(office, "ping", "office", "alice", "bob", "-c", "0", "-i", "0.05")
    assert terminal.shows("icmp_seq=3")
    terminal.press("\x03")
    assert terminal.end() == 130
    assert "0% packet loss" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_logs_show_what_was_printed_and_the_last_lines_of_it(office: User) -> None:
    assert office.does("logs", "office", "web") == "started 10.1.0.2 fd00:1::3\nup\n"
    assert office.does("logs", "office", "web", "--lines", "1") == "up\n"
    assert office.does("logs", "office", "web", "-n", "0") == ""
    told = json.loads(office.does("logs", "office", "web", "--json"))
    assert (told["format"], told["node"], told["missing_bytes"]) == (1, "web", 0)
    assert told["output"] == "started 10.1.0.2 fd00:1::3\nup\n"
    assert "'alice' is a built-in host, which prints nothing" in office.fails("logs", "office", "alice")
    assert "'spare' is a node without a command" in office.fails("logs", "office", "spare")


def test_logs_keep_the_last_mebibyte_byte_for_byte(user: User) -> None:
    noise = "import sys\nfor n in range(40000): sys.stdout.buffer.write(b'\\xff%039d\\n' % n)\n"
    user.write("web.py", noise + "sys.stdout.flush()\n" + WEB)
    user.write("office.yaml", LAB)
    user.does("up", "office.yaml")
    done = subprocess.run(
        [*VNET, "logs", "office", "web"], capture_output=True, env=user.environment, check=True, timeout=60
    )
    assert len(done.stdout) == 1 << 20
    assert done.stdout.splitlines()[-3] == b"\xff%039d" % 39999
    printed = 40000 * 41 + len("started 10.1.0.2 fd00:1::3\nup\n")
    assert done.stderr.decode() == f"[{printed - (1 << 20):,} bytes earlier are not kept]\n"


def test_logs_follow_through_a_restart_to_the_end_of_the_lab(office: User) -> None:
    terminal = Terminal(office, "logs", "office", "web", "--follow", "--lines", "1")
    assert terminal.shows("up")
    office.does("restart", "office", "web")
    assert terminal.shows("started 10.1.0.2 fd00:1::3\r\nup")
    office.does("down", "office")
    assert terminal.end() == 0
    assert terminal.shown == "up\r\nstarted 10.1.0.2 fd00:1::3\r\nup\r\n"


def test_logs_follow_as_objects_of_a_line_each(office: User) -> None:
    terminal = Terminal(office, "logs", "office", "web", "--follow", "--json")
    assert terminal.shows('"line": "up"')
    office.does("down", "office")
    assert terminal.end() == 0
    told = [json.loads(line) for line in terminal.shown.splitlines()]
    assert [each["line"] for each in told] == ["started 10.1.0.2 fd00:1::3", "up"]


def test_ctrl_c_ends_a_follower_and_not_the_lab(office: User) -> None:
    terminal = Terminal(office, "logs", "office", "web", "-f")
    assert terminal.shows("up")
    terminal.press("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    office.does("ping", "office", "alice", "bob", "-c", "1")


def test_restart_starts_the_command_again_with_the_same_addresses(office: User) -> None:
    def web() -> dict[str, object]:
        return next(n for n in json.loads(office.does("show", "office", "--json"))["nodes"] if n["name"] == "web")

    before = web()
    assert office.does("restart", "office", "web").startswith("web is up again (")
    after = web()
    assert after["addresses"] == before["addresses"]
    assert after["pid"] != before["pid"]
    assert not Path(f"/proc/{before['pid']}").exists()
    # A command that has ended is started again, too.
    os.kill(int(str(after["pid"])), signal.SIGKILL)
    office.does("restart", "office", "web")
    assert web()["state"] == "up"


def test_restart_makes_a_host_anew(office: User) -> None:
    assert json.loads(office.does("restart", "office", "bob", "--json"))["node"] == "bob"
    office.does("ping", "office", "bob", "alice", "-c", "1")
    office.does("ping", "office", "alice", "bob", "-c", "1")


def test_restart_tells_of_a_node_that_does_not_come_up_again(office: User) -> None:
    office.write("web.py", "raise SystemExit('out of order')\n")
    assert office.fails("restart", "office", "web").endswith(
        "nodes.web: the command ended with code 1 before it attached; its last output was: out of order"
    )
    assert "web did not come up: office.yaml:6: nodes.web" in office.types("show", "office").stderr
    assert "'spare' has no command to start again" in office.fails("restart", "office", "spare")
    assert "has no node 'wep' (did you mean 'web'?)" in office.fails("restart", "office", "wep")
    office.write("web.py", WEB)
    office.does("restart", "office", "web")
    assert office.types("show", "office").stderr == ""


def test_link_says_that_there_are_none(office: User) -> None:
    assert office.does("link", "office").startswith("office has no links: ")
    assert json.loads(office.does("link", "office", "--json"))["links"] == []
    assert "does not support links with an impairment yet" in office.fails(
        "link", "office", "alice", "desk", "--delay", "20ms"
    )
    assert "no router is called 'alice'" in office.fails("link", "office", "alice", "desk", "--cut")


def test_a_base_that_dies_under_a_call_is_told(office: User) -> None:
    base = json.loads(office.does("ls", "--json"))["lans"][0]["pid"]
    client = office.starts("ping", "office", "alice", "bob", "-c", "0")
    assert client.stdout
    assert client.stdout.readline().startswith("PING")
    os.kill(base, signal.SIGKILL)
    _, error = client.communicate(timeout=20)
    assert (client.returncode, error) == (2, "vnet: the base ended before it had answered\n")


def test_completion_knows_labs_and_nodes_and_is_silent_about_all_else(
    office: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(office.runtime))
    context = SimpleNamespace(params={"lab": "office"})
    assert vnet.cli.complete.complete_lab(context, [], "of") == ["office"]  # type: ignore[arg-type]
    assert vnet.cli.complete.complete_lab(context, [], "x") == []  # type: ignore[arg-type]
    assert vnet.cli.complete.complete_node(context, [], "") == ["alice", "bob", "spare", "web"]  # type: ignore[arg-type]
    assert vnet.cli.complete.complete_node(context, [], "w") == ["web"]  # type: ignore[arg-type]
    (lan,) = json.loads(office.does("ls", "--json"))["lans"]
    os.kill(lan["pid"], signal.SIGSTOP)
    before = time.monotonic()
    assert vnet.cli.complete.complete_node(context, [], "") == []  # type: ignore[arg-type]
    # The base is stopped for as long as we like.
    assert time.monotonic() - before < 5
    os.kill(lan["pid"], signal.SIGCONT)
    context.params = {"lab": "nobody"}
    assert vnet.cli.complete.complete_node(context, [], "") == []  # type: ignore[arg-type]
    context.params = {}
    assert vnet.cli.complete.complete_node(context, [], "") == []  # type: ignore[arg-type]
