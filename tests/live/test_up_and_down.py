"""Labs come up in the background, stay up, and go without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .users import VNET, Terminal, User, children, eventually, processes

TWO = "networks: {lan: 10.0.0.0/24}\nnodes: {alice: , bob: }\n"
# A program that attaches, and a child of it that would outlive it.
SERVER = """\
import os, subprocess, sys, time, vnet
nic = vnet.attach()
subprocess.Popen(["sleep", "1000"])
print("serving", *nic.addresses, os.environ.get("COLOUR", ""), flush=True)
while True:
    time.sleep(1000)
"""
SERVED = "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n  web: {kind: process, exec: python3 server.py}\n"


def served(user: User) -> None:
    user.write("server.py", SERVER)
    user.write("web.yaml", SERVED)


def test_a_lab_of_500_hosts_comes_up_answers_and_goes(user: User) -> None:
    user.write("many.yaml", "networks: {lan: 10.0.0.0/16}\nnodes: {h: {count: 500}}\n")
    said = json.loads(user.does("up", "many.yaml", "--json"))
    assert (said["lab"], said["nodes"], said["started"]) == ("many", 500, True)
    # The base, and the shell that guards it.
    assert sorted(processes(user.mark)) == sorted([said["pid"], *children(said["pid"])])
    assert "3 packets transmitted, 3 received, 0% packet loss" in user.does("ping", "many", "h-1", "h-500", "-c", "3")
    assert user.does("down", "many") == "many is down\n"
    # When the command returns, not some time later.
    assert user.left() == []


def test_a_lab_outlives_the_terminal_in_which_it_was_started(user: User) -> None:
    served(user)
    terminal = Terminal(user, "up", "web.yaml")
    assert terminal.end() == 0
    assert "web is up: 2 nodes" in terminal.shown
    (base,) = (each["pid"] for each in json.loads(user.does("ls", "--json"))["lans"])
    stat = Path(f"/proc/{base}/stat").read_text().rpartition(")")[2].split()
    session, tty = int(stat[3]), int(stat[4])
    assert (session, tty) == (base, 0)
    assert {os.readlink(f"/proc/{base}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    assert os.readlink(f"/proc/{base}/cwd") == "/"
    assert user.does("ls").splitlines()[1].startswith("web   lab")


def test_a_lab_keeps_nothing_open_that_its_starter_had_open(user: User) -> None:
    user.write("two.yaml", TWO)
    read, write = os.pipe()
    os.set_inheritable(write, True)
    done = user.types("up", "two.yaml", pass_fds=[write])
    os.close(write)
    assert done.returncode == 0
    # The end of the file, although the lab is up: a shell that waits for `x=$(vnet up ...)` goes on.
    assert os.read(read, 1) == b""
    os.close(read)


def test_down_takes_names_files_and_all(user: User) -> None:
    for name in ("one", "two", "three"):
        user.write(f"{name}.yaml", TWO)
        user.does("up", f"{name}.yaml")
    assert user.does("down", "one", "./two.yaml") == "one is down\ntwo is down\n"
    assert user.does("down", "--all") == "three is down\n"
    assert user.does("down", "--all") == "no lab of yours is up\n"


def test_down_ends_nothing_where_one_of_the_names_is_wrong(user: User) -> None:
    user.write("two.yaml", TWO)
    user.does("up", "two.yaml")
    said = user.fails("down", "two", "tow")
    assert said == "vnet: no LAN named 'tow' is up (did you mean 'two'?); up are two"
    assert user.does("ls").splitlines()[1].startswith("two")


def test_down_ends_commands_with_all_that_they_started(user: User) -> None:
    served(user)
    user.does("up", "web.yaml")
    # The lab is up once the program has attached, and only then it starts something.
    assert eventually(lambda: any("sleep 1000" in command for command in processes(user.mark).values()))
    user.does("down", "web")
    assert user.left() == []


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(user: User) -> None:
    user.write("server.py", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER)
    user.write("web.yaml", SERVED)
    user.does("up", "web.yaml")
    before = time.monotonic()
    user.does("down", "web")
    assert time.monotonic() - before > 2.0
    assert user.left() == []


def test_the_base_ends_in_good_order_when_it_gets_sigterm(user: User) -> None:
    served(user)
    base = json.loads(user.does("up", "web.yaml", "--json"))["pid"]
    os.kill(base, signal.SIGTERM)
    assert user.nothing_is_left(3.0), user.left()


def test_a_base_that_is_killed_leaves_nothing_and_the_lab_comes_up_again(user: User) -> None:
    served(user)
    base = json.loads(user.does("up", "web.yaml", "--json"))["pid"]
    os.kill(base, signal.SIGKILL)
    assert user.nothing_is_left(), user.left()
    assert user.fails("show", "web.yaml") == (
        "vnet: the lab of web.yaml is not up (no LAN of this user is up); vnet up web.yaml starts it"
    )
    user.does("up", "web.yaml")


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("no-such-program", 3, "web.yaml:4: nodes.web: the shell found no such command; install the program"),
        ("[no-such-program]", 3, "web.yaml:4: nodes.web: cannot run no-such-program: No such file or directory"),
        ("'echo no licence; exit 4'", 2, "the command ended with code 4 before it attached; its last output was: no"),
        (
            "'kill -SEGV $$'",
            2,
            "web.yaml:4: nodes.web: the command was ended by SIGSEGV before it attached; it printed",
        ),
    ],
)
def test_a_lab_with_a_node_that_fails_does_not_come_up(user: User, command: str, code: int, says: str) -> None:
    user.write("web.yaml", SERVED.replace("python3 server.py", command))
    assert says in user.fails("up", "web.yaml", code=code)
    # When the command returns.
    assert user.left() == []


def test_errors_are_json_where_json_is_wanted(user: User) -> None:
    user.write("web.yaml", SERVED.replace("kind: process", "kind: proces"))
    done = user.types("up", "web.yaml", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["file"], error["line"]) == (2, "web.yaml", 4)
    assert "did you mean 'process'" in done.stderr


def test_a_guest_that_attaches_and_lets_go_at_once_counts_as_attached(user: User) -> None:
    user.write("server.py", "import time, vnet\nvnet.attach().close()\ntime.sleep(1000)\n")
    user.write("web.yaml", SERVED)
    user.does("up", "web.yaml")
    assert [line.split()[4:6] for line in user.does("show", "web").splitlines()[3:]] == [
        ["up", "0"],
        ["not", "attached"],
    ]


@pytest.mark.parametrize("keys", ["\x03", "\x1c"])
def test_keys_that_are_pressed_after_up_do_not_reach_the_lab(user: User, keys: str) -> None:
    served(user)
    shell = Terminal(user, "up", "web.yaml")
    assert shell.shows("is up")
    shell.press(keys)
    shell.end()
    assert "web   lab" in user.does("ls")


SLOW = (
    "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n  slow: {kind: process, exec: 'trap \"\" TERM; sleep 30 & wait'}\n"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_comes_up_takes_it_down(user: User, number: signal.Signals) -> None:
    user.write("slow.yaml", SLOW)
    client = user.starts("up", "slow.yaml")
    assert eventually(lambda: any("sleep 30" in command for command in processes(user.mark).values()))
    client.send_signal(number)
    out, error = client.communicate(timeout=20)
    assert (client.returncode, out, error) == (128 + number, "", "")
    assert user.left() == []


def test_ctrl_c_in_a_terminal_takes_it_down_and_the_line_back(user: User) -> None:
    user.write("slow.yaml", SLOW)
    terminal = Terminal(user, "up", "slow.yaml")
    assert terminal.shows("waiting for slow to be ready")
    terminal.press("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    # The last that is written takes the line of progress back.
    assert terminal.shown.endswith("\r\x1b[K")
    assert user.left() == []


def test_ctrl_c_during_down_kills_what_is_slow_to_end(user: User) -> None:
    user.write("server.py", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER)
    user.write("web.yaml", SERVED)
    user.does("up", "web.yaml")
    terminal = Terminal(user, "down", "web")
    assert terminal.shows("ending web")
    terminal.press("\x03")
    assert terminal.end() == 130
    assert user.nothing_is_left(), user.left()


def test_down_ends_a_lab_that_is_on_its_way_up(user: User) -> None:
    user.write("slow.yaml", SLOW)
    client = user.starts("up", "slow.yaml")
    assert eventually(lambda: any("sleep 30" in command for command in processes(user.mark).values()))
    user.does("down", "slow")
    out, error = client.communicate(timeout=20)
    assert (client.returncode, out) == (2, "")
    assert error == "vnet: the lab was taken down while it came up\n"


def test_any_terminal_will_do(user: User) -> None:
    served(user)
    for arguments, terminal in (
        (("up", "web.yaml"), {"TERM": "dumb"}),
        (("show", "web"), {"TERM": "dumb"}),
        (("show", "web"), {"TERM": ""}),
        (("show", "web"), {"NO_COLOR": "1"}),
        (("ls",), {"COLUMNS": "0"}),
        (("restart", "web", "web"), {"COLUMNS": "0"}),
        (("down", "web"), {"TERM": ""}),
    ):
        screen = Terminal(user, *arguments, **terminal)
        assert screen.end() == 0
        assert "web" in screen.shown
        assert "Traceback" not in screen.shown
        if "TERM" in terminal:
            assert "\x1b" not in screen.shown


def test_no_output_at_all_and_a_full_disk_are_told_apart(user: User) -> None:
    served(user)
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *VNET]
    done = subprocess.run([*shell, "up", "web.yaml"], cwd=user.directory, env=user.environment, timeout=60, check=False)
    assert done.returncode == 0
    assert user.does("down", "web") == "web is down\n"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*VNET, "up", "web.yaml"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=user.directory,
            env=user.environment,
            timeout=60,
            check=False,
        )
    # Nobody has been told that it is up, so it is not.
    assert (done.returncode, "no space left on device" in done.stderr) == (2, True)
    assert user.left() == []


def test_a_directory_that_is_gone_is_told(user: User) -> None:
    command = 'mkdir gone; cd gone; rmdir ../gone; "$@" up - < ../two.yaml'
    user.write("two.yaml", TWO)
    done = subprocess.run(
        ["sh", "-c", command, "sh", *VNET],
        capture_output=True,
        text=True,
        cwd=user.directory,
        env=user.environment,
        timeout=60,
        check=False,
    )
    said = "<stdin>: the current directory, where its commands would begin, is gone\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_output_into_a_closed_pipe_changes_nothing(user: User) -> None:
    served(user)
    for arguments in (
        *(("up", "web.yaml"), ("up", "web.yaml"), ("ls",), ("show", "web"), ("show", "web", "--json")),
        *(
            ("logs", "web", "web"),
            ("link", "web"),
            ("restart", "web", "alice"),
            ("down", "web"),
            ("up", "web.yaml", "--json"),
        ),
    ):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [*VNET, *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            cwd=user.directory,
            env=user.environment,
            timeout=60,
            check=False,
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    assert user.does("down", "web") == "web is down\n"


def test_wrong_use_of_every_verb_is_one_sentence(user: User) -> None:
    for arguments in (
        *(["up"], ["down"], ["down", "x", "--all"], ["ls", "x"], ["show", "../.."], ["exec", "x", "y", "--"]),
        *(["ping", "x", "y", "z", "-4", "-6"], ["logs", "x", "y", "--lines", "-1"], ["restart", "x"]),
        *(["link", "x", "--delay", "1ms"], ["show", "a\nb"], ["up", "nobody.yaml"], ["uup"]),
    ):
        said = user.fails(*arguments)
        assert said.startswith(("vnet: ", "nobody.yaml: ")), said


def test_every_verb_s_help_has_an_example(user: User) -> None:
    for verb in ("up", "down", "ls", "show", "exec", "ping", "logs", "restart", "link"):
        assert f"Example: vnet {verb}" in user.does(verb, "--help")
