"""Run a lab: build the LAN, start the guests, take the steps, and take everything down whatever happens."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vnet.errors import CaptureError, MachineLacks, NameTaken, VnetError
from vnet.lab.commands import GRACE_SECONDS, Command, command_environment, describe_end
from vnet.lab.plan import Lab, Node
from vnet.lab.report import CaptureReport, NodeReport, Report, StepReport
from vnet.lab.signals import Signals
from vnet.lab.steps.base import Stage
from vnet.lab.taking import skipped, take

__all__ = ["Options", "run_lab"]

# A Python guest that imports scapy attaches after one to two seconds on a slow machine.
ATTACH_SECONDS = 10.0


# Address space, which becomes memory as it fills.
DEFAULT_BUFFER = 4 << 20


@dataclass(frozen=True)
class Options:
    """How to run a lab.

    Attributes:
        out: the directory that gets the capture and the commands' output; None: neither is kept.
        keep_going: take the steps after one that failed.
        progress: called with a few words before each thing that may take a while.
        say: called with each line that a step has for whoever watches.
        make_lan: makes the LAN; ``vnet.Lan`` unless a test says otherwise.
        attach_seconds: how long a process node's command may take until it has attached.
    """

    out: Path | None = None
    keep_going: bool = False
    progress: Callable[[str], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    make_lan: Callable[..., Any] | None = None
    attach_seconds: float = ATTACH_SECONDS


@dataclass
class _Running:
    """What is up, and what came of it so far."""

    lab: Lab
    stage: Stage
    commands: dict[str, Command] = field(default_factory=dict)
    steps: list[StepReport] = field(default_factory=list)
    capture: CaptureReport | None = None


def run_lab(lab: Lab, options: Options | None = None) -> Report:
    """Run a lab from beginning to end.

    Raises:
        VnetError: the lab did not come up; nothing of it is left.
        KeyboardInterrupt, Terminated: this process was asked to end; nothing of the lab is left.
    """
    options = options or Options()
    started, clock = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()
    with Signals() as signals, contextlib.ExitStack() as undo:
        try:
            options.progress("building the LAN")
            running = _build(lab, options, undo)
            up_after = time.perf_counter() - clock
            _take_steps(running, options)
            nodes = _node_reports(running)
            options.progress("taking the LAN down")
        finally:
            signals.ignore()
    return Report(
        lab=lab.name,
        file=lab.file,
        seed=lab.seed,
        lan=running.stage.lan.name or lab.name,
        started=started.isoformat(timespec="milliseconds"),
        up_seconds=up_after,
        seconds=time.perf_counter() - clock,
        steps=tuple(running.steps),
        nodes=nodes,
        capture=running.capture,
    )


# --- up ---------------------------------------------------------------------------------------------------------------


def _build(lab: Lab, options: Options, undo: contextlib.ExitStack) -> _Running:
    lan = undo.enter_context(_make_lan(lab, options))
    for network in lab.networks.values():
        lan.add_network(network.name, [str(prefix) for prefix in network.prefixes], mtu=network.mtu)
    hosts: dict[str, Any] = {}
    for node in lab.nodes.values():
        join = lan.host if node.kind == "host" else lan.reserve
        addresses = [str(address) for address in node.addresses]
        joined = join(node.name, addresses, network=node.network, buffer=node.buffer or DEFAULT_BUFFER)
        if node.kind == "host":
            hosts[node.name] = joined
    environment = {**command_environment(), "VNET_LAN": str(lan.name)}
    running = _Running(lab, Stage(lan, lab, hosts, random.Random(lab.seed), environment))
    # From here on in the order of the way down: commands end, then the capture is complete, then the LAN goes.
    if options.out is not None:
        undo.enter_context(_capturing(running, options.out / "capture.pcapng"))
    undo.callback(_stop, running)
    _start_commands(running, options)
    return running


def _make_lan(lab: Lab, options: Options) -> Any:
    make = options.make_lan
    if make is None:
        import vnet

        make = vnet.Lan
    settings: dict[str, Any] = {
        "seed": lab.seed,
        "max_nics": max(4096, len(lab.nodes) + 64),
        "buffer": max(DEFAULT_BUFFER, *(node.buffer or 0 for node in lab.nodes.values())),
    }
    try:
        return make(lab.name, **settings)
    except NameTaken:
        # The same lab may run twice at once, as on a CI machine.
        return make(f"{lab.name}-{os.getpid()}", **settings)


@contextlib.contextmanager
def _capturing(running: _Running, path: Path) -> Iterator[None]:
    capture = running.stage.lan.capture(path)
    try:
        yield
    finally:
        failure = ""
        try:
            capture.close()
        except CaptureError as error:
            failure = str(error)
        running.capture = CaptureReport(str(path), capture.datagrams, capture.missed, failure)


def _start_commands(running: _Running, options: Options) -> None:
    waiting = [node for node in running.lab.nodes.values() if node.command is not None]
    logs = None
    if waiting and options.out is not None:
        logs = options.out / "logs"
        logs.mkdir(exist_ok=True)
    for node in waiting:
        assert node.command is not None
        try:
            running.commands[node.name] = Command(
                node.command,
                environment={**running.stage.environment, **dict(node.environment), "VNET_NIC": node.name},
                directory=running.lab.directory,
                guard=running.stage.lan,
                log=logs / f"{node.name}.log" if logs is not None else None,
                merged=True,
            )
        except MachineLacks as error:
            raise MachineLacks(f"{_place(running.lab, node)}: {error}; install the program or correct 'exec'") from None
    if waiting:
        options.progress(f"waiting for {len(waiting)} process guests to attach")
        _wait_attached(running, waiting, options.attach_seconds)


def _wait_attached(running: _Running, waiting: Sequence[Node], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while waiting:
        waiting = [node for node in waiting if not _attached(running, node)]
        if not waiting:
            return
        if time.monotonic() >= deadline:
            node = waiting[0]
            raise VnetError(
                f"{_place(running.lab, node)}: the command did not attach within {seconds:g} s; expected it to call "
                f"vnet.attach(){_last_output(running.commands[node.name])}"
            )
        time.sleep(0.005)


def _attached(running: _Running, node: Node) -> bool:
    """Whether the node's command has attached, or ended well: it may have come and gone between two looks."""
    command = running.commands[node.name]
    code = command.code
    if running.stage.lan.attached(node.name):
        return True
    if code is None or code == 0:
        return code == 0
    command.output.finish()
    if code == 127 and isinstance(node.command, str):
        raise MachineLacks(
            f"{_place(running.lab, node)}: the shell found no such command; install the program or correct "
            f"'exec'{_last_output(command)}"
        )
    raise VnetError(
        f"{_place(running.lab, node)}: the command {describe_end(code)} before it attached{_last_output(command)}"
    )


