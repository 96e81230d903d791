"""Run a lab: build the LAN, start the guests, take the steps, and take everything down whatever happens."""

from __future__ import annotations

import contextlib
import datetime
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vnet.errors import CaptureError, MachineLacks
from vnet.lab.commands import command_environment
from vnet.lab.pinging import INSTALL
from vnet.lab.plan import Lab
from vnet.lab.report import CaptureReport, NodeReport, Report, StepReport
from vnet.lab.service import serve_session
from vnet.lab.session import ATTACH_SECONDS, Session, Settings
from vnet.lab.signals import Signals
from vnet.lab.steps.base import Stage
from vnet.lab.taking import skipped, take

__all__ = ["Options", "node_reports", "run_lab"]


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

    session: Session
    stage: Stage
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
            _check_programs(lab)
            options.progress("building the LAN")
            session = undo.enter_context(Session(lab, _settings(options)))
            session.build()
            serve_session(session)
            running = _Running(
                session,
                Stage(
                    session.lan,
                    lab,
                    session.hosts,
                    random.Random(lab.seed),
                    session.environment,
                    namespaces=session.namespaces,
                ),
            )
            # On the way down commands end, then the capture is complete, then the LAN goes.
            if options.out is not None:
                undo.enter_context(_capturing(running, options.out / "capture.pcapng"))
            undo.callback(session.stop)
            session.start()
            up_after = time.perf_counter() - clock
            _take_steps(running, options)
            nodes = node_reports(session)
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


def _check_programs(lab: Lab) -> None:
    """See that what the steps run without the lab's naming it is here, before anything is built.

    Raises:
        MachineLacks: it is not.
    """
    for program in sorted(lab.programs):
        if shutil.which(program, path=command_environment()["PATH"]) is None:
            raise MachineLacks(f"{lab.file}: netns nodes ping with the program {program}, which is not here: {INSTALL}")


def _settings(options: Options) -> Settings:
    return Settings(
        spare_name=True,
        logs=options.out / "logs" if options.out is not None else None,
        progress=options.progress,
        say=options.say,
        make_lan=options.make_lan,
        attach_seconds=options.attach_seconds,
    )


# --- the capture ------------------------------------------------------------------------------------------------------


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


# --- the steps --------------------------------------------------------------------------------------------------------


def _take_steps(running: _Running, options: Options) -> None:
    stage = replace(
        running.stage,
        say=options.say,
        last_output=running.session.last_output,
        capture=str(options.out / "capture.pcapng") if options.out is not None else "",
    )
    failed = False
    for number, step in enumerate(running.session.lab.steps, 1):
        if failed and not options.keep_going:
            running.steps.append(skipped(step, number, stage))
            continue
        options.progress(f"step {number} of {len(running.session.lab.steps)}: {step.name or step.title()}")
        report = take(step, number, stage)
        running.steps.append(report)
        failed = failed or report.outcome != "passed"


# --- the nodes --------------------------------------------------------------------------------------------------------


def node_reports(session: Session) -> tuple[NodeReport, ...]:
    """Each guest as it stands after the last step, before anything is taken down."""
    reports = []
    for state in session.states():
        reports.append(
            NodeReport(
                name=state.node.name,
                kind=state.node.kind,
                network=state.node.network,
                addresses=tuple(map(str, state.node.addresses)),
                line=state.node.line,
                code=state.code,
                failure=session.crash(state),
            )
        )
    return tuple(reports)
