"""A lab that is up for a test."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from vnet.lab.report import FAILED, Report
from vnet.lab.runner import node_reports
from vnet.lab.session import NodeState, Session, Settings
from vnet.lab.source import SUFFIXES, load
from vnet.lab.steps.base import Stage
from vnet.lab.taking import skipped, take
from vnet.lan import Lan
from vnet.testing.guests import wait_output

if TYPE_CHECKING:
    from vnet.hosts import Host
    from vnet.lab.plan import Lab, Node
    from vnet.netns import Netns

__all__ = ["LiveLab", "find_lab"]


def find_lab(given: str, directory: Path, seed: int | None = None) -> Lab:
    """Reads the lab file ``given``, relative to ``directory``, or the lab of that name that comes with vnet.

    Raises:
        LabError: there is none, or it is wrong.
    """
    path = directory / given
    if not path.is_file() and not given.endswith(SUFFIXES) and os.sep not in given:
        return load(given, seed=seed)
    # As people read it in a report.
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return load(str(path), seed=seed)


class LiveLab:
    """A lab that is up: its LAN, its hosts, and its process nodes' commands, which run.

    Made by the ``lab`` fixture.  Leaving the context takes it down.

    Attributes:
        lab: what its file says: networks, nodes and steps, every address given out.
        report: what came of the last :meth:`run_steps`; ``None`` before.
    """

    def __init__(self, lab: Lab, lan_name: Callable[[], str]) -> None:
        self.lab = lab
        self.report: Report | None = None
        self._up_after = 0.0
        # Under its own name the lab could not run twice at once.
        self._session = Session(lab, Settings(make_lan=lambda _, **settings: Lan(lan_name(), **settings)))

    def build(self) -> None:
        """Makes the LAN, its networks and everyone's NICs; errors as of :meth:`vnet.Lan.attach`."""
        clock = time.perf_counter()
        self._session.build()
        self._up_after += time.perf_counter() - clock

    def start(self) -> None:
        """Starts the commands and waits until every node is ready.

        Raises:
            MachineLacks: the program of a node is not here.
            VnetError: a command failed, or its node was not ready in time.
        """
        clock = time.perf_counter()
        self._session.start()
        self._up_after += time.perf_counter() - clock

    @property
    def lan(self) -> Lan:
        """The LAN; tests attach NICs of their own to it."""
        lan: Lan = self._session.lan
        return lan

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The built-in hosts by name."""
        return MappingProxyType(self._session.hosts)

    @property
    def namespaces(self) -> Mapping[str, Netns]:
        """The namespaces of netns nodes by name; their ``run()`` and ``popen()`` run programs in them."""
        return MappingProxyType(self._session.namespaces)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """What the file says of each node, by name."""
        return self.lab.nodes

    def address(self, node: str, family: int | None = None) -> str:
        """Returns the first address of a node, or its first one of the family (4 or 6).

        Raises:
            ValueError: there is no such node, or it has no address of that family.
        """
        address = self._session.node(node).address(family)
        if address is None:
            raise ValueError(f"node {node!r} has no address of IPv{family}")
        return str(address)

    def state(self, node: str) -> NodeState:
        """Returns a node as it stands: whether its NIC is up, its command's process id or exit code.

        Raises:
            ValueError: there is no such node.
        """
        wanted = self._session.node(node)
        return next(state for state in self._session.states() if state.node is wanted)

    def output(self, node: str) -> str:
        """Returns what a node's command has printed so far, errors too; of more than a mebibyte, the last.

        Arguments:
            node: its name; ``NODE/NAME`` for one of the commands of a node that has several.

        Raises:
            ValueError: there is no such node or command, or the node runs none, or several.
        """
        return self._session.output(node).text()

    def wait_output(self, node: str, text: str, timeout: float = 10.0) -> str:
        """Waits until a node's command has printed ``text`` and returns its output.

        Arguments:
            node: its name; ``NODE/NAME`` for one of the commands of a node that has several.
            text: what its output must contain.
            timeout: seconds.

        Raises:
            ValueError: as of :meth:`output`.
            TimeoutError: it has not printed it by then.
            VnetError: it ended without it.
        """
        label = self._session.label(node)
        return wait_output(f"node {node!r}", self._session.commands[label], text, timeout)

    def restart(self, node: str) -> None:
        """Ends a node and starts it again, with the same addresses, and waits until it is ready.

        Raises:
            ValueError: there is no such node, or nothing of it to start again.
            MachineLacks, VnetError: it did not come up.
        """
        self._session.restart(node)

    def run_steps(self, *, check: bool = True, keep_going: bool = False) -> Report:
        """Takes the steps of the lab's file, in order.

        Arguments:
            check: where a step fails, or a command has ended wrongly, raise :class:`AssertionError` with the report.
            keep_going: take the steps after one that failed.

        Returns:
            The report, which is :attr:`report` from now on.
        """
        __tracebackhide__ = True
        started, clock = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()
        stage = Stage(
            self._session.lan,
            self.lab,
            self._session.hosts,
            random.Random(self.lab.seed),
            self._session.environment,
            say=print,
            last_output=self._session.last_output,
            namespaces=self._session.namespaces,
        )
        steps, failed = [], False
        for number, step in enumerate(self.lab.steps, 1):
            stop = failed and not keep_going
            steps.append(skipped(step, number, stage) if stop else take(step, number, stage))
            failed = failed or steps[-1].outcome == FAILED
        self.report = Report(
            lab=self.lab.name,
            file=self.lab.file,
            seed=self.lab.seed,
            lan=str(self.lan.name),
            started=started.isoformat(timespec="milliseconds"),
            up_seconds=self._up_after,
            seconds=self._up_after + time.perf_counter() - clock,
            steps=tuple(steps),
            nodes=node_reports(self._session),
            capture=None,
        )
        if check and not self.report.passed:
            raise AssertionError(_shown(self.report))
        return self.report

    def commands_told(self) -> tuple[str, str]:
        """A section for a report: the last that each command has printed."""
        lines = []
        for name, command in self._session.commands.items():
            code = command.code
            lines.append(f"{name}: {'it runs' if code is None else f'it ended with code {code}'}")
            lines += [f"    {line}" for line in command.output.text().splitlines()[-20:]]
        return "vnet lab commands", "\n".join(lines)

    def close(self) -> None:
        """Takes the lab down.  May be called twice."""
        self._session.close()

    def __enter__(self) -> LiveLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LiveLab {self.lab.name}: {len(self.lab.nodes)} nodes>"


def _shown(report: Report) -> str:
    """What went wrong first, in a line, and the report as ``vnet run`` prints it into a file."""
    from rich.console import Console

    from vnet.lab.render import print_report

    failed = next((step for step in report.steps if step.outcome == FAILED), None)
    if failed is not None:
        first = f"{failed.file}:{failed.line}: step {failed.place} failed: {failed.what}"
    else:
        first = "; ".join(f"{report.file}:{node.line}: {node.name}: {node.failure}" for node in report.crashed)
    page = io.StringIO()
    print_report(report, Console(file=page, width=110, color_system=None, force_terminal=False))
    return f"{first}\n\n{page.getvalue()}"
