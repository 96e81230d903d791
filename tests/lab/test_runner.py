"""The runner: what is up while the steps run, what the report says, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import fake_lan
import pytest
from fake_lan import FakeLan
from reading import ReadLab

from vnet.errors import CaptureError, MachineLacks, VnetError
from vnet.lab.report import Report, write_report
from vnet.lab.runner import Options, run_lab
from vnet.lab.signals import Terminated

TWO = "networks: {lan: 10.0.0.0/24}\nnodes: {alice: , bob: }\nsteps:\n"
GUEST = "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n  guest: {kind: process, exec: %s}\nsteps:\n"


class Recorder:
    """Makes fake LANs and remembers them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.made: list[FakeLan] = []

    def __call__(self, name: str, **settings: Any) -> FakeLan:
        self.made.append(FakeLan(name, **settings, **self.settings))
        return self.made[-1]


@pytest.fixture
def lans() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def _no_name_is_left() -> Any:
    yield
    assert not fake_lan.names


def run(lab: Any, lans: Recorder, **options: Any) -> Report:
    return run_lab(lab, Options(make_lan=lans, **options))


def outcomes(report: Report) -> list[str]:
    return [step.outcome for step in report.steps]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_the_lan_is_built_as_planned_and_closed(read: ReadLab, lans: Recorder) -> None:
    report = run(read("seed: 9\n" + TWO + "  - ping: {from: alice, to: bob, count: 3}\n"), lans)
    (lan,) = lans.made
    assert (lan.name, lan.seed, lan.networks) == ("lab", 9, {"lan": ["10.0.0.0/24"]})
    assert lan.hosts == {"alice": ("10.0.0.1",), "bob": ("10.0.0.2",)}
    assert lan.closed
    assert report.passed
    assert report.steps[0].metrics["received"] == 3


def test_a_taken_lan_name_gets_a_number(read: ReadLab, lans: Recorder) -> None:
    with FakeLan("lab"):
        report = run(read(TWO + "  - wait: 1ms\n"), lans)
    assert (report.lab, report.lan) == ("lab", f"lab-{os.getpid()}")


def test_a_failed_step_ends_the_run_and_the_rest_is_skipped(read: ReadLab, lans: Recorder) -> None:
    lab = read(TWO + "  - ping: {from: alice, to: 10.0.0.99}\n  - wait: 1ms\n")
    report = run(lab, lans)
    assert outcomes(report) == ["failed", "skipped"]
    assert not report.passed
    (check,) = report.steps[0].checks
    assert (check.metric, check.expected, check.found) == ("loss", "0%", "100%")
    assert report.steps[0].line == 4
    assert outcomes(run(lab, lans, keep_going=True)) == ["failed", "passed"]


def test_exec_sees_the_lan_and_its_output_is_kept(read: ReadLab, lans: Recorder) -> None:
    report = run(
        read(
            TWO.replace("bob: ", "bob: {kind: process, env: {COLOUR: red}}")
            + "  - exec: {on: bob, command: 'echo $VNET_LAN $VNET_NIC $COLOUR; echo oh >&2; exit 3'}\n"
            + "    expect: {code: 3, stdout: lab bob red, stderr: {contains: [o, h], matches: ^oh$}}\n"
            + "  - exec: {command: [sh, -c, 'echo ${VNET_NIC-none}; pwd']}\n"
            + "    expect: {stdout: {contains: none}}\n"
        ),
        lans,
    )
    assert report.passed
    assert str(Path(report.file).parent) in str(report.steps[1].metrics["stdout"])


def test_exec_that_takes_too_long_fails_and_is_ended_with_all_it_started(read: ReadLab, lans: Recorder) -> None:
    lab = read(
        TWO + "  - exec: {command: 'sleep 99 & echo $!; sleep 99', timeout: 200ms}\n    expect: {code: '>= 0'}\n"
    )
    report = run(lab, lans)
    assert report.steps[0].failure == "the command still ran after 200 ms"
    child = int(str(report.steps[0].metrics["stdout"]))
    assert eventually(lambda: not alive(child))


def test_a_child_that_exec_leaves_behind_is_ended(read: ReadLab, lans: Recorder) -> None:
    report = run(read(TWO + "  - exec: {command: 'sleep 99 & echo $!'}\n"), lans)
    assert report.passed
    assert eventually(lambda: not alive(int(str(report.steps[0].metrics["stdout"]))))


def test_the_python_that_runs_vnet_is_the_python3_of_commands(read: ReadLab, lans: Recorder) -> None:
    report = run(read(TWO + "  - exec: {command: python3 -c 'import sys; print(sys.prefix)'}\n"), lans)
    assert str(report.steps[0].metrics["stdout"]).strip() == sys.prefix


