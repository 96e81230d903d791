"""Live LANs as interfaces of Wireshark and tshark: an extcap program.

Wireshark runs every program in its extcap folder when it starts and asks for interfaces; ours names each live LAN of
the user.  :func:`install` puts a launcher there, which runs this module.  The interface is described in
https://www.wireshark.org/docs/man-pages/extcap.html and in Wireshark's ``doc/extcap_example.py``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .errors import MachineLacks, VnetError

__all__ = ["folder", "install", "installed", "main", "uninstall"]

# LINKTYPE_RAW: packets begin with an IPv4 or IPv6 header.
_RAW = 101
# What an interface of ours is called, before the LAN's name.
_PREFIX = "vnet-"
_MARK = "# The extcap launcher of vnet, made by `vnet doctor --install-extcap`; it goes with --uninstall-extcap.\n"
_NAME = "vnet"
_NO_FOLDER = (
    "; Wireshark before 4.2 knows no extcap folder of a user's own: do it as root, or set WIRESHARK_EXTCAP_DIR to a "
    "folder of yours for this and for Wireshark"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers one question of Wireshark's, or captures.  Returns the exit code."""
    parser = argparse.ArgumentParser(prog="vnet extcap", description="The extcap interface of vnet, for Wireshark.")
    parser.add_argument("--extcap-interfaces", action="store_true", help="list the live LANs")
    parser.add_argument("--extcap-version", nargs="?", const="", metavar="VERSION", help="Wireshark's version")
    parser.add_argument("--extcap-interface", metavar="NAME", help="the interface that is meant")
    parser.add_argument("--extcap-dlts", action="store_true", help="list its link types")
    parser.add_argument("--extcap-config", action="store_true", help="list its options")
    parser.add_argument("--extcap-reload-option", metavar="OPTION", help="list the values of one option anew")
    parser.add_argument("--extcap-capture-filter", metavar="FILTER", help="a filter in tcpdump's language")
    parser.add_argument("--capture", action="store_true", help="capture")
    parser.add_argument("--fifo", metavar="PATH", help="where to write")
    parser.add_argument("--nics", metavar="NIC,...", default="", help="only these NICs")
    parser.add_argument("--direction", choices=("both", "in", "out"), default="both", help="what NICs get, or send")
    parser.add_argument("--drops", nargs="?", const="true", default="false", help="only what did not arrive")
    parser.add_argument("--snaplen", type=int, default=0, help="bytes kept of each packet; 0 for all")
    given = parser.parse_args(arguments)
    try:
        if given.capture:
            return _capture(given)
        if given.extcap_interfaces:
            _print_interfaces()
        elif given.extcap_dlts:
            print(f"dlt {{number={_RAW}}}{{name=RAW}}{{display=Raw IP}}")
        elif given.extcap_config or given.extcap_reload_option:
            _print_config(_lan(given), given.extcap_reload_option)
        elif given.extcap_capture_filter is not None:
            return _check_filter(_lan(given), given.extcap_capture_filter)
        elif given.extcap_version is None:
            parser.error("Wireshark asks with --extcap-interfaces, --extcap-dlts, --extcap-config or --capture")
    except BrokenPipeError:
        # Whoever asked has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (VnetError, ValueError) as error:
        print(f"vnet: {error}", file=sys.stderr)
        return 3 if isinstance(error, MachineLacks) else 2
    return 0


def _lan(given: argparse.Namespace) -> str:
    name = str(given.extcap_interface or "")
    if not name.startswith(_PREFIX):
        raise VnetError(f"--extcap-interface is one of --extcap-interfaces, such as {_PREFIX}office, not {name!r}")
    return name.removeprefix(_PREFIX)


def _print_interfaces() -> None:
    from importlib.metadata import version

    from .runtime import live_names

    print(f"extcap {{version={version('vnet')}}}{{display=vnet, LANs in shared memory}}")
    for name in live_names():
        print(f"interface {{value={_PREFIX}{name}}}{{display=vnet: {name}, all NICs}}")


def _print_config(lan: str, only: str | None) -> None:
    from .control import describe

    def arg(number: int, call: str, display: str, kind: str, rest: str) -> None:
        if only is None:
            print(f"arg {{number={number}}}{{call=--{call}}}{{display={display}}}{{type={kind}}}{rest}")

    nics = describe(lan)["nics"]
    tip = "{tooltip=Only the packets of these NICs; all where none is chosen}"
    arg(0, "nics", "NICs", "multicheck", f"{{reload=true}}{{placeholder=Load the NICs anew}}{tip}")
    if only in (None, "nics", "--nics"):
        for nic in nics:
            addresses = " ".join(nic["addresses"])
            print(f"value {{arg=0}}{{value={nic['name']}}}{{display={nic['name']}  {addresses}}}{{enabled=true}}")
    arg(1, "direction", "Direction", "selector", "{tooltip=What the NICs send, what they get, or both}")
    for value, words in (("both", "sent and received"), ("out", "sent"), ("in", "received")) if only is None else ():
        print(f"value {{arg=1}}{{value={value}}}{{display={words}}}{{default={str(value == 'both').lower()}}}")
    arg(2, "drops", "Only what did not arrive", "boolean", "{default=false}")
    arg(3, "snaplen", "Bytes kept of each packet", "integer", "{range=0,65535}{default=0}{tooltip=0 keeps all}")


