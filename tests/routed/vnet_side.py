"""A scheme built of vnet's routers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from types import TracebackType

import vnet

from .schemes import Scheme


class VnetSide:
    """A lab of simulated routers.  A context manager.

    Arguments:
        scheme: the lab.
        hosts: whether its hosts are there.
    """

    def __init__(self, scheme: Scheme, *, hosts: bool = True) -> None:
        self.scheme = scheme
        self._hosts = hosts
        self._open = contextlib.ExitStack()
        self._ends: dict[str, vnet.Nic] = {}

    def __enter__(self) -> VnetSide:
        try:
            self._build()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _build(self) -> None:
        scheme = self.scheme
        self.lan = self._open.enter_context(vnet.Lan(None, buffer=1 << 20))
        for name, network in scheme.networks.items():
            self.lan.add_network(name, network.prefixes, mtu=network.mtu)
        for name, networks in scheme.routers.items():
            attached = {each: tuple(addresses) for each, addresses in networks.items() if each != "lo"}
            self.lan.router(name, attached, loopback=tuple(networks.get("lo", ())) or None)
        for wire in scheme.wires:
            self.lan.link(wire.one, wire.other, weight=wire.weight, mtu=wire.mtu, prefix=tuple(wire.prefixes))
        for fixed in scheme.fixed:
            self.lan.routers[fixed.router].add_route(fixed.prefix, via=fixed.via)
        for name, host in scheme.hosts.items() if self._hosts else ():
            addresses = [*scheme.host_addresses(name, 4), *scheme.host_addresses(name, 6)]
            gateway = list(scheme.routers[host.gateway][host.network])
            self._ends[name] = self._open.enter_context(
                self.lan.attach(name, addresses, network=host.network, gateway=gateway)
            )

    def exchange(
        self, host: str, datagrams: Sequence[bytes], *, family: int, wait: float = 0.0
    ) -> dict[str, list[bytes]]:
        """Sends datagrams and returns what all hosts receive then.

        Arguments:
            host: who sends.
            datagrams: as they are.
            family: that of the datagrams.
            wait: seconds to wait for the first datagram, where an answer takes its time.
        """
        for datagram in datagrams:
            self._ends[host].send(datagram)
        # The sender's own thread has done all that is to be done, but for what routers wait for.
        deadline = time.monotonic() + wait
        came = self._come()
        while not any(came.values()) and time.monotonic() < deadline:
            time.sleep(0.002)
            came = self._come()
        return came

    def _come(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for name, nic in self._ends.items():
            found[name] = []
            with contextlib.suppress(vnet.ReceiveTimeout):
                while True:
                    found[name] += nic.recv_many(timeout=0)
        return found