def test_endless_output_is_cut_and_says_so(read: ReadLab, lans: Recorder) -> None:
    report = run(read(TWO + "  - exec: {command: yes | head -c 3000000}\n"), lans)
    output = str(report.steps[0].metrics["stdout"])
    assert output.startswith("[1,951,424 bytes earlier]\n")
    assert len(output) < 1_100_000


def test_inject_counts_each_verdict(read: ReadLab, lans: Recorder) -> None:
    report = run(
        read(
            TWO + "  - inject:\n      from: alice\n      count: 2\n      packet: |\n"
            "        [IP(dst='bob')/UDP(), IP(dst='10.0.0.9')/UDP(), IP(dst='192.0.2.1')/UDP(), b'']\n"
            "    expect: {sent: 8, delivered: 2, no_host: 2, no_route: 2, malformed: 2}\n"
        ),
        lans,
    )
    assert report.passed
    assert {nic for nic, _ in lans.made[0].injected} == {"alice"}


def test_an_interval_spreads_datagrams(read: ReadLab, lans: Recorder) -> None:
    packet = 'IP(dst="bob")'
    step = (
        f"  - inject: {{from: alice, packet: '{packet}', count: 4, interval: 20ms}}\n    expect: {{time: '>= 60ms'}}\n"
    )
    assert run(read(TWO + step), lans).passed


def test_guests_run_with_their_nic_and_are_ended_with_all_they_started(
    read: ReadLab, lans: Recorder, tmp_path: Path
) -> None:
    command = "'echo $VNET_LAN $VNET_NIC; sleep 99 & echo $! > child; echo $$ > parent; wait'"
    report = run(read(GUEST % command + "  - wait: 200ms\n"), lans, out=tmp_path)
    assert report.passed
    assert (tmp_path / "logs" / "guest.log").read_text() == "lab guest\n"
    for name in ("child", "parent"):
        assert eventually(lambda: not alive(int((tmp_path / name).read_text())))  # noqa: B023 - used at once
    assert not lans.made[0].guarded
    assert lans.made[0].captures[0].closed


def test_a_guest_that_ignores_sigterm_is_killed(read: ReadLab, lans: Recorder, tmp_path: Path) -> None:
    run(read(GUEST % """'trap "" TERM; echo $$ > pid; while :; do sleep 1; done'""" + "  - wait: 100ms\n"), lans)
    assert eventually(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_a_guest_that_does_not_attach_is_an_error_with_its_last_words(read: ReadLab) -> None:
    lans = Recorder(attaches=False)
    with pytest.raises(VnetError, match=r"lab.yaml:4: nodes.guest: .*did not attach within 0.3 s.*: one moment"):
        run(read(GUEST % "'echo one moment; sleep 99'" + "  - wait: 1ms\n"), lans, attach_seconds=0.3)
    assert lans.made[0].closed


def test_a_guest_that_fails_before_it_attaches_is_told_at_once(read: ReadLab) -> None:
    with pytest.raises(VnetError, match="ended with code 4 before it attached; its last output was: no licence"):
        run(read(GUEST % "'echo no licence >&2; exit 4'" + "  - wait: 1ms\n"), Recorder(attaches=False))


@pytest.mark.parametrize("command", ["no-such-program --x", "[no-such-program, --x]"])
def test_a_program_that_is_not_here_is_what_the_machine_lacks(read: ReadLab, command: str) -> None:
    with pytest.raises(MachineLacks, match=r"lab.yaml:4: nodes.guest: .*install the program or correct 'exec'"):
        run(read(GUEST % command + "  - wait: 1ms\n"), Recorder(attaches=False))


def test_a_guest_that_crashes_during_the_run_fails_it(read: ReadLab, lans: Recorder) -> None:
    report = run(read(GUEST % "'sleep 0.1; echo ouch; kill -SEGV $$'" + "  - wait: 300ms\n"), lans)
    assert outcomes(report) == ["passed"]
    assert not report.passed
    assert report.crashed[0].failure == "the command was ended by SIGSEGV while the lab ran; its last output was: ouch"


def test_a_capture_that_is_not_whole_fails_the_run_and_is_told(
    read: ReadLab, lans: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any) -> None:
        raise CaptureError("capture.pcapng is not whole: no space left on device")

    monkeypatch.setattr(fake_lan.FakeCapture, "close", full)
    report = run(read(TWO + "  - wait: 1ms\n"), lans, out=tmp_path)
    assert outcomes(report) == ["passed"]
    assert not report.passed
    assert b"no space left on device" in report.as_junit()
    assert lans.made[0].closed


def test_an_error_of_the_lan_fails_the_step_and_takes_everything_down(read: ReadLab, lans: Recorder) -> None:
    class Refusing(FakeLan):
        def inject(self, *_: Any, **__: Any) -> Any:
            raise VnetError("not today")

    made: list[FakeLan] = []

    def make(name: str, **settings: Any) -> FakeLan:
        made.append(Refusing(name, **settings))
        return made[-1]

    report = run_lab(read(TWO + "  - inject: {from: alice, packet: IP()}\n"), Options(make_lan=make))
    assert report.steps[0].failure == "VnetError: not today"
    assert made[0].closed


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)]
)
def test_a_signal_takes_the_lab_down(
    read: ReadLab, lans: Recorder, tmp_path: Path, number: signal.Signals, error: type[BaseException]
) -> None:
    lab = read(GUEST % "'echo $$ > pid; exec sleep 99'" + "  - wait: 60s\n")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    before = signal.getsignal(number)
    timer.start()
    with pytest.raises(error):
        run(lab, lans)
    timer.join()
    assert lans.made[0].closed
    assert not alive(int((tmp_path / "pid").read_text()))
    assert signal.getsignal(number) is before