def _check_filter(lan: str, expression: str) -> int:
    """Says on standard output what is wrong with a filter; nothing means that it is right."""
    from .filters import FilterError, compile_filter
    from .live_capture import addresses_of

    try:
        if expression:
            compile_filter(expression, addresses_of(lan))
    except FilterError as error:
        print(error)
    return 0


def _capture(given: argparse.Namespace) -> int:
    from .capture import CaptureOptions
    from .live_capture import LiveCapture

    lan = _lan(given)
    if not given.fifo:
        raise VnetError("--capture needs --fifo")
    options = CaptureOptions(
        nics=tuple(filter(None, given.nics.split(","))) or None,
        direction=given.direction,
        filter=given.extcap_capture_filter or None,
        drops=given.drops.lower() == "true",
        snaplen=given.snaplen or None,
    )

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    # Wireshark ends a capture with SIGTERM.
    signal.signal(signal.SIGTERM, end)
    try:
        file = os.open(given.fifo, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise VnetError(f"{given.fifo} cannot be written: {error.strerror}") from None
    try:
        running = LiveCapture(lan, file, options)
    finally:
        os.close(file)
    with running:
        try:
            while (report := running.over(3600.0)) is None:
                pass
        except KeyboardInterrupt:
            report = running.finish()
    if report.error:
        raise VnetError(report.error)
    if report.missed:
        # Wireshark shows what an extcap program says at its end.
        print(f"vnet: {report}", file=sys.stderr)
    return 0


def folder() -> Path:
    """The folder in which Wireshark looks for extcap programs: this user's, where it knows such (since 4.2).

    The environment variable WIRESHARK_EXTCAP_DIR names another one.

    Raises:
        MachineLacks: neither tshark nor Wireshark is there to tell.
    """
    for program in ("tshark", "wireshark"):
        found = shutil.which(program)
        if found is None:
            continue
        pairs = (line.partition(":") for line in _run([found, "-G", "folders"]).splitlines())
        told = {what.strip().lower(): path.strip() for what, _, path in pairs}
        for what in ("personal extcap path", "extcap path"):
            if told.get(what):
                return Path(told[what])
    raise MachineLacks("extcap is a part of Wireshark, which is not here: apt-get install tshark")


def _run(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout


def _launcher() -> str:
    # Not from where Wireshark was started: a folder called vnet there is none of ours.
    return f'#!/bin/sh\n{_MARK}cd / && exec {shlex.quote(sys.executable)} -m vnet.extcap "$@"\n'


def _is_ours(path: Path) -> bool:
    try:
        return _MARK in path.read_text(errors="replace")
    except FileNotFoundError:
        return False


def installed() -> Path | None:
    """Where the launcher is that runs this Python; ``None`` where there is none, or no Wireshark."""
    try:
        path = folder() / _NAME
    except MachineLacks:
        return None
    return path if _is_ours(path) and path.read_text() == _launcher() else None


def install() -> Path:
    """Puts the launcher into Wireshark's folder, in place of an earlier one.

    Returns:
        Where it is.

    Raises:
        MachineLacks: as of :func:`folder`.
        VnetError: something else is there under its name, or the folder cannot be written.
    """
    path = folder() / _NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (path.exists() or path.is_symlink()) and not _is_ours(path):
            raise VnetError(f"{path} is there and not ours; move it away first")
        # In one step: Wireshark may start at any moment.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".vnet-", delete=False) as file:
            file.write(_launcher())
        os.chmod(file.name, 0o755)
        os.replace(file.name, path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        hint = "" if os.access(path.parent, os.W_OK) else _NO_FOLDER
        raise VnetError(f"{path} cannot be written: {why}{hint}") from None
    return path


def uninstall() -> Path | None:
    """Removes the launcher; errors as of :func:`install`.

    Returns:
        Where it was, or ``None`` where there was none.
    """
    path = folder() / _NAME
    try:
        if not path.exists():
            return None
        if not _is_ours(path):
            raise VnetError(f"{path} is not ours; it stays")
        path.unlink()
    except OSError as error:
        raise VnetError(f"{path} cannot be removed: {(error.strerror or str(error)).lower()}") from None
    return path


if __name__ == "__main__":
    raise SystemExit(main())
