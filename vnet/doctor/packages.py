"""What programs are called on this distribution, and the command that installs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PackageManager"]

_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "apt-get": "apt-get install",
        "dnf": "dnf install",
        "pacman": "pacman -S",
        "apk": "apk add",
        "zypper": "zypper install",
    }
)
# The first name is Debian's, which stands for managers that are not named.
_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "tshark": {"apt-get": "tshark", "dnf": "wireshark-cli", "pacman": "wireshark-cli", "zypper": "wireshark"},
        "wireshark": {"apt-get": "wireshark", "pacman": "wireshark-qt"},
        "dot": {"apt-get": "graphviz"},
        "nsenter": {"apt-get": "util-linux"},
        "ping": {
            "apt-get": "iputils-ping",
            "dnf": "iputils",
            "pacman": "iputils",
            "apk": "iputils",
            "zypper": "iputils",
        },
        "libpcap": {
            "apt-get": "libpcap0.8",
            "dnf": "libpcap",
            "pacman": "libpcap",
            "apk": "libpcap",
            "zypper": "libpcap1",
        },
        "qemu": {
            "apt-get": "qemu-system-x86",
            "dnf": "qemu-kvm",
            "pacman": "qemu-base",
            "apk": "qemu-system-x86_64",
            "zypper": "qemu-x86",
        },
    }
)


@dataclass(frozen=True)
class PackageManager:
    """The distribution's package manager; ``name`` is empty where it is none that we know."""

    name: str

    @classmethod
    def of_this_machine(cls) -> PackageManager:
        return cls(next((name for name in _COMMANDS if shutil.which(name)), ""))

    def install(self, what: str) -> str:
        """The command that installs ``what``, as a user of this machine types it."""
        names = _NAMES[what]
        package = names.get(self.name, names["apt-get"])
        if not self.name:
            return f"install {package}, or what it is called here"
        return as_root(f"{_COMMANDS[self.name]} {package}")


def as_root(command: str) -> str:
    """The command with what an ordinary user has to type before it."""
    return command if os.geteuid() == 0 else f"sudo {command}"
