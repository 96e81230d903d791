"""``vnet capture``: what a live LAN forwards, into a file, a pipe, or line by line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from vnet.cli.labverbs import AsJson, errors_as_json
from vnet.cli.looking import LanArgument, json_line, lan_name, on_terminal, seconds, suggest_nic
from vnet.cli.output import abandon_output, complain
from vnet.errors import VnetError

if TYPE_CHECKING:
    from vnet.capture import CaptureOptions
    from vnet.live_capture import CaptureReport
    from vnet.pcapng import CapturedPacket

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("capture", short_help="Capture what a live LAN forwards, as pcapng or line by line.")(capture)


def capture(
    lab: LanArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NIC|FILTER",
            help="The NICs, all if none is named; from the first word that is no NIC's name, a filter as tcpdump's.",
            autocompletion=suggest_nic,
        ),
    ] = None,
    nics: Annotated[
        list[str] | None,
        typer.Option(
            "--nic", "-i", metavar="NIC", help="A NIC; all words are then the filter.", autocompletion=suggest_nic
        ),
    ] = None,
    write: Annotated[str, typer.Option("--write", "-w", metavar="FILE|-", help="Write pcapng there.")] = "",
    count: Annotated[int, typer.Option("--count", "-c", metavar="N", min=0, help="End after N packets.")] = 0,
    duration: Annotated[str, typer.Option("--seconds", metavar="TIME", help="End after so long: 10, or 500ms.")] = "",
    drops: Annotated[bool, typer.Option("--drops", help="Only what did not arrive.")] = False,
    direction: Annotated[
        str, typer.Option("--direction", "-Q", metavar="in|out|both", help="Only what the NICs get, or send.")
    ] = "both",
    snaplen: Annotated[
        int, typer.Option("--snaplen", "-s", metavar="BYTES", min=0, max=65_535, help="Keep so much of each packet.")
    ] = 0,
    file_size: Annotated[
        str, typer.Option("--file-size", metavar="SIZE", help="Begin another file after so much: 10MB.")
    ] = "",
    files: Annotated[int, typer.Option("--files", metavar="N", min=0, help="Keep the last N of these files.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Capture what a live LAN forwards: each datagram as its sender sent it and as each receiver got it.

    Without -w a line for each packet; -w - is for a pipe into tshark or Wireshark. The filter is tcpdump's language
    (pcap-filter); it needs libpcap. The end tells on standard error how much was captured and how much was missed: a
    capture never makes a sender wait. Ctrl-C ends it in good order.

    Exit codes: 0, also for Ctrl-C, a closed pipe and the LAN's end; 2 wrong use, a filter that does not compile, a file
    that cannot be written whole; 3 there is no libpcap.

    Example: vnet capture office alice udp port 53 -w dns.pcapng
    """
    with errors_as_json(as_json):
        name = lan_name(lab)
        options = _options(name, words or [], nics, count, drops, direction, snaplen, file_size, files, write)
        limit = (
            seconds(
                duration if not duration.replace(".", "", 1).isdigit() else f"{duration}s", "--seconds", least=0.001
            )
            if duration
            else None
        )
        with _until_told():
            report = _to_file(name, options, write, limit) if write else _to_lines(name, options, limit, as_json)
        _tell(name, report, write, as_json)


def _options(
    lan: str,
    words: Sequence[str],
    nics: list[str] | None,
    count: int,
    drops: bool,
    direction: str,
    snaplen: int,
    file_size: str,
    files: int,
    write: str,
) -> CaptureOptions:
    """What is wanted, checked; the filter compiled."""
    from vnet.capture import CaptureOptions
    from vnet.filters import FilterError, compile_filter
    from vnet.lab.tree import did_you_mean
    from vnet.live_capture import addresses_of

    if file_size and write in ("", "-"):
        raise typer.BadParameter("--file-size is for -w FILE")
    if files and not file_size:
        raise typer.BadParameter("--files says how many files of --file-size are kept; give that too")
    addresses = addresses_of(lan)
    known = list(addresses)
    for nic in nics or ():
        if nic not in known:
            raise VnetError(f"no NIC of {lan} is called {nic!r}{did_you_mean(nic, known)}")
    chosen = list(nics or ())
    rest = list(words)
    while not nics and rest and rest[0] in known:
        chosen.append(rest.pop(0))
    expression = " ".join(rest)
    try:
        program = compile_filter(expression, addresses) if expression else None
        return CaptureOptions(
            nics=tuple(chosen) or None,
            direction=direction,
            filter=expression or None,
            drops=drops,
            limit=count or None,
            snaplen=snaplen or None,
            file_size=_bytes(file_size) if file_size else None,
            files=files,
            program=program,
        )
    except FilterError as error:
        # A word that is nearly a NIC's name was perhaps meant to be one.
        raise VnetError(f"{error}{did_you_mean(rest[0], known) if not nics else ''}") from None


