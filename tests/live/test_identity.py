"""A lab is its live base: no file, no name pattern and no number stands for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import datagram

import vnet
import vnet.control

from .users import User, at_a_shell, eventually

TWO = "name: office\nnetworks: {lan: 10.0.0.0/24}\nnodes: {alice: , bob: }\n"


def test_labs_of_one_name_in_two_runtime_directories_do_not_touch(another: Callable[[str], User]) -> None:
    ann, ben = another("ann"), another("ben")
    ann.write("office.yaml", TWO)
    ann.does("up", "office.yaml")
    # The same file, the same name: to Ben there is no such lab.
    assert "no LAN of this user is up" in ben.fails("down", "office")
    assert ben.does("down", "--all") == "no lab of yours is up\n"
    assert "office is up: 2 nodes" in ben.does("up", "office.yaml")
    pids = [json.loads(user.does("ls", "--json"))["lans"][0]["pid"] for user in (ann, ben)]
    assert pids[0] != pids[1]
    assert ben.does("down", "--all") == "office is down\n"
    ann.does("ping", "office", "alice", "bob", "-c", "1")


NOBODY = 65534
# The interpreter and its libraries may lie where only root can read them, so all that is needed is imported before.
AS_NOBODY = f"""
import encodings.utf_8_sig, os, pwd, sys
import ruamel.yaml, rich.console, rich.table
import vnet.calls, vnet.cli.app, vnet.cli.progress, vnet.cli.table, vnet.lab.finding, vnet.lab.launch
import vnet.lab.service, vnet.lab.source
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
sys.argv[0] = "vnet"
vnet.cli.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_labs_of_two_users_do_not_touch(tmp_path: Path, runtime_directory: Path) -> None:
    theirs, ours = runtime_directory / "theirs", runtime_directory / "ours"
    for directory, owner in ((theirs, NOBODY), (ours, 0)):
        directory.mkdir(mode=0o700)
        os.chown(directory, owner, owner)
    runtime_directory.chmod(0o755)
    lab = runtime_directory / "office.yaml"
    lab.write_text(TWO)
    lab.chmod(0o644)

    def as_nobody(*arguments: str, runtime: Path = theirs) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "HOME": "/"},
            timeout=60,
            check=False,
        )

    with at_a_shell(tmp_path, ours) as root:
        root.does("up", str(lab))
        done = as_nobody("up", str(lab))
        assert done.returncode == 0, done.stderr
        # Even in one another's directory.
        assert as_nobody("down", "office", runtime=ours).returncode == 2
        root.environment["XDG_RUNTIME_DIR"] = str(theirs)
        assert root.does("down", "--all") == "no lab of yours is up\n"
        root.environment["XDG_RUNTIME_DIR"] = str(ours)
        root.does("ping", "office", "alice", "bob", "-c", "1")
        assert as_nobody("down", "--all").stdout == "office is down\n"
        root.does("down", "office")
    for path in (theirs, ours, lab):
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_file_that_lies_there_is_no_lab(user: User) -> None:
    directory = user.runtime / "vnet"
    directory.mkdir(mode=0o700)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(directory / "office.sock"))
    dead.close()
    user.write("office.yaml", TWO)
    assert "no LAN of yours is up" in user.types("ls").stderr
    assert "no LAN of this user is up" in user.fails("show", "office")
    assert user.does("down", "--all") == "no lab of yours is up\n"
    user.does("up", "office.yaml")
    user.does("down", "office")


def test_what_listens_there_and_is_no_base_is_no_lab(user: User) -> None:
    directory = user.runtime / "vnet"
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(directory / "office.sock"))
        stranger.listen()
        done = user.types("ls", "--json")
        assert json.loads(done.stdout)["lans"][0]["kind"] is None
        assert f"(process {os.getpid()}) does not answer" in user.fails("down", "office")
    (directory / "office.sock").unlink()
    directory.rmdir()


