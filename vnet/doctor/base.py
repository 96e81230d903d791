"""What every LAN needs."""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from vnet.doctor import images
from vnet.doctor.finding import Finding, State
from vnet.doctor.packages import as_root
from vnet.sharing.region import Region

__all__ = ["findings"]

TOPIC = "To run at all"
# Seals of memory files: fcntl(2).  Python 3.10 has names for neither the last one nor all of the others.
_ADD_SEALS, _SEAL_FUTURE_WRITE, _ALLOW_SEALING = 1033, 0x10, 0x2
# Address space that a LAN of the default size takes, and what Python and its libraries take beside it.
_LAN_SPACE = (4096 + 1) * (4 << 20) + (2 << 30)
# Open files that a lab of some dozens of commands and their logs takes.
_FILES = 1024


def findings(probed: Mapping[str, str]) -> Iterator[Finding]:
    """Kernel, limits and the runtime directory; and a LAN that is really made."""
    yield _sealed_memory()
    yield _pidfd()
    yield _runtime_directory()
    yield _shell()
    yield _address_space()
    yield _open_files()
    yield images.finding(TOPIC)
    yield _lan()
    yield _sharing()
    yield _cores()


def _missing(name: str, found: str, why: str, remedy: str) -> Finding:
    return Finding(TOPIC, name, State.MISSING, found, why, remedy, needed=True)


def _ok(name: str, found: str, why: str) -> Finding:
    return Finding(TOPIC, name, State.OK, found, why, needed=True)


def _kernel() -> str:
    return f"this kernel is {platform.release()}; vnet takes Linux 5.3 or later, and a sandbox that lets it through"


def _sealed_memory() -> Finding:
    name, why = "sealed memory files", "a LAN lies in memory files; sealed, no guest can write to its tables"
    try:
        fd = os.memfd_create("vnet-doctor", os.MFD_CLOEXEC | _ALLOW_SEALING)
        try:
            fcntl.fcntl(fd, _ADD_SEALS, _SEAL_FUTURE_WRITE)
        finally:
            os.close(fd)
    except (OSError, AttributeError) as error:
        return _missing(name, f"memfd_create or F_SEAL_FUTURE_WRITE: {_reason(error)}", why, _kernel())
    return _ok(name, "memfd_create and F_SEAL_FUTURE_WRITE work", why)


def _pidfd() -> Finding:
    name, why = "pidfd", "the base learns at once that a guest's process died, and of no other process"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as error:
        return _missing(name, f"pidfd_open: {_reason(error)}", why, _kernel())
    return _ok(name, "pidfd_open works", why)


def _runtime_directory() -> Finding:
    from vnet.runtime import runtime_directory

    name, why = "runtime directory", "the sockets by which LANs with names are found lie there"
    directory = runtime_directory()
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        return _missing(name, f"{directory} is no directory", why, f"rm {directory}")
    if directory.exists():
        found = directory.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return _missing(
                name,
                f"{directory} belongs to user {found.st_uid}, or others may write to it",
                why,
                "export XDG_RUNTIME_DIR=a directory of your own",
            )
        if os.access(directory, os.W_OK | os.X_OK):
            return _ok(name, f"{directory} is there", why)
        return _missing(name, f"{directory} cannot be written to", why, f"chmod u+rwx {directory}")
    parent = directory.parent
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return _ok(name, f"{directory} can be made", why)
    return _missing(
        name,
        f"{parent} is not there or cannot be written to",
        why,
        "export XDG_RUNTIME_DIR=a directory of your own",
    )


def _shell() -> Finding:
    name, why = "/bin/sh", "each base with a name has a shell that clears up after it when it is killed"
    lacking = [program for program in ("rm", "rmdir", "stat") if shutil.which(program) is None]
    if not os.access("/bin/sh", os.X_OK):
        return _missing(name, "it is not there", why, "a shell is part of every distribution; install its base system")
    if lacking:
        return _missing(name, f"it is there, but not {', '.join(lacking)}", why, "install coreutils or busybox")
    return _ok(name, "it is there, with rm, rmdir and stat", why)


def _address_space() -> Finding:
    name = "address space"
    why = "each NIC has 4 MiB of it for its input buffer, of which memory is used only as it fills"
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft >= _LAN_SPACE:
        return Finding(TOPIC, name, State.OK, "enough for the largest LAN" if soft < 0 else _gib(soft), why)
    found = f"{_gib(soft)}; a LAN of 4,096 NICs, which is the default, takes {_gib(_LAN_SPACE)}"
    return Finding(TOPIC, name, State.LIMITED, found, why, "ulimit -v unlimited")


def _open_files() -> Finding:
    name, why = "open files", "a lab's base has a few for each node that runs a command, a program two for each NIC"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        found = "without limit" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        return Finding(TOPIC, name, State.OK, found, why)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    remedy = f"ulimit -n {wanted}" if wanted > soft else "raise the hard limit: limits.conf(5)"
    return Finding(TOPIC, name, State.LIMITED, f"{soft:,} (hard limit {hard:,})", why, remedy)


def _lan() -> Finding:
    import vnet

    name, why = "a LAN", "the proof: two hosts on a LAN of the default size ping each other"
    try:
        with vnet.Lan(None, "10.0.0.0/24") as lan:
            one, other = lan.host("one"), lan.host("other")
            answered = one.ping(other.address, timeout=5.0)
    except (vnet.VnetError, OSError, ValueError) as error:
        return _missing(name, str(error), why, "see what else is marked here")
    if not answered.received:
        return _missing(
            name, "the ping of two hosts was not answered within 5 s", why, "see whether the machine is overloaded"
        )
    return _ok(name, f"made; a ping took {answered.avg * 1e6:.0f} µs", why)


def _sharing() -> Finding:
    import vnet

    name, why = "regions and calls", "the proof: two guests share memory, and one has the other write there"
    try:
        with (
            vnet.Lan(None, "10.0.0.0/24") as lan,
            lan.attach("one") as one,
            lan.attach("other") as other,
            other.serve_calls("filler", _Writer(), _Writer),
            one.create_region(mmap.PAGESIZE, guests=["other"]) as region,
            one.caller("other", "filler", _Writer, timeout=5.0) as filler,
        ):
            filler.fill(region, 0)
            began = time.perf_counter()
            filler.fill(region, 7)
            took = time.perf_counter() - began
            if region[-1] != 7:
                return _missing(name, "what the one wrote the other did not see", why, _kernel())
    except (vnet.VnetError, OSError, ValueError) as error:
        return _missing(name, str(error), why, "see what else is marked here")
    return _ok(name, f"made; a call took {took * 1e6:.0f} µs", why)


class _Writer:
    """What the one serves: an interface, and its implementation."""

    def fill(self, region: Region, value: int) -> None:
        region[:] = bytes([value]) * len(region)


def _cores() -> Finding:
    name, why = "processor cores", "sender and receiver run at the same time on two; on one they take turns"
    cores = len(os.sched_getaffinity(0))
    if cores > 1:
        return Finding(TOPIC, name, State.OK, f"{cores} for this process", why)
    more = os.cpu_count() or 1
    remedy = f"taskset -c 0-{more - 1} vnet ..." if more > 1 else "give the virtual machine or container two cores"
    return Finding(TOPIC, name, State.LIMITED, "1 for this process", why, remedy)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or "not in this Python").lower()


def modules_directory() -> Path:
    """Where the running kernel's modules lie."""
    return Path("/lib/modules") / platform.release()


def load_module(name: str) -> str:
    """The command that loads a module."""
    return as_root(f"modprobe {name}")
