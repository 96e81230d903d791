"""The traffic step between hosts and process nodes, and what becomes of one that goes wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from reading import ReadLab
from test_runner import outcomes

from vnet.lab.runner import Options, run_lab

LAB = (
    'networks: {lan: {prefix: [10.0.0.0/24, "fd00::/64"], mtu: 1500}}\n'
    "nodes: {a: , b: , p: {kind: process}, q: {kind: process, buffer: 4KiB}}\nsteps:\n"
)


def test_hosts_and_processes_send_to_one_another_in_every_way(read: ReadLab, real_lan: Any) -> None:
    lab = read(
        LAB
        + "".join(
            f"  - traffic: {{from: {source}, to: {to}, rate: 1000/s, size: 500, count: 100, family: {family}}}\n"
            "    expect: {sent: 100, received: 100, loss: 0%, bytes_received: 50kB, out_of_order: 0, max: '< 5s'}\n"
            for source, to, family in (("a", "p", 4), ("p", "a", 6), ("p", "q", 4))
        )
        + "  - traffic: {from: [p, a], to: [a, p], protocol: tcp, bytes: 300kB, flows: 2}\n"
        "    expect: {bytes_received: 1200kB, throughput: '> 1 Mbit/s'}\n"
    )
    report = run_lab(lab, Options())
    assert outcomes(report) == ["passed"] * 4, report.as_json()


def test_an_expectation_of_traffic_that_fails_says_where_to_look(read: ReadLab, real_lan: Any) -> None:
    lab = read(
        "networks: {lan: 10.0.0.0/24}\nnodes: {a: , b: {buffer: 4KiB}}\nsteps:\n"
        "  - traffic: {from: a, to: b, rate: 20 Gbit/s, size: 1500, count: 1000, flows: 8}\n"
        "    expect: {loss: 0%, received: 8000}\n"
    )
    (step,) = run_lab(lab, Options()).steps
    failed = {check.metric for check in step.checks if not check.passed}
    assert failed == {"loss", "received"}
    lost = 8000 - int(str(step.metrics["received"]))
    assert step.details == (f"{lost:,} datagrams were buffer_full",)
    assert step.hints[0] == f"NIC a sent 8,000 datagrams meanwhile, of which did not arrive: {lost:,} buffer_full"
    assert f"NIC b had no room for {lost:,} datagrams" in step.hints[1]


def test_a_nic_that_somebody_holds_is_told(read: ReadLab, real_lan: Any) -> None:
    lab = read(
        LAB + "  - parallel:\n"
        "    - exec: {on: p, command: 'python3 -c \"import time, vnet; n = vnet.attach(); open(chr(120), chr(119)); "
        "time.sleep(99)\"', timeout: 4s}\n"
        "    - [{exec: {command: 'while ! test -e x; do sleep 0.01; done'}}, {traffic: {from: a, to: p}}]\n"
    )
    report = run_lab(lab, Options())
    (traffic,) = [step for top in report.steps for step in top.walk() if step.kind == "traffic"]
    assert "the traffic program on 'p' ended with code 1; its last output was: " in traffic.failure
    assert "'p'" in traffic.failure.partition("output was")[2]


def test_a_time_limit_ends_traffic_and_its_programs(read: ReadLab, real_lan: Any) -> None:
    lab = read(LAB + "  - traffic: {from: p, to: q, duration: 60s}\n    timeout: 1500ms\n  - ping: {from: a, to: b}\n")
    begun = time.monotonic()
    report = run_lab(lab, Options(keep_going=True))
    assert report.steps[0].failure == "step 1 still ran after 1.5 s"
    assert report.steps[1].outcome == "passed"
    assert time.monotonic() - begun < 20
    assert not _programs()


@pytest.mark.parametrize("who", ["from: a, to: b", "from: p, to: q"])
def test_ctrl_c_ends_traffic_and_its_programs(read: ReadLab, real_lan: Any, who: str) -> None:
    lab = read(LAB + f"  - traffic: {{{who}, duration: 60s}}\n")
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_lab(lab, Options())
    timer.join()
    assert not _programs()


def _programs() -> list[str]:
    """The traffic programs that are children of this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words, stat = (entry / "cmdline").read_text(), (entry / "stat").read_text()
            except OSError:
                continue
            if "vnet.traffic.guest" in words and int(stat.rsplit(")", 1)[1].split()[1]) == os.getpid():
                found.append(words)
    return found
