"""``vnet stats``: what the NICs of a live LAN have sent and received, and why datagrams were dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnet.cli.labverbs import AsJson, errors_as_json
from vnet.cli.looking import LanArgument, json_line, lan_name, on_terminal, seconds, suggest_nic
from vnet.cli.output import complain
from vnet.errors import LanClosed, VnetError

if TYPE_CHECKING:
    from vnet.sample import NicRates, Sample
    from vnet.view import Row

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("stats", short_help="Show counters by NIC and reason.")(stats)


def stats(
    lab: LanArgument,
    nics: Annotated[
        list[str] | None, typer.Argument(metavar="[NIC]...", help="Only these NICs.", autocompletion=suggest_nic)
    ] = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with rates until Ctrl-C or the LAN's end.")
    ] = False,
    interval: Annotated[str, typer.Option(metavar="TIME", help="Time between two looks of --watch.")] = "1s",
    count: Annotated[int, typer.Option("--count", metavar="N", min=0, help="End --watch after N looks.")] = 0,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="name, tx, rx, tx_bytes, rx_bytes, dropped, rx_dropped or a reason.")
    ] = "",
    top: Annotated[int, typer.Option(metavar="N", min=0, help="Only the first N, by --sort, else by traffic.")] = 0,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="Print Prometheus' text format.")] = False,
) -> None:
    """Show what each NIC sent and received, and how many of its datagrams were dropped for which reason.

    tx counts every datagram that the NIC sent, tx bytes those of delivered ones; rx full counts datagrams that found
    the NIC's own input buffer full.  Columns that are zero everywhere are left out.

    Exit codes: 0, also when the LAN ends under --watch; 2 there is no such LAN or NIC; 3 --prometheus lacks its
    package.

    Example: vnet stats office --sort dropped --top 10
    """
    from vnet.calls import call
    from vnet.sample import Sample

    key = _sort_key(sort, top)
    if prometheus and (watch or as_json):
        raise typer.BadParameter("--prometheus prints one sample as text; leave out --watch and --json")
    with errors_as_json(as_json):
        name = lan_name(lab)
        if watch:
            _watch(name, nics or [], key, top, seconds(interval, "--interval", least=0.05), count, as_json)
            return
        sample = _only(Sample.from_dict(call(name, "statistics")), nics or [], check=True)
    if prometheus:
        from vnet.metrics import as_text

        print(as_text(sample), end="")
    elif as_json:
        print(json.dumps(_plain(sample, key, top, None), indent=2, ensure_ascii=False))
    else:
        _print(_chosen(sample, key, top), sample)


def _watch(lan: str, nics: Sequence[str], key: str, top: int, every: float, count: int, as_json: bool) -> None:
    from vnet.calls import stream
    from vnet.sample import Sample

    before, looks = None, 0
    with stream(lan, "statistics", every=every) as samples, contextlib.suppress(LanClosed):
        for answer in samples:
            now = _only(Sample.from_dict(answer), nics, check=before is None)
            if before is not None:
                _show(before, now, key, top, as_json)
                looks += 1
                if looks == count:
                    return
            before = now
    complain(f"vnet: the LAN {lan!r} has ended")


def _sort_key(sort: str, top: int) -> str:
    from vnet.lab.tree import did_you_mean
    from vnet.view import sort_keys

    if sort and sort not in sort_keys():
        raise typer.BadParameter(
            f"--sort takes no {sort!r}{did_you_mean(sort, sort_keys())}; it takes {', '.join(sort_keys())}"
        )
    return sort or ("traffic" if top else "")


def _only(sample: Sample, nics: Sequence[str], *, check: bool) -> Sample:
    """The sample of some NICs, or of all where none are named; ``check`` that they are there."""
    if not nics:
        return sample
    known = [nic.name for nic in sample.nics]
    for name in nics:
        if check and name not in known:
            from vnet.lab.tree import did_you_mean

            raise VnetError(f"no NIC of {sample.lan} is called {name!r}{did_you_mean(name, known)}")
    return dataclasses.replace(sample, nics=tuple(nic for nic in sample.nics if nic.name in nics))


def _chosen(sample: Sample, key: str, top: int, rates: dict[str, NicRates] | None = None) -> list[Row]:
    from vnet.view import rows, sorted_rows

    chosen = rows(sample, rates)
    if key == "traffic":
        if rates is not None:
            chosen.sort(key=lambda row: -(row.rates.tx + row.rates.rx) if row.rates else 0.0)
        else:
            chosen.sort(key=lambda row: -(row.nic.statistics.tx_datagrams + row.nic.statistics.rx_datagrams))
    elif key:
        chosen = sorted_rows(chosen, key)
    return chosen[:top] if top else chosen


def _print(chosen: Sequence[Row], sample: Sample, rates: dict[str, NicRates] | None = None) -> None:
    from vnet.view import frame_lines, rows, table

    if not sample.nics:
        print("no NIC is on the LAN")
        return
    for line in (*table(chosen, rows(sample, rates), rates=rates is not None), *frame_lines(chosen)):
        print(line)


def _plain(sample: Sample, key: str, top: int, rates: dict[str, NicRates] | None) -> dict[str, Any]:
    plain = sample.as_dict()
    by_name = {nic["name"]: nic for nic in plain["nics"]}
    plain["nics"] = [by_name[row.name] for row in _chosen(sample, key, top, rates)]
    if rates is not None:
        for nic in plain["nics"]:
            found = rates[nic["name"]]
            nic["rates"] = {
                "tx": found.tx,
                "tx_bits": found.tx_bits,
                "rx": found.rx,
                "rx_bits": found.rx_bits,
                "rx_dropped": found.rx_dropped,
                "drops": {reason.name.lower(): value for reason, value in found.drops.items()},
            }
    del plain["clock"]
    return {"format": 1, **plain}


def _show(before: Sample, now: Sample, key: str, top: int, as_json: bool) -> None:
    """One look of --watch: on a terminal in place of the last one, elsewhere below it."""
    from vnet.sample import rates
    from vnet.view import rows, table

    found = rates(before, now)
    if as_json:
        json_line(_plain(now, key, top, found) | {"interval": now.clock - before.clock})
        return
    clock = time.strftime("%H:%M:%S", time.localtime(now.time))
    head = f"{now.lan}  {clock}  {len(now.nics):,} NIC{'' if len(now.nics) == 1 else 's'}"
    chosen = _chosen(now, key, top, found)
    lines = table(chosen, rows(now, found), rates=True)
    if not on_terminal():
        print("\n".join([head, *lines, ""]), flush=True)
        return
    width, height = shutil.get_terminal_size()
    room = height - 2
    if len(lines) > room > 3:
        hidden = len(lines) - room + 1
        # The heading, what fits, and the total.
        lines = [*lines[: room - 2], f"… {hidden:,} more: --top N, --sort KEY or names choose", lines[-1]]
    # Home; each line with what is right of it cleared; then what is below.
    print("\x1b[H" + "".join(f"{line[:width]}\x1b[K\n" for line in [head, *lines]) + "\x1b[J", end="", flush=True)
