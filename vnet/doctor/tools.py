"""Programs and Python packages that vnet works with where they are there."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from vnet.doctor.finding import Finding, State
from vnet.doctor.packages import PackageManager

__all__ = ["findings", "version"]

PROGRAMS = "Programs beside vnet"
PACKAGES = "Python"

# Distribution, the extra of vnet that brings it, and what it is for; those without an extra come with vnet.
_PACKAGES = (
    ("scapy", "", "packets in labs, and NICs as scapy's interfaces"),
    ("networkx", "", "vnet graph arranges networks and routers"),
    ("pyroute2", "", "namespaces, taps and bridges of labs"),
    ("textual", "", "vnet top"),
    ("Pillow", "graph", "vnet graph -o picture.png"),
    ("prometheus-client", "prometheus", "vnet stats over HTTP"),
    ("pytest", "pytest", "the fixtures lan and lab"),
    ("ipython", "ipython", "a more comfortable console in vnet scapy"),
)


def findings(manager: PackageManager) -> Iterator[Finding]:
    """libpcap, Wireshark, Graphviz, cargo; scapy and the optional Python packages."""
    yield _libpcap(manager)
    yield _program("tshark", "reads captures and shows live ones in a terminal", manager, "tshark")
    yield _program("wireshark", "reads captures and shows live ones", manager, "wireshark")
    yield _extcap(manager)
    yield _program("dot", "lays out what vnet graph -f dot prints", manager, "dot", option="-V")
    if (Path(__file__).parents[2] / "Cargo.toml").is_file():
        yield _cargo()
    for name, extra, what in _PACKAGES:
        yield _package(name, extra, what)


def version(program: str, option: str = "--version") -> str:
    """The line in which a program says its version; empty where it does not."""
    try:
        done = subprocess.run(
            [program, option], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    lines = (done.stdout + done.stderr).splitlines()
    return next((line.strip()[:100] for line in lines if re.search(r"\d+\.\d+|\d{8}", line)), "")


def _program(program: str, why: str, manager: PackageManager, package: str, option: str = "--version") -> Finding:
    if shutil.which(program) is None:
        return Finding(PROGRAMS, program, State.MISSING, "it is not there", why, manager.install(package))
    return Finding(PROGRAMS, program, State.OK, version(program, option) or "it is there", why)


def _libpcap(manager: PackageManager) -> Finding:
    why = "filters in tcpdump's language, of captures and of scapy's sniff()"
    for name in ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        found = name
        with contextlib.suppress(AttributeError, ValueError):
            library.pcap_lib_version.restype = ctypes.c_char_p
            found = library.pcap_lib_version().decode(errors="replace")
        return Finding(PROGRAMS, "libpcap", State.OK, found, why)
    return Finding(PROGRAMS, "libpcap", State.MISSING, "it is not there", why, manager.install("libpcap"))


def _extcap(manager: PackageManager) -> Finding:
    from vnet import extcap

    name, why = "Wireshark's view of labs", "live LANs are in its list of interfaces"
    path = extcap.installed()
    if path is not None:
        return Finding(PROGRAMS, name, State.OK, str(path), why)
    if shutil.which("tshark") is None and shutil.which("wireshark") is None:
        return Finding(PROGRAMS, name, State.MISSING, "it takes Wireshark or tshark", why, manager.install("tshark"))
    return Finding(PROGRAMS, name, State.MISSING, "not installed", why, "vnet doctor --install-extcap")


def _cargo() -> Finding:
    why = "this is a checkout: make builds the native part with it"
    if shutil.which("cargo") is None and not (Path.home() / ".cargo/bin/cargo").is_file():
        return Finding(PROGRAMS, "cargo", State.MISSING, "it is not there", why, "install Rust: https://rustup.rs")
    program = shutil.which("cargo") or str(Path.home() / ".cargo/bin/cargo")
    return Finding(PROGRAMS, "cargo", State.OK, version(program) or "it is there", why)


def _package(name: str, extra: str, what: str) -> Finding:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        wanted = f"'vnet[{extra}]'" if extra in _extras() else name
        remedy = f"{Path(sys.executable).name} -m pip install {wanted}"
        return Finding(PACKAGES, name, State.MISSING, "not installed", what, remedy)
    return Finding(PACKAGES, name, State.OK, found, what)


def _extras() -> list[str]:
    try:
        return importlib.metadata.metadata("vnet").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return []