def _place(lab: Lab, node: Node) -> str:
    return f"{lab.file}:{node.line}: nodes.{node.name}"


def _last_output(command: Command) -> str:
    tail = command.output.tail()
    return f"; its last output was: {tail}" if tail else "; it printed nothing"


# --- the steps --------------------------------------------------------------------------------------------------------


def _take_steps(running: _Running, options: Options) -> None:
    stage = replace(
        running.stage,
        say=options.say,
        last_output=lambda name: running.commands[name].output.tail() if name in running.commands else "",
        capture=str(options.out / "capture.pcapng") if options.out is not None else "",
    )
    failed = False
    for number, step in enumerate(running.lab.steps, 1):
        if failed and not options.keep_going:
            running.steps.append(skipped(step, number, stage))
            continue
        options.progress(f"step {number} of {len(running.lab.steps)}: {step.name or step.title()}")
        report = take(step, number, stage)
        running.steps.append(report)
        failed = failed or report.outcome != "passed"


# --- down -------------------------------------------------------------------------------------------------------------


def _node_reports(running: _Running) -> tuple[NodeReport, ...]:
    """Each guest as it stands after the last step, before anything is taken down."""
    reports = []
    for node in running.lab.nodes.values():
        command = running.commands.get(node.name)
        code = command.code if command is not None else None
        failure = ""
        if command is not None and code is not None and code != 0:
            command.output.finish()
            failure = f"the command {describe_end(code)} while the lab ran{_last_output(command)}"
        reports.append(
            NodeReport(
                name=node.name,
                kind=node.kind,
                network=node.network,
                addresses=tuple(map(str, node.addresses)),
                line=node.line,
                code=code,
                failure=failure,
            )
        )
    return tuple(reports)


def _stop(running: _Running) -> None:
    """End all commands: all are asked at once, so that the grace is one grace."""
    for command in running.commands.values():
        if command.code is None:
            command.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for command in running.commands.values():
        command.stop(deadline)
