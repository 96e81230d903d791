"""What guests with a kernel of their own need: network namespaces, TAP devices, virtual machines."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from vnet.doctor.base import load_module, modules_directory
from vnet.doctor.finding import Finding, State
from vnet.doctor.packages import PackageManager, as_root
from vnet.doctor.tools import version

__all__ = ["findings"]

STACKS = "What those take"
MACHINES = "For virtual machines (qemu)"
_CAP_NET_ADMIN = 12  # capabilities(7)


def findings(probed: Mapping[str, str], manager: PackageManager) -> Iterator[Finding]:
    """Namespaces, TAP, capabilities and modules; KVM, QEMU and huge pages."""
    yield _user_namespaces(probed)
    yield _network_namespaces(probed)
    yield _tap(probed)
    yield _net_admin(probed)
    yield _program("nsenter", "commands of netns nodes run by way of it; vnet exec, too", manager)
    yield _program("ping", "netns nodes ping with it, in ping steps and vnet ping", manager)
    yield _module("bridge", "tap guests and real interfaces are joined by a bridge")
    yield _module("vxlan", "a LAN reaches other machines through a tunnel")
    yield _kvm(probed)
    yield _qemu(manager)
    yield _huge_pages()


def _user_namespaces(probed: Mapping[str, str]) -> Finding:
    name, why = "user namespaces", "netns guests take no root where a user may make these"
    wrong = probed.get("user_namespace", "the attempt did not end")
    if not wrong:
        return Finding(STACKS, name, State.OK, "made one", why)
    remedy = as_root("sysctl user.max_user_namespaces=15000")
    for setting, value in (
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        if _read(Path("/proc/sys") / setting) == value:
            remedy = as_root(f"sysctl {setting.replace('/', '.')}={1 - int(value)}")
    return Finding(STACKS, name, State.MISSING, wrong.lower(), why, remedy)


def _network_namespaces(probed: Mapping[str, str]) -> Finding:
    name, why = "network namespaces", "a netns guest is the kernel's stack in one"
    direct = probed.get("network_namespace", "the attempt did not end")
    nested = probed.get("network_namespace_in_user_namespace", "the attempt did not end")
    if not direct:
        return Finding(STACKS, name, State.OK, "made one", why)
    if not nested:
        return Finding(STACKS, name, State.OK, "made one, in a user namespace", why)
    remedy = "run as root, or in a container with --cap-add=SYS_ADMIN --cap-add=NET_ADMIN, or see user namespaces"
    return Finding(STACKS, name, State.MISSING, direct.lower(), why, remedy)


def _tap(probed: Mapping[str, str]) -> Finding:
    name, why = "/dev/net/tun", "TAP devices carry datagrams between the LAN and Linux's stack"
    device = Path("/dev/net/tun")
    if "tap_device" in probed:
        wrong = probed["tap_device"]
        if not wrong:
            return Finding(STACKS, name, State.OK, "made a TAP device in a namespace of its own", why)
        return Finding(
            STACKS, name, State.MISSING, f"it is there, but: {wrong.lower()}", why, as_root(f"chmod 666 {device}")
        )
    if not _available("tun"):
        remedy = "start the container with --device /dev/net/tun, or a kernel that has the module tun"
        return Finding(STACKS, name, State.MISSING, "this kernel has no module tun", why, remedy)
    if not device.exists():
        remedy = as_root("sh -c 'mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200'")
        return Finding(STACKS, name, State.MISSING, "it is not there", why, remedy)
    return Finding(STACKS, name, State.LIMITED, "the module tun is not loaded yet", why, load_module("tun"))


def _net_admin(probed: Mapping[str, str]) -> Finding:
    name, why = (
        "CAP_NET_ADMIN",
        "tap guests are interfaces of this machine itself; for netns guests, a user namespace will do",
    )
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)", _read(Path("/proc/self/status")), re.MULTILINE)
    if capabilities and int(capabilities[1], 16) >> _CAP_NET_ADMIN & 1:
        return Finding(STACKS, name, State.OK, "this process has it", why)
    nested = not probed.get("network_namespace_in_user_namespace", "x")
    state = State.LIMITED if nested else State.MISSING
    found = "in user namespaces only" if nested else "this process does not have it"
    return Finding(STACKS, name, state, found, why, "sudo vnet ..., or a container with --cap-add=NET_ADMIN")


def _program(program: str, why: str, manager: PackageManager) -> Finding:
    if shutil.which(program) is None:
        return Finding(STACKS, program, State.MISSING, "it is not there", why, manager.install(program))
    found = version(program, "-V")
    if program == "ping" and "iputils" not in found:
        wrong = f"not that of iputils{': ' if found else ''}{found}"
        return Finding(STACKS, program, State.LIMITED, wrong, why, manager.install(program))
    return Finding(STACKS, program, State.OK, found or "it is there", why)


def _module(module: str, why: str) -> Finding:
    name = f"module {module}"
    if (Path("/sys/module") / module).exists() or _available(module, loadable=False):
        return Finding(STACKS, name, State.OK, "in the kernel", why)
    if _available(module):
        return Finding(STACKS, name, State.OK, "there; the kernel loads it for root when it is wanted", why)
    remedy = f"a kernel with the module {module}"
    return Finding(STACKS, name, State.MISSING, "this kernel does not have it", why, remedy)


def _available(module: str, *, loadable: bool = True) -> bool:
    """Whether the kernel has a module, built in or, where ``loadable``, to be loaded."""
    if (Path("/sys/module") / module).exists() or (Path("/sys/class/misc") / module).exists():
        return True
    lists = ("modules.builtin", "modules.dep") if loadable else ("modules.builtin",)
    pattern = re.compile(rf"/{re.escape(module)}\.ko", re.MULTILINE)
    return any(pattern.search(_read(modules_directory() / each)) for each in lists)


def _kvm(probed: Mapping[str, str]) -> Finding:
    name, why = (
        "/dev/kvm",
        "virtual machines run on the processor itself; without it QEMU translates, at a tenth of the speed",
    )
    device = Path("/dev/kvm")
    if not device.exists():
        remedy = "turn virtualization on in the firmware, or nested virtualization in the hypervisor"
        return Finding(MACHINES, name, State.MISSING, "it is not there", why, remedy)
    wrong = probed.get("kvm", "the attempt did not end")
    if not wrong:
        return Finding(MACHINES, name, State.OK, "a virtual machine ran on it", why)
    if not os.access(device, os.R_OK | os.W_OK):
        group = stat.S_IMODE(device.stat().st_mode) & 0o060
        remedy = "sudo usermod -aG kvm $USER, and log in again" if group else as_root("chmod 666 /dev/kvm")
        return Finding(MACHINES, name, State.MISSING, f"this user may not open it: {wrong.lower()}", why, remedy)
    remedy = "turn nested virtualization on in the hypervisor that this machine runs in"
    return Finding(MACHINES, name, State.MISSING, f"it is there and does not work: {wrong.lower()}", why, remedy)


def _qemu(manager: PackageManager) -> Finding:
    name, why = "QEMU", "qemu guests are its virtual machines"
    program = f"qemu-system-{platform.machine()}"
    if shutil.which(program) is None:
        return Finding(MACHINES, name, State.MISSING, f"{program} is not there", why, manager.install("qemu"))
    return Finding(MACHINES, name, State.OK, version(program) or f"{program} is there", why)


def _huge_pages() -> Finding:
    name, why = (
        "huge pages",
        "guests with much memory run faster on them, and regions with `huge: true` are made of them",
    )
    counts = dict(re.findall(r"^(HugePages_\w+):\s+(\d+)", _read(Path("/proc/meminfo")), re.MULTILINE))
    free, total = counts.get("HugePages_Free", "0"), counts.get("HugePages_Total", "0")
    if int(free):
        return Finding(MACHINES, name, State.OK, f"{free} of {total} are free", why)
    remedy = as_root("sysctl vm.nr_hugepages=512")
    return Finding(
        MACHINES, name, State.LIMITED, f"none of {total} is free" if int(total) else "none set aside", why, remedy
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
