"""Labs whose nodes share memory and services, run on the real LAN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reading import ReadLab

from vnet.errors import VnetError
from vnet.lab.report import Report
from vnet.lab.runner import Options, run_lab

SERVER = """\
import time, typing, vnet

class Counter(typing.Protocol):
    '''Counts.'''
    def add(self, number: int, *, times: int = 1) -> int: ...
    def sums(self, numbers: list[int]) -> dict[str, typing.Any]: ...
    def up_to(self, number: int) -> typing.Iterator[int]: ...
    def data(self, size: int) -> bytes: ...
    def fail(self, why: str) -> None: ...
    def wait(self, seconds: float) -> None: ...
    def caller(self) -> str | None: ...

class Counted:
    total = 0
    def add(self, number, *, times=1):
        self.total += number * times
        return self.total
    def sums(self, numbers): return {"sum": sum(numbers), "whole": True}
    def up_to(self, number): yield from range(number)
    def data(self, size): return bytes(range(size))
    def fail(self, why): raise LookupError(why)
    def wait(self, seconds): time.sleep(seconds)
    def caller(self): return vnet.rpc.current_call().guest

with vnet.attach() as nic, nic.serve_calls("counter", Counted(), Counter):
    time.sleep(1000)
"""
HEAD = """\
networks: {lan: 10.0.0.0/24}
nodes:
  host: {kind: process, exec: python3 server.py}
  alice: {kind: process}
  mallory: {kind: process}
services: {counter: {node: host, clients: [alice]}}
regions: {board: {size: 4KiB, nodes: [host, alice], readonly: [alice]}}
steps:
"""


@pytest.fixture
def run(read: ReadLab, tmp_path: Path, real_lan: Any) -> Any:
    (tmp_path / "server.py").write_text(SERVER)

    def run_steps(*steps: str) -> Report:
        return run_lab(read(HEAD + "".join(f"  - {step}\n" for step in steps)), Options(keep_going=True))

    return run_steps


PASSING = [
    "{call: {service: counter, method: add, args: [3]}, expect: {result: 3, time: '< 20s'}}",
    "{call: {service: counter, method: add, args: {number: 2, times: 2}}, expect: {result: 7}}",
    "{call: {service: counter, method: sums, args: [[1, 2]]}, expect: {result: {equals: {whole: true, sum: 3}}}}",
    "{call: {service: counter, method: sums, args: [[1, 2]]}, expect: {result: {contains: '\"sum\": 3'}}}",
    "{call: {service: counter, method: up_to, args: [3]}, expect: {result: [0, 1, 2]}}",
    "{call: {service: counter, method: data, args: [3]}, expect: {result: AAEC}}",
    "{call: {service: counter, method: fail, args: [no]}, expect: {error: 'LookupError: no'}}",
    "{call: {service: counter, method: caller}, expect: {result: null}}",
    "{call: {service: counter, method: caller, from: alice, node: host}, expect: {result: {matches: ^al}}}",
    "{call: {service: counter, method: caller, from: mallory}, expect: {error: {contains: NotPermitted}}}",
    "{call: {service: counter, method: add, args: [three]}, expect: {error: {matches: 'InterfaceError.*number'}}}",
    "{call: {service: counter, method: wait, args: [60], timeout: 100ms}, expect: {error: {contains: CallTimeout}}}",
    "{wait_until: {call: {service: counter, method: add, args: [1]}, expect: {result: 10}, interval: 1ms}}",
]


def test_calls_are_held_to_their_results_and_errors(run: Any) -> None:
    report = run(*PASSING)
    assert [(step.title, step.summary) for step in report.steps if step.outcome != "passed"] == []
    assert report.steps[0].title == "call host counter.add(3)"
    assert json.loads(report.steps[3].metrics["result"]) == {"sum": 3, "whole": True}


FAILING = {
    "{call: {service: counter, method: add, args: [3]}, expect: {result: 4}}": ("result", "4", "3"),
    # To Python these are equal.
    "{call: {service: counter, method: add, args: [1]}, expect: {result: true}}": ("result", "true", "4"),
    "{call: {service: counter, method: up_to, args: [2]}, expect: {result: [0]}}": ("result", "[0]", "[0, 1]"),
    "{call: {service: counter, method: fail, args: [no]}}": ("error", "none", "LookupError: no"),
    "{call: {service: counter, method: add, args: [0]}, expect: {error: {contains: no}}}": (
        "error",
        "contains 'no'",
        "none",
    ),
    "{call: {service: nobody, node: alice, method: add}}": (
        "error",
        "none",
        "ServiceNotFound: guest 'alice' does not listen for service 'nobody'",
    ),
}


def test_a_call_that_is_not_as_expected_fails_its_step(run: Any) -> None:
    report = run(*FAILING)
    for step, (metric, expected, found) in zip(report.steps, FAILING.values(), strict=True):
        assert step.outcome == "failed", step
        check = next(check for check in step.checks if not check.passed)
        assert (check.metric, check.expected) == (metric, expected)
        assert check.found.startswith(found), check


def test_who_may_only_read_a_region_cannot_write_and_others_cannot_find_it(run: Any) -> None:
    attempt = (
        "import vnet\\nwith vnet.attach() as nic:\\n try:\\n  board = nic.attach_region(nic.find_region('board'))\\n"
        "  with board: board[:1] = b'x'\\n except Exception as why: print(type(why).__name__)\\n else: print('wrote')"
    )
    report = run(
        f'{{exec: {{on: alice, command: [python3, -c, "{attempt}"]}}, expect: {{stdout: TypeError}}}}',
        f'{{exec: {{on: mallory, command: [python3, -c, "{attempt}"]}}, expect: {{stdout: NotPermitted}}}}',
    )
    assert report.passed, [step.details for step in report.steps]


def test_a_region_beyond_memory_is_told_with_its_place_before_anything_starts(read: ReadLab, real_lan: Any) -> None:
    text = HEAD.replace("4KiB", "4000000GiB").replace("python3 server.py", "touch started")
    lab = read(text + "  - wait: 0\n")
    with pytest.raises(VnetError, match=r"lab\.yaml:7: regions\.board: "):
        run_lab(lab)
    assert not (lab.directory / "started").exists()
