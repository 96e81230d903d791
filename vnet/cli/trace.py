"""``vnet trace``: what would become of a datagram, or what is dropped right now, and why."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from vnet.cli.labverbs import AsJson, errors_as_json
from vnet.cli.looking import LanArgument, json_line, lan_name, on_terminal, suggest_nic
from vnet.cli.output import complain

if TYPE_CHECKING:
    from vnet.drops import Drop
    from vnet.explain import Explanation
    from vnet.lab.plan import Node

__all__ = ["add_to"]

# More than anybody reads, and soon explained.
_MOST = 1000
# Bytes of a dropped datagram that a line shows: an IPv4 header and the ports behind it.
_SHOWN = 24
_INDENT = " " * 11


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("trace", short_help="Say what would become of a datagram, or follow dropped ones.")(trace)


def trace(
    lab: LanArgument,
    packet: Annotated[
        str | None,
        typer.Argument(metavar="[PACKET]", help="A scapy expression; or - for the bytes of one on standard input."),
    ] = None,
    sender: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="NIC", help="Whose datagram; with --drops, whose to tell.", autocompletion=suggest_nic
        ),
    ] = None,
    hexadecimal: Annotated[
        str | None, typer.Option("--hex", metavar="HEX", help="The datagram as hexadecimal digits.")
    ] = None,
    drops: Annotated[bool, typer.Option("--drops", help="Follow what is dropped from now on.")] = False,
    count: Annotated[int, typer.Option(metavar="N", min=0, help="End --drops after N.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Say each step that a datagram would take, without sending it; or with --drops, follow what is dropped.

    The packet is a scapy expression as in the inject step of a lab; src and dst take names of NICs, and the source is
    the NIC's address unless it is given.

    Exit codes: 0 it would be delivered, 1 it (or one of several) would be dropped, 2 trouble. With --drops: 0 when N
    were told or the LAN ended, 2 where it ended before.

    Example: vnet trace office --from alice 'IP(dst="10.0.0.9")/ICMP()'
    """
    if drops:
        if packet is not None or hexadecimal is not None:
            raise typer.BadParameter("--drops follows what is sent; leave out the packet")
        with errors_as_json(as_json):
            _follow(lan_name(lab), sender or [], count, as_json)
        return
    if (packet is None) == (hexadecimal is None):
        raise typer.BadParameter("give a packet, - or --hex, and one of them; or --drops")
    if not sender or len(sender) > 1:
        raise typer.BadParameter("say whose datagram it is: --from NIC")
    if count:
        raise typer.BadParameter("--count is for --drops")
    with errors_as_json(as_json):
        name = lan_name(lab)
        datagrams = list(_datagrams(name, sender[0], packet, hexadecimal))
        told = [_ask(name, sender[0], datagram) for datagram in datagrams]
    if as_json:
        plain = [each.as_dict() | {"bytes": data.hex()} for each, data in zip(told, datagrams, strict=True)]
        print(json.dumps({"format": 1, "lan": name, "explanations": plain}, indent=2, ensure_ascii=False))
    else:
        _print(told)
    raise typer.Exit(0 if all(each.verdict == 0 for each in told) else 1)


def _datagrams(lan: str, sender: str, packet: str | None, hexadecimal: str | None) -> Iterable[bytes]:
    if hexadecimal is not None:
        try:
            return [bytes.fromhex(re.sub(r"[\s:]|\b0x", "", hexadecimal))]
        except ValueError:
            raise ValueError(f"--hex takes pairs of hexadecimal digits, not {_short(hexadecimal)!r}") from None
    if packet == "-":
        # A little over what is the largest, so that it is too big and not cut.
        return [sys.stdin.buffer.read(1 << 20)]
    from vnet.lab.packets import datagrams

    nodes = _nodes(lan)
    if sender not in nodes:
        from vnet.lab.tree import did_you_mean

        raise ValueError(f"no NIC of {lan} is called {sender!r}{did_you_mean(sender, nodes)}")
    built, _ = datagrams(packet or "", sender=nodes[sender], nodes=nodes, count=1, seed="trace")
    if not built:
        raise ValueError("the expression gives no packet")
    if len(built) > _MOST:
        raise ValueError(f"the expression gives {len(built):,} datagrams; trace tells of up to {_MOST:,}")
    return built


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _nodes(lan: str) -> Mapping[str, Node]:
    """The NICs of a live LAN as nodes of a lab, which packet expressions know."""
    import ipaddress

    from vnet.calls import call
    from vnet.lab.plan import Joined, Node
    from vnet.sample import Sample

    sample = Sample.from_dict(call(lan, "statistics"))
    return {
        nic.name: Node(
            name=nic.name,
            kind=nic.kind,
            joined=(Joined(nic.network, tuple(map(ipaddress.ip_address, nic.addresses))),),
        )
        for nic in sample.nics
    }


def _ask(lan: str, sender: str, datagram: bytes) -> Explanation:
    """Has the base explain a datagram, which lies in a file beside the request: a request is short."""
    from vnet.calls import call
    from vnet.explain import Explanation

    file = os.memfd_create("vnet-datagram")
    try:
        with open(file, "wb", closefd=False) as written:
            written.write(datagram)
        return Explanation.from_dict(call(lan, "explain", files=(file,), sender=sender))
    finally:
        os.close(file)


def _print(told: list[Explanation]) -> None:
    width = shutil.get_terminal_size().columns if on_terminal() else 0
    for number, each in enumerate(told, 1):
        if len(told) > 1:
            print(f"{'' if number == 1 else chr(10)}datagram {number:,} of {len(told):,}, {each.length:,} bytes")
        for line in str(each).splitlines():
            # Below its own column, as far as there is room for one.
            print(textwrap.fill(line, width, subsequent_indent=_INDENT) if width > 40 else line)
    if len(told) > 1:
        verdicts = [each.verdict for each in told]
        counted = ", ".join(f"{verdicts.count(verdict):,} {verdict.name.lower()}" for verdict in sorted(set(verdicts)))
        print(f"\n{len(told):,} datagrams: {counted}")


def _follow(lan: str, nics: list[str], count: int, as_json: bool) -> None:
    from vnet.drops import follow
    from vnet.packetline import summary

    with follow(lan, nics) as drops:
        if on_terminal():
            complain(f"following what {lan} drops; Ctrl-C ends")
        for number, drop in enumerate(drops, 1):
            what = summary(drop.head, drop.length)
            if as_json:
                json_line({"format": 1, **drop.as_dict(), "summary": what})
            else:
                print("\n".join(_lines(drop, what)), flush=True)
            if number == count:
                return
    complain(f"vnet: the LAN {lan!r} has ended")
    if count:
        raise typer.Exit(2)


def _lines(drop: Drop, summary: str) -> Iterator[str]:
    if drop.missed:
        yield f"({drop.missed:,} more came too fast to be told)"
    seconds, rest = divmod(drop.time, 10**9)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest // 1000:06}"
    # A copy of a broadcast is dropped at its receiver.
    where = drop.nic if drop.direction == "out" else f"to {drop.nic}"
    more = "…" if drop.length > _SHOWN else ""
    data = drop.head[:_SHOWN].hex() + more
    yield f"{clock}  {where:<12}  {drop.reason.name.lower():<11}  {drop.length:>6} B  {summary}  {data}"