def _bytes(text: str) -> int:
    from vnet.lab.units import Dimension, parse

    try:
        return int(parse(text, Dimension.SIZE))
    except ValueError as error:
        raise typer.BadParameter(f"--file-size: {error}") from None


@contextlib.contextmanager
def _until_told() -> Iterator[None]:
    """SIGTERM and SIGHUP end a capture as Ctrl-C does: in good order."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _to_file(lan: str, options: CaptureOptions, write: str, limit: float | None) -> CaptureReport:
    from vnet.live_capture import LiveCapture

    name = ""
    if write == "-":
        if sys.stdout.isatty():
            raise VnetError("a capture is nothing for a terminal; give -w FILE, or a pipe such as `| tshark -r -`")
        file = os.dup(1)
    elif options.file_size:
        directory, name = os.path.split(write)
        file = _open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
    else:
        file = _open(write, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        running = LiveCapture(lan, file, options, name)
    finally:
        os.close(file)
    with running:
        if sys.stderr.isatty():
            complain(f"capturing {lan}; Ctrl-C ends")
        deadline = None if limit is None else time.monotonic() + limit
        try:
            while (report := running.over(_left(deadline, 3600.0))) is None:
                if deadline is not None and time.monotonic() >= deadline:
                    return running.finish()
            return report
        except KeyboardInterrupt:
            return running.finish()


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise VnetError(f"{path} cannot be written: {error.strerror}") from None


def _left(deadline: float | None, most: float) -> float:
    return most if deadline is None else min(most, max(0.0, deadline - time.monotonic()))


def _to_lines(lan: str, options: CaptureOptions, limit: float | None, as_json: bool) -> CaptureReport:
    from vnet.live_capture import CaptureReport, LiveCapture
    from vnet.packetline import packet_line
    from vnet.pcapng import PcapngReader

    color = on_terminal() and not os.environ.get("NO_COLOR")
    reading, writing = os.pipe()
    try:
        try:
            running = LiveCapture(lan, writing, options)
        finally:
            os.close(writing)
        reader = PcapngReader()

        def take() -> bool:
            """Prints what has come.  False when nothing more comes."""
            data = os.read(reading, 1 << 18)
            for packet in reader.feed(data):
                if as_json:
                    json_line(_plain(packet))
                else:
                    sys.stdout.write(packet_line(packet, color) + "\n")
            sys.stdout.flush()
            return bool(data)

        with running:
            if sys.stderr.isatty() and not as_json:
                complain(f"following {lan}; Ctrl-C ends")
            deadline = None if limit is None else time.monotonic() + limit
            try:
                try:
                    while select.select([reading], [], [], _left(deadline, 3600.0))[0]:
                        if not take():
                            return running.over(5.0) or CaptureReport()
                except KeyboardInterrupt:
                    pass
                # What was sent before is to be seen.
                running.ask_to_finish()
                while take():
                    pass
                return running.over(5.0) or CaptureReport()
            except BrokenPipeError:
                # Whoever read our lines has seen enough.
                abandon_output()
                os.close(reading)
                reading = -1
                return running.finish()
    finally:
        if reading >= 0:
            os.close(reading)


def _plain(packet: CapturedPacket) -> dict[str, object]:
    from vnet.packetline import summary

    return {
        "time": packet.time / 1e9,
        "nic": packet.interface,
        "direction": packet.direction,
        "length": packet.length,
        "summary": summary(packet.data, packet.length),
        "comment": packet.comment,
        "missed": packet.missed,
    }


def _tell(lan: str, report: CaptureReport, write: str, as_json: bool) -> None:
    if as_json:
        # Standard output has the capture, if it has one.
        print(
            json.dumps({"format": 1, "lan": lan, "capture": report.as_dict()}),
            file=sys.stderr if write == "-" else sys.stdout,
        )
    else:
        if report.why in ("lan", "base"):
            complain(f"vnet: the LAN {lan!r} has ended")
        if report.why != "base":
            complain(str(report))
    if report.error:
        raise VnetError(f"{write or 'standard output'}: {report.error}")
