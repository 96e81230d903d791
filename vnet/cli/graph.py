"""``vnet graph``: a picture of a lab file or of a live LAN."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnet.cli.completing import complete_lab_or_file
from vnet.cli.output import abandon_output
from vnet.errors import LanNotFound, VnetError

if TYPE_CHECKING:
    from vnet.graph import Graph

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("graph", short_help="Draw a lab file or a live LAN.")(graph)


def _formats(incomplete: str) -> list[str]:
    from vnet.graph import FORMATS

    return [form for form in FORMATS if form.startswith(incomplete)]


def graph(
    given: Annotated[
        str,
        typer.Argument(
            metavar="FILE|LAB",
            help="A lab file, the name of a lab that comes with vnet, - or the name of a live LAN.",
            autocompletion=complete_lab_or_file,
        ),
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="FILE", help="Write it there; the name says the format: .svg, .png, ..."),
    ] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="text, svg, png, dot, mermaid or json.",
            autocompletion=_formats,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print networks, nodes and links as JSON.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show each node, where there are more than 250, too.")
    ] = False,
    live: Annotated[bool, typer.Option("--live", help="Draw the lab or LAN that is up.")] = False,
    file: Annotated[bool, typer.Option("--file", help="Draw the lab as its file says it.")] = False,
) -> None:
    """Draw networks, nodes, addresses and links, as they stand in a lab file or on a live LAN with what is up and down.

    Without -o, a tree of text goes to standard output, or what --format says.

    Example: vnet graph quickstart -o quickstart.svg
    """
    from vnet.graph import render

    wanted = _format(out, form, as_json)
    if live and file:
        raise typer.BadParameter("--live and --file exclude each other")
    if not out and wanted == "png" and sys.stdout.isatty():
        raise typer.BadParameter("a PNG is nothing for a terminal; name a file with -o picture.png")
    data = render(_graph(given, live=live, file=file), wanted, everything=everything)
    if out and out != "-":
        _write(Path(out), data)
        return
    try:
        sys.stdout.flush()
        if wanted == "png":
            sys.stdout.buffer.write(data)
        else:
            sys.stdout.write(data.decode())
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_output()
        raise VnetError(f"standard output: {(error.strerror or str(error)).lower()}") from None


def _format(out: str, form: str, as_json: bool) -> str:
    from vnet.graph import FORMATS, SUFFIXES
    from vnet.lab.tree import did_you_mean

    if form and form not in FORMATS:
        raise typer.BadParameter(
            f"there is no format {form!r}{did_you_mean(form, FORMATS)}; expected one of {', '.join(FORMATS)}"
        )
    if as_json:
        if form not in ("", "json"):
            raise typer.BadParameter(f"--json and --format {form} exclude each other")
        return "json"
    if form or not out or out == "-":
        return form or "text"
    suffix = Path(out).suffix.lower()
    if suffix not in SUFFIXES:
        what = f"the suffix {suffix!r} says no format" if suffix else "no suffix says the format"
        raise typer.BadParameter(f"-o {out}: {what}; known are {', '.join(SUFFIXES)}, or give --format")
    return SUFFIXES[suffix]


def _graph(given: str, *, live: bool, file: bool) -> Graph:
    """What is to be drawn: an existing file, a live LAN, or a shipped lab; of a file and a LAN of one name, neither."""
    from vnet.control import describe
    from vnet.graph import from_description, from_lab
    from vnet.lab.source import SUFFIXES, load, shipped_labs
    from vnet.runtime import live_names

    if live:
        from vnet.cli.looking import lan_name

        return from_description(describe(lan_name(given)))
    is_file = given == "-" or Path(given).is_file()
    if not file and given in live_names():
        if is_file:
            raise VnetError(
                f"{given!r} is a file and a LAN that is up: vnet graph --live {given} draws the LAN, "
                f"vnet graph --file {given} the lab as it is written"
            )
        # What is up comes before what ships: it is most often the same, and shows more.
        return from_description(describe(given))
    if file or is_file or given in shipped_labs():
        return from_lab(load(given))
    if os.sep not in given and Path(given).suffix not in SUFFIXES:
        try:
            return from_description(describe(given))
        except (LanNotFound, ValueError):
            raise _unknown(given) from None
    return from_lab(load(given))  # which says what is wrong with the file


def _unknown(given: str) -> VnetError:
    from vnet.lab.source import shipped_labs
    from vnet.lab.tree import did_you_mean
    from vnet.runtime import live_names

    up, labs = live_names(), list(shipped_labs())
    running = f"up are {', '.join(up)}" if up else "no LAN of this user is up"
    close = did_you_mean(given, [*up, *labs])
    return VnetError(
        f"{given!r} is no file, no lab that comes with vnet and no live LAN{close}; {running}; "
        f"the labs are {', '.join(labs)}"
    )


def _write(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all."""
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            path.write_bytes(data)  # a device or a pipe; a directory says so itself
            return
        target = path.resolve()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name[:200]}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise VnetError(f"-o {path}: {(error.strerror or str(error)).lower()}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
