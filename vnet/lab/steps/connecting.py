"""``tcp`` and ``http``: a host opens a connection, and asks for a page over it."""

from __future__ import annotations

import http.client
import io
from dataclasses import dataclass
from typing import Any, ClassVar

from vnet import _native
from vnet.lab.expect import Expectation, NumberExpectation, TextExpectation, expectations
from vnet.lab.schema import HttpStepFile, TcpStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.steps.ping import destination
from vnet.lab.units import Dimension, parse_comparison, show

__all__ = ["HttpStep", "TcpStep", "plan_http", "plan_tcp"]


@dataclass(frozen=True)
class TcpStep(Step):
    """A connection from the host ``sender`` at ``source`` to ``destination``, a node's or any address."""

    kind: ClassVar[str] = "tcp"

    sender: str
    source: str
    target: str
    destination: str
    port: int
    patience: float

    def title(self) -> str:
        return f"tcp {self.sender} → {self.target} port {self.port}"

    @property
    def usual_timeout(self) -> float:
        return self.patience + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.sender, self.target) if self.target != self.destination else (self.sender,)

    def run(self, stage: Stage) -> Outcome:
        state, connect, _ = self._ask(stage, b"")
        summary = state if connect is None else f"{state} in {show(connect, Dimension.DURATION)}"
        return Outcome(summary, {"state": state, "connect": connect})

    def _ask(self, stage: Stage, request: bytes) -> tuple[str, float | None, bytes]:
        """How it ended, seconds until the connection was open, and what came.

        Raises:
            StepEnded: the step must end before.
        """
        host = stage.hosts[self.sender]
        probe = _native.Program.probe(self.source, (self.destination, self.port), request, self.patience)
        host._start(probe)
        try:
            # In slices: the run may be taken down meanwhile.
            while not probe.wait(min(0.1, stage.limit.left())):
                stage.limit.check()
        finally:
            probe.stop()
            host._wake()
        return probe.answer()


@dataclass(frozen=True)
class HttpStep(TcpStep):
    """An HTTP request over such a connection."""

    kind: ClassVar[str] = "http"

    method: str
    path: str

    def title(self) -> str:
        port = f":{self.port}" if self.port != 80 else ""
        return f"http {self.sender}: {self.method} {self.target}{port}{self.path}"

    def run(self, stage: Stage) -> Outcome:
        lines = (f"{self.method} {self.path} HTTP/1.1", f"Host: {self.target}", "User-Agent: vnet", "Connection: close")
        state, connect, data = self._ask(stage, "\r\n".join((*lines, "", "")).encode())
        metrics: dict[str, Any] = {"state": state, "connect": connect, "status": None, "body": None}
        if not data:
            why = state if state != "open" else "the connection was closed without an answer"
            return Outcome(why, metrics, details=(f"no answer: {why}",))
        try:
            status, reason, body = _read(data, self.method)
        except (http.client.HTTPException, ValueError) as error:
            return Outcome("no HTTP", metrics, details=(f"what came is no HTTP answer: {error}: {data[:200]!r}",))
        text = body.decode("utf-8", "replace")
        metrics |= {"status": status, "body": text}
        details = (f"body: {text[:2000].rstrip()}",) if text else ()
        if state != "open":
            details = (f"the answer was not whole: {state}", *details)
        return Outcome(f"{status} {reason}, {len(body):,} bytes", metrics, details=details)


class _Answer:
    """What :class:`http.client.HTTPResponse` reads from in place of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _read(data: bytes, method: str) -> tuple[int, str, bytes]:
    response = http.client.HTTPResponse(_Answer(data), method=method)  # type: ignore[arg-type]
    response.begin()
    try:
        body = response.read()
    except http.client.IncompleteRead as cut:
        body = cut.partial
    return response.status, response.reason, body


def plan_tcp(said: TcpStepFile, context: StepContext) -> TcpStep:
    """Resolve the names of a tcp step.

    Raises:
        LabError: a name is unknown, or the two have no addresses of one family.
    """
    given = expectations(said.expect)
    return TcpStep(
        name=said.name or "",
        line=context.line,
        expectations=given if any(e.metric == "state" for e in given) else (_open(), *given),
        timeout=said.timeout,
        **_ends(said.tcp, context),
    )


def plan_http(said: HttpStepFile, context: StepContext) -> HttpStep:
    """Resolve the names of an http step.

    Raises:
        LabError: a name is unknown, or the two have no addresses of one family.
    """
    given = expectations(said.expect)
    ok = NumberExpectation("status", parse_comparison(200, Dimension.COUNT))
    return HttpStep(
        name=said.name or "",
        line=context.line,
        expectations=given if any(e.metric in ("status", "state") for e in given) else (ok, *given),
        timeout=said.timeout,
        method=said.http.method,
        path=said.http.path,
        **_ends(said.http, context),
    )


def _open() -> Expectation:
    return TextExpectation("state", "equals", "open")


def _ends(said: Any, context: StepContext) -> dict[str, Any]:
    sender = context.host(said.from_, "from", instead="curl")
    to = destination(said.to, said.family, sender, context)
    source = sender.address(6 if ":" in to else 4)
    return {
        "sender": sender.name,
        "source": str(source),
        "target": said.to,
        "destination": to,
        "port": said.port,
        "patience": said.timeout,
    }