def test_the_lan_of_a_program_is_listed_and_shown_and_is_no_lab(user: User) -> None:
    with vnet.Lan("mine", "10.0.0.0/24") as lan:
        lan.host("alice")
        (found,) = json.loads(user.does("ls", "--json"))["lans"]
        assert (found["name"], found["kind"], found["nodes"], found["pid"]) == ("mine", "program", 1, os.getpid())
        assert "alice  host" in user.does("show", "mine")
        for arguments in (["down", "mine"], ["restart", "mine", "alice"], ["exec", "mine", "alice", "ls"]):
            said = user.fails(*arguments)
            assert f"'mine' is the LAN of a program (process {os.getpid()}) and no lab that vnet up started" in said
        assert user.does("down", "--all") == "no lab of yours is up\n"
        user.write("mine.yaml", TWO.replace("office", "mine"))
        assert "'mine' is up as the LAN of a program" in user.fails("up", "mine.yaml")
        assert lan.host("bob").ping("10.0.0.1").received == 1


def test_a_run_is_listed_and_answers_and_ends_by_itself(user: User) -> None:
    user.write("office.yaml", TWO + "steps: [{exec: {command: 'echo started > mark; sleep 30'}}]\n")
    run = user.starts("run", "office.yaml")
    try:
        assert eventually((user.directory / "mark").exists)
        assert json.loads(user.does("ls", "--json"))["lans"][0]["kind"] == "run"
        user.does("ping", "office", "alice", "bob", "-c", "1")
        assert "'office' is a run" in user.fails("down", "office")
        assert "'office' is up as a run" in user.fails("up", "office.yaml")
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=20)


def test_a_base_that_is_stopped_is_told_and_can_be_killed(user: User) -> None:
    user.write("office.yaml", TWO)
    base = json.loads(user.does("up", "office.yaml", "--json"))["pid"]
    os.kill(base, signal.SIGSTOP)
    said = user.fails("show", "office")
    assert said.endswith(
        f"(process {base}) does not answer; is it stopped? kill -KILL {base} ends it and leaves nothing"
    )
    assert "no answer" in user.does("ls")
    os.kill(base, signal.SIGKILL)
    assert user.nothing_is_left(), user.left()


def test_two_who_start_a_lab_at_once_get_one(user: User) -> None:
    user.write("office.yaml", TWO)
    clients = [user.starts("up", "office.yaml") for _ in range(4)]
    said = [client.communicate(timeout=60) for client in clients]
    assert [client.returncode for client in clients] == [0] * 4, said
    assert sorted("is up: 2 nodes" in out for out, _ in said) == [False, False, False, True]
    assert len(json.loads(user.does("ls", "--json"))["lans"]) == 1


def test_a_lab_is_found_by_its_file_from_anywhere(user: User) -> None:
    user.write("office.yaml", TWO)
    link = user.directory / "link.yaml"
    link.symlink_to("office.yaml")
    user.does("up", "link.yaml")
    assert user.does("up", "office.yaml").endswith("nothing changed\n")
    user.directory = user.directory.parent
    assert "alice" in user.does("show", str(link))
    assert user.does("down", str(link)) == "office is down\n"


def test_a_shipped_lab_is_up_by_its_name(user: User) -> None:
    user.does("up", "quickstart")
    assert user.does("down", "quickstart") == "quickstart is down\n"


def test_a_new_nic_of_an_old_name_is_not_buried_with_the_old_one() -> None:
    with vnet.Lan("office", "10.0.0.0/24") as lan:
        lan.reserve("web", "10.0.0.5")
        old = vnet.attach("office", "web")
        lan.remove("web")
        # Takes the slot, so that the new one comes to the same generation in another.
        lan.reserve("first", "10.0.0.6")
        lan.reserve("web", "10.0.0.7")
        new = vnet.attach("office", "web")
        assert (old._generation, old.slot) == (new._generation, new.slot - 1)
        assert old._connection
        old._connection.shutdown(socket.SHUT_RDWR)
        # Answered after the base has heard of the broken connection.
        assert {nic["name"]: nic["state"] for nic in vnet.control.describe("office")["nics"]}["web"] == "up"
        assert new.send(datagram("10.0.0.7", "10.0.0.6")) is vnet.Verdict.NIC_DOWN
        old.close()
        new.close()


def test_attachments_count_those_who_have_let_go() -> None:
    with vnet.Lan("office", "10.0.0.0/24") as lan:
        lan.reserve("web", "10.0.0.5")
        assert (lan.attachments("web"), lan.attachments("nobody")) == (0, 0)
        for count in (1, 2):
            vnet.attach("office", "web").close()
            assert (lan.attachments("web"), lan.attached("web")) == (count, False)
