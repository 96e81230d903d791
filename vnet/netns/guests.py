"""Linux network namespaces on a LAN: those that it makes, and those that it finds."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import MachineLacks, NicClosed
from ..statistics import NicStatistics
from . import reasons
from .places import open_namespace, owner
from .wiring import Wiring, check_gateways, check_interface, check_not_own

if TYPE_CHECKING:
    from ..lan import Lan
    from ..register import Entry
    from .client import Made

__all__ = ["Netns", "Plug", "make_netns", "make_plug"]

_Words = Sequence[str | os.PathLike[str]]


class _Wired:
    """What all interfaces of the kernel on a LAN have in common."""

    _kind = ""

    def __init__(self, lan: Lan, entry: Entry, interface: str, made: Made) -> None:
        self._lan = lan
        self._entry = entry
        self._made = made
        self._generation = entry.generation
        self.name = entry.name
        self.network = entry.network.name
        self.addresses = tuple(map(str, entry.addresses))
        self.mac = entry.mac
        self.mtu = entry.mtu
        self.interface = interface

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {' '.join(self.addresses)}>"

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    @property
    def closed(self) -> bool:
        """Whether it is off the LAN: it or the LAN was closed, or it was taken off."""
        register = self._lan._register
        return register.closed or register.nics.get(self.name) is not self._entry

    def statistics(self) -> NicStatistics:
        """Returns what its NIC has sent and received."""
        return self._lan.statistics().nics[self.name]

    def close(self) -> None:
        """Takes it off the LAN; its interface is gone when this returns.  May be called twice."""
        self._lan._register.leave(self._entry, self._generation)
        self._made.nursery.settle()

    def _check(self) -> None:
        if self.closed:
            raise NicClosed(f"the {self._kind} {self.name!r} is off the LAN")


class Netns(_Wired):
    """A Linux network namespace with an interface on the LAN: the kernel's own stack as a guest.

    Made by :meth:`vnet.Lan.netns`.  Programs run in it with :meth:`run` and :meth:`popen`; they see the machine's files
    and processes and this namespace's interfaces, addresses, routes and ports.  It ends with :meth:`close` or the LAN;
    programs that still run in it then are left without the interface.

    What is under ``/sys`` remains the machine's: programs that read ``/sys/class/net`` do not find the interface there.

    Attributes:
        name: unique on the LAN.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first, then the link-local one that follows from the MAC address.
        mac: its MAC address.
        mtu: largest datagram in bytes of IP: the network's, but no more than 65,521, the kernel's largest.
        interface: the name of its interface.
    """

    _kind = "netns"

    def enter_words(self, words: _Words) -> tuple[list[str], tuple[int, ...]]:
        """Returns the words that run a program in the namespace, and the descriptors that it must inherit for that.

        Both are good until :meth:`close`.

        Arguments:
            words: the program and its arguments.

        Raises:
            NicClosed: the namespace is off the LAN.
            MachineLacks: nsenter is not installed.
            ValueError: there are no words.
        """
        if isinstance(words, str | bytes) or not words:
            raise ValueError(f"a command is a list of words such as ['ip', 'address'], not {words!r}")
        self._check()
        namespace, user = self._made.namespace, self._made.user
        if namespace is None:
            raise NicClosed(f"the netns {self.name!r} is off the LAN")
        # As root of the user namespace: the user's own id is mapped to that.
        join = [] if user is None else [f"--user=/proc/self/fd/{user}", "--preserve-credentials"]
        enter = [_nsenter(), *join, f"--net=/proc/self/fd/{namespace}", "--"]
        return [*enter, *(os.fspath(word) for word in words)], (namespace,) if user is None else (namespace, user)

    def popen(self, words: _Words, **popen: Any) -> subprocess.Popen[Any]:
        """Starts a program in the namespace.  It is the caller's: it goes on, without the LAN, when that ends.

        Arguments:
            words: the program and its arguments.
            popen: as of :class:`subprocess.Popen`, ``shell`` left out.

        Raises:
            NicClosed, MachineLacks, ValueError: as of :meth:`enter_words`.
        """
        return subprocess.Popen(*self._entering(words, popen), **popen)

    def run(self, words: _Words, **run: Any) -> subprocess.CompletedProcess[Any]:
        """Runs a program in the namespace and waits for its end; the exit status is its own.

        Arguments:
            words: the program and its arguments.
            run: as of :func:`subprocess.run`, ``shell`` left out.

        Raises:
            NicClosed, MachineLacks, ValueError: as of :meth:`enter_words`.
        """
        return subprocess.run(*self._entering(words, run), **run)

    def _entering(self, words: _Words, options: dict[str, Any]) -> tuple[list[str]]:
        if options.get("shell"):
            raise ValueError("shell=True would run the shell outside of the namespace: run ['sh', '-c', COMMAND]")
        enter, files = self.enter_words(words)
        options["pass_fds"] = (*options.get("pass_fds", ()), *files)
        return (enter,)


class Plug(_Wired):
    """An interface on the LAN in a namespace or container that others made.

    Made by :meth:`vnet.Lan.plug`.  It goes with :meth:`close`, the LAN or the namespace, whichever ends first.

    Attributes:
        name: unique on the LAN.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first, then the link-local one that follows from the MAC address.
        mac: its MAC address.
        mtu: largest datagram in bytes of IP: the network's, but no more than 65,521, the kernel's largest.
        interface: the name of its interface in there.
    """

    _kind = "plug"


def make_netns(
    lan: Lan,
    name: str,
    address: str | Sequence[str] | None,
    network: str | None,
    gateway: str | Sequence[str] | None,
    buffer: int | None,
    interface: str,
) -> Netns:
    """See :meth:`vnet.Lan.netns`."""
    check_interface(interface)
    make = lan._nursery().netns
    entry, made = _join(lan, name, "netns", address, network, gateway, buffer, interface, make)
    return Netns(lan, entry, interface, made)


def make_plug(
    lan: Lan,
    name: str,
    where: int | str | os.PathLike[str],
    address: str | Sequence[str] | None,
    network: str | None,
    buffer: int | None,
    interface: str,
) -> Plug:
    """See :meth:`vnet.Lan.plug`."""
    check_interface(interface)
    nursery = lan._nursery()
    namespace = open_namespace(where)
    user = None
    try:
        user = owner(namespace)

        def make(wiring: Wiring) -> Made:
            return nursery.plug(wiring, namespace, user)

        entry, made = _join(lan, name, "plug", address, network, None, buffer, interface, make)
    finally:
        # From now on nothing of this process's keeps the namespace alive.
        os.close(namespace)
        if user is not None:
            os.close(user)
    return Plug(lan, entry, interface, made)


def _join(
    lan: Lan,
    name: str,
    kind: str,
    address: str | Sequence[str] | None,
    network: str | None,
    gateway: str | Sequence[str] | None,
    buffer: int | None,
    interface: str,
    make: Callable[[Wiring], Made],
) -> tuple[Entry, Made]:
    """Puts a NIC on the LAN and the interface that ``make`` makes behind it."""
    register = lan._register
    gateways = check_gateways(register.network(network), gateway)
    entry = register.join(name, kind, address, network, buffer)
    try:
        check_not_own(entry, gateways)
        made = make(Wiring.of(entry, interface, gateways))
        register.belongs(entry, made)
        lan._base.serve_tap(entry.slot, entry.generation, made.tap)
        made.close_tap()
    except OSError as error:
        register.leave(entry)
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise reasons.no_descriptors() from None
        raise
    except BaseException:
        register.leave(entry)
        raise
    return entry, made


def _nsenter() -> str:
    path = shutil.which("nsenter") or shutil.which("nsenter", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise MachineLacks("commands in namespaces need nsenter: `apt-get install util-linux` provides it")
    return path