REPORT = (
    TWO
    + "  - name: the <first> & best\n    ping: {from: alice, to: bob}\n"
    + "  - exec: {command: 'printf \"a\\\\000\\\\033[1mb\"; exit 1'}\n"
    + "  - ping_all:\n"
)


def test_junit_can_be_read_back(read: ReadLab, lans: Recorder, tmp_path: Path) -> None:
    write_report(run(read(REPORT), lans), tmp_path)
    suite = ElementTree.parse(tmp_path / "report.xml").getroot().find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "skipped": "1",
    }
    first, second, third = suite.findall("testcase")
    assert first.get("name") == "1. the <first> & best"
    failure = second.find("failure")
    assert failure is not None
    assert failure.get("message") == "expected code 0, found 1"
    assert "lab.yaml:6" in str(failure.text)
    assert second.findtext("system-out") == "a\ufffd\ufffd[1mb"  # what XML cannot hold is replaced
    assert third.find("skipped") is not None


def test_json_has_the_documented_form(read: ReadLab, lans: Recorder, tmp_path: Path) -> None:
    write_report(run(read(REPORT), lans, out=tmp_path), tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["format"] == 1
    assert list(report) == [
        *(
            "format",
            "lab",
            "file",
            "lan",
            "seed",
            "started",
            "up_seconds",
            "seconds",
            "passed",
            "steps",
            "nodes",
            "capture",
        )
    ]
    assert list(report["steps"][0]) == [
        *("number", "place", "kind", "name", "title", "file", "line", "outcome", "summary", "seconds"),
        *("metrics", "expectations", "failure", "details", "hints", "steps"),
    ]
    assert report["steps"][0]["metrics"]["loss"] == 0
    assert report["steps"][1]["expectations"] == [{"metric": "code", "expected": "0", "found": "1", "passed": False}]
    assert report["capture"]["file"] == str(tmp_path / "capture.pcapng")


def test_a_killed_runner_leaves_no_command(tmp_path: Path, real_lan: Any) -> None:
    (tmp_path / "lab.yaml").write_text(
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n"
        "  guest: {kind: process, exec: 'sleep 99 & echo $! > child; exec python3 guest.py'}\n"
        "steps: [{exec: {command: 'echo $$ > exec; sleep 99'}}]\n"
    )
    (tmp_path / "guest.py").write_text("import time, vnet\nnic = vnet.attach()\ntime.sleep(99)\n")
    runner = subprocess.Popen([sys.executable, "-m", "vnet", "run", str(tmp_path / "lab.yaml")], cwd=tmp_path)
    pids = [tmp_path / "child", tmp_path / "exec"]
    try:
        assert eventually(lambda: all(path.exists() and path.read_text().endswith("\n") for path in pids), 20)
    finally:
        runner.kill()
        runner.wait()
    for path in pids:
        assert eventually(lambda: not alive(int(path.read_text()))), path  # noqa: B023 - used at once


def test_the_real_lan_carries_out_every_kind_of_step(read: ReadLab, real_lan: Any, tmp_path: Path) -> None:
    lab = read(
        'networks: {lan: [10.0.0.0/24, "fd00::/64"]}\nnodes: {a: {count: 3}, p: {kind: process}}\nsteps:\n'
        "  - ping: {from: a-1, to: a-2, count: 5, family: 6}\n"
        "  - ping_all: {sample: 5}\n"
        "  - inject: {from: p, packet: 'IP(dst=\"a-1\")/ICMP()', count: 3}\n    expect: {delivered: 3}\n"
        "  - exec:\n      on: p\n"
        "      command: python3 -c 'import vnet; n = vnet.attach(); print(n.name, *n.addresses)'\n"
        "    expect: {stdout: p 10.0.0.4 fd00::4}\n"
        "  - ping: {from: a-1, to: p, timeout: 100ms}\n    expect: {loss: 100%}\n"
        "  - wait: 1ms\n"
    )
    report = run_lab(lab, Options(out=tmp_path, keep_going=True))
    assert outcomes(report) == ["passed"] * 6, report.as_json()
    assert report.capture is not None
    assert report.capture.datagrams > 20
