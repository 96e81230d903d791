"""``vnet ping``: from a host of a lab that is up to a node or an address."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnet.cli.complete import complete_node
from vnet.cli.labverbs import AsJson, LabArgument, errors_as_json, print_json

if TYPE_CHECKING:
    from vnet.calls import Stream

__all__ = ["add_to"]

# Bytes of an ICMP echo's header, which ping counts with the payload.
_HEADER = 8


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("ping", short_help="Ping from a host of a lab to a node or an address.")(ping)


@dataclass
class _Tally:
    """What has come so far; times in seconds."""

    sent: int = 0
    times: list[float] = field(default_factory=list)
    errors: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def loss(self) -> float:
        return 1 - len(self.times) / self.sent if self.sent else 0.0


def ping(
    lab: LabArgument,
    sender: Annotated[str, typer.Argument(metavar="A", help="The host that pings.", autocompletion=complete_node)],
    target: Annotated[str, typer.Argument(metavar="B", help="A node, or an address.", autocompletion=complete_node)],
    count: Annotated[
        int, typer.Option("--count", "-c", metavar="N", min=0, help="Requests to send; 0: until Ctrl-C.")
    ] = 5,
    interval: Annotated[
        str, typer.Option("--interval", "-i", metavar="TIME", help="Time between two requests, such as 50ms.")
    ] = "200ms",
    timeout: Annotated[
        str, typer.Option("--timeout", "-W", metavar="TIME", help="When a request counts as lost.")
    ] = "1s",
    size: Annotated[
        int, typer.Option("--size", "-s", metavar="BYTES", min=0, max=65507, help="Bytes of payload.")
    ] = 56,
    four: Annotated[bool, typer.Option("-4", help="Over IPv4.")] = False,
    six: Annotated[bool, typer.Option("-6", help="Over IPv6.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ping from a built-in host of a lab that is up to another node or an address.

    Exit codes: 0 every request was answered, 1 some were not.

    Example: vnet ping office alice bob --count 3
    """
    if four and six:
        raise typer.BadParameter("-4 and -6 exclude one another")
    pause, patience = _seconds("--interval", interval), _seconds("--timeout", timeout)
    if not patience:
        raise typer.BadParameter("--timeout is above 0")
    from vnet.calls import stream
    from vnet.lab.finding import find_lab

    tally = _Tally()
    wanted: dict[str, Any] = {"from": sender, "to": target, "count": count, "interval": pause, "timeout": patience}
    wanted |= {"size": size, "family": 4 if four else 6 if six else None}
    with errors_as_json(as_json):
        found = find_lab(lab, kinds=("lab", "run"), what="it has no hosts that vnet ping can use")
        with stream(found.name, "lab.ping", **wanted) as answers:
            address = _listen(answers, tally, sender, as_json)
    if as_json:
        times = tally.times
        print_json(
            {
                "lab": found.name,
                "from": sender,
                "to": target,
                "address": address,
                "sent": tally.sent,
                "received": len(times),
                "loss": tally.loss,
                "min": min(times, default=None),
                "avg": statistics.fmean(times) if times else None,
                "max": max(times, default=None),
            }
        )
    raise typer.Exit(0 if len(tally.times) == tally.sent else 1)


def _seconds(option: str, text: str) -> float:
    """A duration with its unit, or a number of seconds, as ping takes it."""
    from vnet.lab.units import Dimension, parse

    try:
        number = float(text)
    except ValueError:
        try:
            return parse(text, Dimension.DURATION)
        except ValueError as error:
            raise typer.BadParameter(f"{option}: {error}") from None
    if not 0 <= number < math.inf:
        raise typer.BadParameter(f"{option} is a time such as 50ms, or a number of seconds, not {text}")
    return number


def _listen(answers: Stream, tally: _Tally, sender: str, as_json: bool) -> str:
    address, target, size = "", "", 0
    try:
        for answer in answers:
            if "address" in answer:
                address, target, size = answer["address"], answer["target"], answer["size"]
                if not as_json:
                    where = f"{target} ({address})" if target != address else address
                    print(f"PING {where} from {sender}: {size} data bytes", flush=True)
                continue
            tally.sent += 1
            if answer["seconds"] is not None:
                tally.times.append(answer["seconds"])
            elif answer["error"] is not None:
                tally.errors += 1
            if not as_json:
                print(_line(answer, address, sender, size), flush=True)
    finally:
        # After Ctrl-C, too.
        if address and not as_json:
            _statistics(target, tally)
    return address


def _line(answer: dict[str, Any], address: str, sender: str, size: int) -> str:
    sequence = answer["sequence"]
    if answer["seconds"] is not None:
        return f"{size + _HEADER} bytes from {address}: icmp_seq={sequence} time={_milliseconds(answer['seconds'])} ms"
    if answer["error"] is not None:
        return f"From {sender} icmp_seq={sequence}: {answer['error']}"
    return f"no answer to icmp_seq={sequence}"


def _statistics(target: str, tally: _Tally) -> None:
    errors = f", +{tally.errors} errors" if tally.errors else ""
    milliseconds = round((time.monotonic() - tally.began) * 1000)
    print(f"\n--- {target} ping statistics ---")
    print(
        f"{tally.sent} packets transmitted, {len(tally.times)} received{errors}, {tally.loss * 100:g}% packet loss, "
        f"time {milliseconds}ms"
    )
    if tally.times:
        figures = (min(tally.times), statistics.fmean(tally.times), max(tally.times), statistics.pstdev(tally.times))
        print(f"rtt min/avg/max/mdev = {'/'.join(_milliseconds(each) for each in figures)} ms", flush=True)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3f}"
