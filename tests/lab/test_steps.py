"""Steps that hold steps, steps that wait, and what becomes of those that hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from reading import ReadLab
from rich.console import Console
from test_runner import Recorder, alive, eventually, lans, outcomes, run  # noqa: F401 - lans is a fixture

from vnet.lab.render import print_report
from vnet.lab.report import Report, StepReport, write_report
from vnet.lab.runner import Options, run_lab
from vnet.lab.signals import Terminated

TWO = "networks: {lan: 10.0.0.0/24}\nnodes: {alice: , bob: }\nsteps:\n"


def printed(report: Report, tmp_path: Path) -> str:
    with (tmp_path / "out.txt").open("w") as file:
        print_report(report, Console(file=file, width=200))
    return (tmp_path / "out.txt").read_text()


def found(report: Report, place: str) -> StepReport:
    return next(step for top in report.steps for step in top.walk() if step.place == place)


# --- parallel ---------------------------------------------------------------------------------------------------------


def test_branches_run_at_once_and_their_steps_in_order(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    # Three branches that wait for one another's files end only if they run at once.
    meet = "touch m{0}; while ! ls m1 m2 m3 >/dev/null 2>&1; do sleep 0.01; done; rm -f done{0}; echo {0} > done{0}"
    steps = "".join(
        f"      b{n}: [{{exec: {{command: '{meet.format(n)}', timeout: 20s}}}}, {{exec: {{command: cat done{n}}}}}]\n"
        for n in (1, 2, 3)
    )
    report = run(read(TWO + "  - parallel:\n" + steps), lans)
    assert outcomes(report) == ["passed"], report.as_json()
    assert [step.place for step in report.steps[0].walk()] == [
        *("1", "1.1", "1.1.1", "1.1.2", "1.2", "1.2.1", "1.2.2", "1.3", "1.3.1", "1.3.2")
    ]
    assert [found(report, f"1.{n}.2").metrics["stdout"] for n in (1, 2, 3)] == ["1\n", "2\n", "3\n"]


def test_a_branch_that_fails_fails_the_step_and_the_others_run_to_their_end(
    read: ReadLab,
    lans: Recorder,  # noqa: F811
    tmp_path: Path,
) -> None:
    report = run(
        read(
            TWO + "  - parallel:\n"
            "      bad: [{exec: {command: 'exit 3'}}, {wait: 1ms}]\n"
            "      good: [{wait: 100ms}, {exec: {command: touch good}}]\n"
        ),
        lans,
    )
    assert outcomes(report) == ["failed"]
    assert [found(report, place).outcome for place in ("1.1", "1.1.1", "1.1.2", "1.2")] == [
        *("failed", "failed", "skipped", "passed")
    ]
    assert (tmp_path / "good").exists()
    assert report.steps[0].failure == "failed: 1.1 (bad)"
    text = printed(report, tmp_path)
    assert "step 1.1.1" in text
    assert "expected code 0, found 3" in text


def test_a_time_limit_ends_every_branch_and_what_it_started(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    report = run(
        read(
            TWO + "  - parallel:\n"
            "      - exec: {command: 'echo $$; exec sleep 99'}\n"
            "      - wait: 99s\n"
            "      - repeat: {until: failure, steps: [{wait: 10ms}]}\n"
            "    timeout: 300ms\n"
        ),
        lans,
    )
    assert outcomes(report) == ["failed"]
    assert report.seconds < 10
    for place in ("1.1", "1.2", "1.3"):
        assert found(report, place).failure == "step 1 still ran after 300 ms"
    pid = str(found(report, "1.1").metrics["stdout"])
    assert eventually(lambda: not alive(int(pid)))


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_ends_every_branch_and_what_it_started(
    read: ReadLab,
    lans: Recorder,  # noqa: F811
    tmp_path: Path,
    number: signal.Signals,
    error: type[BaseException],
) -> None:
    lab = read(
        TWO + "  - parallel:\n      - [{exec: {command: 'echo $$ > pid; exec sleep 99'}}]\n"
        "      - parallel: [{wait: 99s}, {wait: 98s}]\n"
    )

    def interrupt() -> None:
        assert eventually((tmp_path / "pid").exists)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(error):
        run(lab, lans)
    thread.join()
    assert eventually(lambda: not alive(int((tmp_path / "pid").read_text())))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("vnet-branch")]


# --- repeat -----------------------------------------------------------------------------------------------------------


def test_rounds_are_counted_and_named(read: ReadLab, lans: Recorder, tmp_path: Path) -> None:  # noqa: F811
    lab = read(TWO + "  - repeat: {count: 3, steps: [{exec: {command: 'echo {round} >> rounds'}}]}\n")
    report = run(lab, lans)
    assert report.steps[0].metrics == {"rounds": 3, "failed": 0}
    assert (tmp_path / "rounds").read_text() == "1\n2\n3\n"
    assert found(report, "1.3.1").outcome == "passed"


def test_the_first_round_that_fails_ends_a_repeat(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    lab = read(TWO + "  - repeat: {count: 9, steps: [{exec: {command: 'test {round} != 3'}}, {wait: 1ms}]}\n")
    report = run(lab, lans)
    assert outcomes(report) == ["failed"]
    assert report.steps[0].metrics == {"rounds": 3, "failed": 1}
    assert found(report, "1.3.2").outcome == "skipped"


def test_until_success_tries_until_a_round_passes(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    step = (
        "  - repeat: {until: success, count: %d, steps: [{exec: {command: 'echo x >> n; test $(wc -l < n) -ge 4'}}]}\n"
    )
    report = run(read(TWO + step % 9), lans)
    assert (outcomes(report), report.steps[0].metrics) == (["passed"], {"rounds": 4, "failed": 3})
    report = run(read(TWO + "  - repeat: {until: success, count: 2, steps: [{exec: {command: 'false'}}]}\n"), lans)
    assert outcomes(report) == ["failed"]
    assert report.steps[0].failure.startswith("none of 2 rounds passed")


def test_an_expectation_of_failed_rounds_is_what_they_are_judged_by(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    step = (
        "  - repeat: {count: 6, steps: [{exec: {command: 'test $(({round} %% 3)) != 0'}}]}\n    expect: {failed: %s}\n"
    )
    assert outcomes(run(read(TWO + step % "0..2"), lans)) == ["passed"]
    report = run(read(TWO + step % "1"), lans)
    assert outcomes(report) == ["failed"]
    assert (report.steps[0].checks[0].expected, report.steps[0].checks[0].found) == ("1", "2")


def test_a_repeat_for_a_time_begins_no_round_after_it(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    report = run(read(TWO + "  - repeat: {for: 100ms, steps: [{wait: 30ms}]}\n"), lans)
    assert outcomes(report) == ["passed"]
    assert 1 <= int(str(report.steps[0].metrics["rounds"])) <= 4


def test_a_thousand_rounds_leave_few_reports(read: ReadLab, lans: Recorder, tmp_path: Path) -> None:  # noqa: F811
    report = run(read(TWO + "  - repeat: {count: 1000, steps: [{ping: {from: alice, to: bob}}]}\n"), lans)
    assert report.steps[0].metrics["rounds"] == 1000
    assert [step.number for step in report.steps[0].steps] == list(range(991, 1001))
    assert len(printed(report, tmp_path).splitlines()) < 10


# --- wait_until -------------------------------------------------------------------------------------------------------


def test_a_condition_is_looked_at_until_it_holds(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    lab = read(
        TWO + "  - wait_until:\n      exec: {command: 'echo x >> n; wc -l < n'}\n"
        "      expect: {stdout: {matches: '[3-9]'}}\n"
        "      interval: 1ms\n    expect: {tries: 3}\n"
    )
    report = run(lab, lans)
    assert outcomes(report) == ["passed"], report.as_json()
    assert report.steps[0].summary.startswith("held at the 3rd look")


def test_a_condition_that_does_not_hold_tells_what_was_found_last(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    lab = read(TWO + "  - wait_until: {ping: {from: alice, to: 10.0.0.9}, timeout: 100ms, interval: 20ms}\n")
    report = run(lab, lans)
    assert outcomes(report) == ["failed"]
    failure = report.steps[0].failure
    assert failure.startswith("did not hold within 100 ms (")
    assert "; the last one: expected loss 0%, found 100%; no_host" in failure
    assert found(report, "1.1").checks[0].found == "100%"


def test_a_look_that_hangs_is_ended_with_the_waiting(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    lab = read(TWO + "  - wait_until: {exec: {command: 'echo $$; exec sleep 99'}, timeout: 200ms}\n")
    report = run(lab, lans)
    assert outcomes(report) == ["failed"]
    assert report.seconds < 10
    pid = str(found(report, "1.1").metrics["stdout"])
    assert eventually(lambda: not alive(int(pid)))


# --- log, limits, reports ---------------------------------------------------------------------------------------------


def test_a_log_line_names_addresses_and_counters(read: ReadLab, real_lan: Any) -> None:
    said: list[str] = []
    lab = read(
        TWO + "  - ping: {from: alice, to: bob, count: 3}\n"
        "  - log: '{bob}: {bob.rx_datagrams} in, {bob.tx_datagrams} out, {bob.no_host} lost, {{ }}'\n"
    )
    report = run_lab(lab, Options(say=said.append))
    assert said == ["10.0.0.2: 3 in, 3 out, 0 lost, { }"] == [report.steps[1].summary]


def test_a_log_line_goes_beside_the_report(tmp_path: Path, real_lan: Any) -> None:
    (tmp_path / "lab.yaml").write_text(TWO + "  - log: 'hello from {alice}'\n")
    command = [sys.executable, "-m", "vnet", "run", "--json", "lab.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "hello from 10.0.0.1\n"
    assert json.loads(done.stdout)["steps"][0]["summary"] == "hello from 10.0.0.1"


def test_a_step_that_hangs_is_ended_at_its_time_and_keeps_its_output(read: ReadLab, lans: Recorder) -> None:  # noqa: F811
    report = run(read(TWO + "  - exec: {command: 'echo before; sleep 99'}\n    timeout: 200ms\n"), lans)
    assert report.steps[0].failure == "step 1 still ran after 200 ms"
    assert report.steps[0].details == ("stdout: before",)


def test_a_full_buffer_cannot_hold_a_step_for_ever(read: ReadLab, real_lan: Any) -> None:
    lab = read(
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n"
        "  deaf: {kind: process, buffer: 256KiB, exec: [python3, -c, "
        "'import time, vnet; n = vnet.attach(); time.sleep(99)']}\n"
        "steps:\n  - inject: {from: alice, packet: 'IP(dst=\"deaf\")/Raw(bytes(1000))', count: 1000, block: true}\n"
        "    timeout: 300ms\n"
    )
    report = run_lab(lab, Options())
    assert report.steps[0].failure == "step 1 still ran after 300 ms"
    assert report.seconds < 10


def test_a_failed_step_says_where_to_look(read: ReadLab, real_lan: Any, tmp_path: Path) -> None:
    lab = read(
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n"
        "  deaf: {kind: process, buffer: 256KiB, exec: [python3, -uc, "
        "'import time, vnet; print(1); print(\"no time\"); n = vnet.attach(); time.sleep(99)']}\n"
        "steps:\n  - inject: {from: alice, packet: 'IP(dst=\"deaf\")/Raw(bytes(1000))', count: 1000}\n"
        "    expect: {delivered: 1000}\n"
        "  - ping: {from: alice, to: deaf, timeout: 50ms}\n"
    )
    report = run_lab(lab, Options(out=tmp_path, keep_going=True))
    first, second = report.steps
    delivered = int(str(first.metrics["delivered"]))
    assert first.hints[0] == (
        f"NIC alice sent 1,000 datagrams meanwhile, of which did not arrive: {1000 - delivered} buffer_full"
    )
    assert "NIC deaf had no room for 1 datagram: its owner reads too slowly" in second.hints[1]
    assert second.hints[2] == "the last output of deaf: 1 | no time"
    assert second.hints[3].endswith(f"tshark -r {tmp_path}/capture.pcapng -Y 'ip.addr==10.0.0.1 && ip.addr==10.0.0.2'")
    write_report(report, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["steps"][1]["hints"] == list(second.hints)


def test_junit_has_a_case_for_every_step_inside_steps(read: ReadLab, lans: Recorder, tmp_path: Path) -> None:  # noqa: F811
    lab = read(TWO + "  - parallel: {one: {wait: 1ms}, two: [{exec: {command: 'exit 1'}}, {wait: 1ms}]}\n")
    write_report(run(lab, lans), tmp_path)
    suite = ElementTree.parse(tmp_path / "report.xml").getroot().find("testsuite")
    assert suite is not None
    names = [str(case.get("name")).split(".  ")[0] for case in suite.findall("testcase")]
    assert [name.rsplit(". ", 1)[0] for name in names] == ["1", "1.1", "1.2", "1.2.1", "1.2.2"]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "3", "1")


# --- tcp and http -----------------------------------------------------------------------------------------------------


def test_connections_and_pages_of_hosts_that_serve(read: ReadLab, real_lan: Any) -> None:
    lab = read(
        'networks: {lan: [10.0.0.0/24, "fd00::/64"]}\nnodes:\n  a:\n'
        "  b: {serve: [{tcp: 80, http: hello}, {tcp: 7, echo: true}]}\n"
        "steps:\n"
        "  - http: {from: a, to: b}\n    expect: {body: hello, connect: '< 1s'}\n"
        "  - http: {from: a, to: b, family: 6, method: HEAD}\n    expect: {body: ''}\n"
        "  - http: {from: a, to: b, port: 81}\n    expect: {state: refused}\n"
        "  - tcp: {from: a, to: b, port: 7, family: 6}\n"
        "  - tcp: {from: a, to: b, port: 9}\n    expect: {state: refused}\n"
        "  - tcp: {from: a, to: 10.0.0.77, port: 9}\n    expect: {state: unreachable}\n"
        "  - http: {from: a, to: b, port: 7, timeout: 300ms}\n    expect: {state: {matches: 'open|timed out'}}\n"
        "  - http: {from: a, to: b, port: 81}\n"
    )
    report = run_lab(lab, Options(keep_going=True))
    assert outcomes(report) == ["passed"] * 7 + ["failed"], report.as_json()
    assert (report.steps[7].checks[0].expected, report.steps[7].checks[0].found) == ("200", "none")
    assert report.steps[7].details == ("no answer: refused",)


def test_nothing_of_a_connection_is_left_on_the_host_that_asked(read: ReadLab, real_lan: Any) -> None:
    # A stack has room for some thousands of sockets: a leak of one each would end this.
    lab = read(
        "networks: {lan: 10.0.0.0/24}\nnodes: {a: , b: {serve: {tcp: 80, http: x}}}\nsteps:\n"
        "  - repeat: {count: 4500, steps: [{tcp: {from: a, to: b, port: 80}}]}\n"
    )
    begun = time.monotonic()
    report = run_lab(lab, Options())
    assert report.passed, (report.as_json()[-2000:], time.monotonic() - begun)
