"""What is measured between two namespaces, with programs that we did not write."""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .spaces import Place, Program, Trouble, run

__all__ = ["PORT", "Ends", "Rate", "congestion", "datagrams", "prepare", "round_trip", "stream"]

PORT = 5201

# Linux's default. A machine may have another one, and BBR paces: a timer's interrupt for each segment, which in a
# virtual machine costs more than carrying the segment.
_CONGESTION = "cubic"


@dataclass(frozen=True)
class Ends:
    """Two namespaces on one network, the second one's address, and the process that carries frames between them.

    That process is the peer's switch; 0 where the kernel carries them itself, or nobody should choose its processor.
    """

    client: Place
    server: Place
    address: str
    carrier: int = 0


@dataclass(frozen=True)
class Rate:
    """Datagrams a second: sent, and taken by the receiver's program."""

    sent: float
    received: float


def _core(wanted: int) -> int | None:
    """The processor ``wanted``, if this process may run on it and on another."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[wanted] if len(allowed) > 1 else None


def prepare(ends: Ends) -> None:
    """Shows that the two reach each other, so that neighbours are known before the first figure; settles how TCP sends.

    Raises:
        Trouble: they do not.
    """
    try:
        run(["ping", "-c", "3", "-i", "0.2", "-W", "2", "-q", ends.address], ends.client)
    except Trouble:
        raise Trouble("one namespace does not answer the other's ping") from None
    for place in (ends.client, ends.server):
        # A namespace may not choose for all its sockets what the machine does not offer to everybody, but for a route.
        # iperf3's own option comes after the connection is there, when the machine's has begun to pace it.
        (route,) = run(["ip", "-4", "route", "show", "scope", "link"], place).splitlines()
        run(["ip", "route", "replace", *route.split(), "congctl", congestion()], place)


def stream(ends: Ends, seconds: float, flows: int = 1) -> float:
    """TCP with iperf3, client and server on a processor each.  Returns bits a second, as the receiver counts them."""
    told = _iperf(ends, ["--time", f"{seconds:g}", "--parallel", str(flows)], seconds)
    return float(told["end"]["sum_received"]["bits_per_second"])


def congestion() -> str:
    """TCP's congestion control in these measurements: cubic, or reno, which every kernel has."""
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    return _CONGESTION if _CONGESTION in known else "reno"


def datagrams(ends: Ends, size: int, seconds: float) -> Rate:
    """UDP with iperf3, as fast as it sends: ``size`` bytes of payload in each datagram."""
    told = _iperf(ends, ["--udp", "--bitrate", "0", "--length", str(size), "--time", f"{seconds:g}"], seconds)
    total = told["end"]["sum"]
    sent = total["packets"] / total["seconds"]
    return Rate(sent, (total["packets"] - total["lost_packets"]) / total["seconds"])


def _iperf(ends: Ends, options: list[str], seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    server = ["iperf3", "--server", "--one-off", "--port", str(PORT), "--forceflush"]
    core = _core(1)
    if core is not None:
        server = ["taskset", "--cpu-list", str(core), *server]
    with Program(server, ends.server, ready="Server listening"):
        words = ["iperf3", "--client", ends.address, "--port", str(PORT), "--json", *options]
        told = json.loads(run(words, ends.client, core=_core(0), timeout=seconds + 30))
    if "error" in told:
        raise Trouble(f"iperf3: {told['error']}")
    result: dict[str, dict[str, dict[str, float]]] = told
    return result


@contextlib.contextmanager
def _moved(process: int, core: int | None) -> Iterator[None]:
    """Keeps the threads of a process on one processor."""
    tasks = [int(task) for task in os.listdir(f"/proc/{process}/task")] if process and core is not None else []
    before = {}
    for task in tasks:
        before[task] = os.sched_getaffinity(task)
        os.sched_setaffinity(task, {core or 0})
    try:
        yield
    finally:
        for task, cores in before.items():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(task, cores)


def round_trip(ends: Ends, count: int) -> float:
    """Echoes one after the other, each sent when the one before is back, while nothing else is on the way.

    ``ping -f`` itself prints a mean that is cut to whole microseconds, too coarse where a round trip takes four.  With
    ``-i 0`` it sends in the same way and prints each; their mean is finer than each of them.  The longest tell what the
    machine did meanwhile, so a twentieth at either end does not count.

    The carrier's threads stay on ping's processor meanwhile.  They do best there, and left to the scheduler the figure
    would tell on which processor it happened to put them.

    Returns:
        Seconds.

    Raises:
        Trouble: more than one in a hundred did not come back.
    """
    with tempfile.TemporaryFile("w+") as output:
        # Into a file: a reader at the other end of a pipe would be woken in the middle of what is measured.
        with _moved(ends.carrier, _core(0)):
            run(["ping", "-n", "-i", "0", "-c", str(count), ends.address], ends.client, core=_core(0), output=output)
        output.seek(0)
        times = sorted(float(found) / 1e3 for found in re.findall(r" time=([\d.]+) ms", output.read()))
    if len(times) < 0.99 * count:
        raise Trouble(f"ping got {len(times)} of {count} echoes back")
    odd = len(times) // 20
    return statistics.fmean(times[odd : len(times) - odd])
