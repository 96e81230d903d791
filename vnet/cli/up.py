"""``vnet up``: start a lab in the background, or bring one that is up in line with its file."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from vnet.cli.completing import complete_lab_file
from vnet.cli.labverbs import AsJson, errors_as_json, print_json
from vnet.cli.output import abandon_output
from vnet.cli.progress import Progress, progress
from vnet.cli.run import LAB_HELP
from vnet.errors import LanNotFound, NameTaken, VnetError

if TYPE_CHECKING:
    from vnet.lab.finding import LiveLan
    from vnet.lab.plan import Lab
    from vnet.lab.source import Source

__all__ = ["add_to"]

# Times that another process may bring a lab of this name up or down between our look and our try.
_TRIES = 5
# Seconds in which a lab that is being built has said what it is.
_FRESH = 1.0


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("up", short_help="Start a lab that stays up, or apply what changed in its file.")(up)


def up(
    file: Annotated[str, typer.Argument(metavar="FILE|NAME|-", help=LAB_HELP, autocompletion=complete_lab_file)],
    as_json: AsJson = False,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=2**64 - 1, help="Use this seed instead of the lab's.")
    ] = None,
    prometheus: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Have the base serve its counters to Prometheus there.")
    ] = "",
) -> None:
    """Start a lab in the background and return when every node is ready.

    Where the lab is up from the same file, the difference is applied: nodes and networks that were added, removed or
    changed, and commands that changed. Everything else goes on undisturbed. vnet down ends the lab.

    Exit codes: 0 it is up, 2 the lab is wrong or did not come up, 3 this machine lacks something that it needs.

    Example: vnet up office.yaml
    """
    with errors_as_json(as_json), progress() as line:
        _up(file, seed, prometheus, as_json, line)


def _up(given: str, seed: int | None, prometheus: str, as_json: bool, line: Progress) -> None:
    from vnet.lab.finding import live_lan, origin_of
    from vnet.lab.source import open_source, plan
    from vnet.runtime import live_names

    line("reading the lab")
    source = open_source(given)
    lab = plan(source, seed=seed)
    origin = origin_of(lab.file, lab.directory)
    for _ in range(_TRIES):
        try:
            while (lan := live_lan(lab.name)).kind == "program" and 0 <= time.time() - lan.since < _FRESH:
                # Another `vnet up` may be building it, and has not said yet what it is.
                time.sleep(0.01)
        except LanNotFound:
            try:
                _start(lab, origin, prometheus, as_json, line)
            except NameTaken:
                if lab.name not in live_names():
                    # An interface's name, not the LAN's.
                    raise
                # Somebody else was quicker.
                continue
        _check_same(lan, lab, origin)
        line(f"changing {lab.name}")
        try:
            _apply(lan, source, lab, seed, origin, as_json, line)
            _serve_metrics(lab.name, prometheus)
            return
        except LanNotFound:
            continue
    raise VnetError(f"other processes keep starting and ending LANs named {lab.name!r}")


def _start(lab: Lab, origin: str, prometheus: str, as_json: bool, line: Progress) -> NoReturn:
    from vnet.lab.launch import Launch
    from vnet.lab.signals import Signals

    line(f"starting {lab.name}")
    began = time.perf_counter()
    with Signals():
        launch = Launch(lab, origin)
        try:
            launch.wait(line, line.say)
            _serve_metrics(lab.name, prometheus)
            line.clear()
            launch.hold_signals()
            _say_up(lab, origin, launch.pid, time.perf_counter() - began, as_json)
            launch.settle()
        except BaseException:
            line.clear()
            launch.abandon()
            raise


def _serve_metrics(lan: str, address: str) -> None:
    from vnet.calls import call

    if address:
        call(lan, "metrics", address=address)


def _say_up(lab: Lab, origin: str, pid: int, seconds: float, as_json: bool) -> None:
    try:
        if as_json:
            print_json(_plain(lab, origin, pid, seconds, started=True))
            return
        nodes = f"{len(lab.nodes):,} {'node' if len(lab.nodes) == 1 else 'nodes'}"
        print(f"{lab.name} is up: {nodes} in {seconds:.2f} s; vnet down {lab.name} ends it", flush=True)
    except BrokenPipeError:
        # Whoever read our output has seen enough; the lab is up all the same.
        abandon_output()


def _check_same(lan: LiveLan, lab: Lab, origin: str) -> None:
    from vnet.lab.finding import no_answer

    if lan.kind is None:
        raise no_answer(lan)
    if lan.kind != "lab":
        what = "the LAN of a program" if lan.kind == "program" else "a run"
        raise NameTaken(
            f"{lan.name!r} is up as {what} (process {lan.pid}); end that, or give the lab another name in its file"
        )
    if lan.origin != origin:
        raise NameTaken(
            f"lab {lab.name!r} is up already, from {lan.origin} and not from {origin}; vnet down {lab.name} ends it"
        )


def _apply(
    lan: LiveLan, source: Source, lab: Lab, seed: int | None, origin: str, as_json: bool, line: Progress
) -> None:
    from vnet.calls import call

    began = time.perf_counter()
    text = os.memfd_create("vnet-lab-text", os.MFD_CLOEXEC)
    try:
        os.write(text, source.text.encode())
        os.lseek(text, 0, os.SEEK_SET)
        where = {"file": source.file, "directory": str(source.directory), "name": source.name, "origin": origin}
        answer = call(lan.name, "lab.apply", files=[text], timeout=None, seed=seed, **where)
    finally:
        os.close(text)
    line.clear()
    difference, seconds = answer["difference"], time.perf_counter() - began
    if as_json:
        print_json(_plain(lab, origin, lan.pid, seconds, started=False) | {"changed": difference})
        return
    words = _words(difference)
    if not words:
        print(f"{lab.name} is up as in {lab.file}: nothing changed")
        return
    for each in words:
        print(each)
    print(f"{lab.name} is up as in {lab.file}, changed in {seconds:.2f} s")


def _plain(lab: Lab, origin: str, pid: int, seconds: float, *, started: bool) -> dict[str, Any]:
    return {
        "lab": lab.name,
        "file": origin,
        "pid": pid,
        "nodes": len(lab.nodes),
        "seconds": round(seconds, 6),
        "started": started,
        "changed": None,
    }


# Where the word of the difference alone would not say it.
_HOW = {"shared": "changed who has"}


def _words(difference: dict[str, Any]) -> list[str]:
    words = []
    for what in ("network", "node", "link", "route", "filter", "region", "service"):
        key = f"{what}s"
        names = difference[key]
        if key in ("routes", "filters"):
            # What is changed are those of routers, and of nodes and networks.
            names = {how: [f"of {name}" for name in some] if how == "changed" else some for how, some in names.items()}
        for how in ("added", "removed", "changed", "shared", "weighed", "restarted"):
            found = names.get(how, [])
            if found:
                more = f" and {len(found) - 8:,} more" if len(found) > 8 else ""
                plural = what if len(found) == 1 else f"{what}s"
                words.append(f"{_HOW.get(how, how)} {plural} {', '.join(found[:8])}{more}")
    return words
