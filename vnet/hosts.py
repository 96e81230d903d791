"""Built-in hosts."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from . import _native
from .errors import NicClosed, PortTaken
from .sharing.guest import Sharing
from .statistics import NicStatistics
from .verdict import Verdict

if TYPE_CHECKING:
    from .lan import Lan
    from .sharing.doors import Door
    from .traffic import TrafficResult

__all__ = ["Host", "PingResult", "PingRun", "Service"]


@dataclass(frozen=True)
class PingResult:
    """What came of a run of echo requests.

    Attributes:
        destination: the address that was asked.
        sent: requests sent.
        received: replies that came in time.
        rtts: round-trip times of the replies in seconds, in the order of the requests.
        errors: what came instead of replies, one entry for each request: a verdict's name (``no_host``), or an ICMP
            error's and who sent it (``time exceeded from 10.1.0.1``).  Requests that nothing came back for are not in
            it.
    """

    destination: str
    sent: int
    received: int
    rtts: tuple[float, ...]
    errors: tuple[str, ...]

    @property
    def loss(self) -> float:
        """Share of the requests without a reply, 0 to 1."""
        return 1 - self.received / self.sent if self.sent else 0.0

    @property
    def min(self) -> float:
        """Shortest round trip in seconds; nan without replies."""
        return min(self.rtts, default=math.nan)

    @property
    def avg(self) -> float:
        """Mean round trip in seconds; nan without replies."""
        return statistics.fmean(self.rtts) if self.rtts else math.nan

    @property
    def max(self) -> float:
        """Longest round trip in seconds; nan without replies."""
        return max(self.rtts, default=math.nan)


class PingRun:
    """Echo requests under way."""

    def __init__(self, destination: str, run: _native.PingRun) -> None:
        self._destination = destination
        self._run = run

    def result(self, timeout: float | None = None) -> PingResult:
        """Waits until every request is settled.

        Raises:
            TimeoutError: ``timeout`` seconds passed before.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        # In slices, so that Ctrl-C is answered.
        while (answers := self._run.wait(min(0.1, max(0.0, deadline - time.monotonic())))) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"the ping of {self._destination} is not over after {timeout} s")
        rtts = tuple(answer for answer in answers if isinstance(answer, float))
        errors = (
            answer.name.lower() if isinstance(answer, Verdict) else answer
            for answer in answers
            if isinstance(answer, Verdict | str)
        )
        return PingResult(self._destination, len(answers), len(rtts), rtts, tuple(errors))


class Service:
    """What a built-in host offers on a port, until it is closed or the host is.

    Made by :meth:`Host.serve`.  A context manager; :meth:`close` may be called twice.

    Attributes:
        protocol: ``tcp`` or ``udp``.
        port: the port.
        action: ``http``, ``echo`` or ``discard``.
    """

    def __init__(self, protocol: str, port: int, action: str, end: Callable[[], None]) -> None:
        self.protocol = protocol
        self.port = port
        self.action = action
        self._end = end

    def __repr__(self) -> str:
        return f"<Service {self.action} on {self.protocol} port {self.port}>"

    def close(self) -> None:
        """Ends the service: what was answered is delivered, and the port is free.  May be called twice."""
        end, self._end = self._end, _nothing
        end()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Host(Sharing):
    """A built-in host: a TCP/IP stack that the base serves.

    Made by :meth:`vnet.Lan.host`.  It answers ping over IPv4 and IPv6, refuses closed UDP ports with port unreachable
    and closed TCP ports with a reset, can ping, and offers the services that it is told to.

    Attributes:
        name: unique on the LAN.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first.
        mac: its MAC address.
        mtu: largest datagram in bytes of IP.
    """

    def __init__(
        self,
        lan: Lan,
        calls: _native.HostCalls,
        *,
        name: str,
        network: str,
        addresses: tuple[str, ...],
        mac: str,
        mtu: int,
        leave: Callable[[], None],
        door: Door,
    ) -> None:
        self.name = name
        self.network = network
        self.addresses = addresses
        self.mac = mac
        self.mtu = mtu
        self._lan = lan
        self._calls = calls
        self._leave = leave
        self._way = door
        self._closed = False

    def _door(self) -> Door:
        if self._closed:
            raise NicClosed(f"the host {self.name!r} is off the LAN")
        return self._way

    def __repr__(self) -> str:
        return f"<Host {self.name} {' '.join(self.addresses)}>"

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    def start_ping(
        self,
        destination: str,
        *,
        count: int = 1,
        interval: float = 0.0,
        timeout: float = 1.0,
        size: int = 56,
        ttl: int = 64,
    ) -> PingRun:
        """Starts to send echo requests, and returns at once.

        Arguments:
            destination: an IP address.
            count: requests, 1 to 65,535.
            interval: seconds between two requests; 0 sends the next when the last is settled.
            timeout: seconds after which a request is lost.
            size: bytes of payload, up to 65,507. What is larger than the MTU of the network goes in fragments.
            ttl: TTL or hop limit of the requests, 1 to 255: so many routers they come to, at most.

        Raises:
            ValueError: an argument is out of its range.
            NicClosed: the host is off the LAN.
            LanClosed: the LAN is closed.
        """
        if self._closed:
            raise NicClosed(f"the host {self.name!r} is off the LAN")
        if not 1 <= count <= 65_535:
            raise ValueError(f"count is 1 to 65,535, not {count}")
        # An IPv4 datagram is at most 65,535 bytes, 20 of them its header (RFC 791) and 8 that of ICMP.
        if not 0 <= size <= 65_507:
            raise ValueError(f"size is 0 to 65507 bytes, not {size}")
        if not 1 <= ttl <= 255:
            raise ValueError(f"ttl is 1 to 255, not {ttl}")
        return PingRun(destination, self._lan._ping(self._calls, destination, count, interval, timeout, size, ttl))

    def ping(
        self,
        destination: str,
        *,
        count: int = 1,
        interval: float = 0.0,
        timeout: float = 1.0,
        size: int = 56,
        ttl: int = 64,
    ) -> PingResult:
        """Sends echo requests and waits for what comes of them; arguments and errors as of :meth:`start_ping`."""
        settings = {"count": count, "size": size, "ttl": ttl}
        return self.start_ping(destination, interval=interval, timeout=timeout, **settings).result()

    def traffic(
        self,
        to: Host,
        *,
        protocol: str = "udp",
        rate: float = 1e6,
        sizes: int | Sequence[int] = 1400,
        duration: float | None = 1.0,
        count: int | None = None,
        flows: int = 1,
        port: int = 5201,
        family: int | None = None,
    ) -> TrafficResult:
        """Sends traffic to another built-in host and returns what arrived, once all has.

        Arguments:
            to: who receives it.
            protocol: ``"udp"``, at a rate, or ``"tcp"``, as fast as it goes.
            rate: bits of IP a second of each flow (UDP).
            sizes: bytes of IP of a datagram, or several that take turns (UDP); :data:`vnet.traffic.IMIX` is one such.
            duration: seconds to send; ``None`` with ``count``.
            count: in place of ``duration``: datagrams (UDP) or bytes (TCP) of each flow.
            flows: how many.
            port: at the receiver.
            family: 4 or 6; ``None``: IPv4 where both have it.

        Raises:
            ValueError: an argument is out of its range, or the two have no addresses of one family.
            VnetError: a flow did not come about: the port is taken, or a host is off the LAN.
        """
        from .traffic.measuring import between
        from .traffic.plan import TrafficPlan

        amount = {"count" if protocol == "udp" else "size": count}
        plan = TrafficPlan(
            protocol=protocol,
            rate=rate,
            sizes=(sizes,) if isinstance(sizes, int) else tuple(sizes),
            duration=None if count is not None else duration,
            flows=flows,
            port=port,
            **amount,
        )
        return between(self, to, plan, family)

    def _start(self, program: _native.Program) -> None:
        """Starts a program on the host's stack.

        Raises:
            NicClosed: the host is off the LAN.
            LanClosed: the LAN is closed.
        """
        self._lan._check()
        if self._closed or not _native.start_on_host(self._lan._base, self._calls, program):
            raise NicClosed(f"the host {self.name!r} is off the LAN")

    def _wake(self) -> None:
        """Has the host look at its programs, because one of them was asked to end."""
        if not self._closed and not self._lan.closed:
            _native.wake_host(self._lan._base, self._calls)

    def serve(
        self,
        *,
        tcp: int | None = None,
        udp: int | None = None,
        http: str | bytes | None = None,
        echo: bool = False,
        discard: bool = False,
    ) -> Service:
        """Offers a service on a port of every address of the host, from when this returns.

        Arguments:
            tcp: a TCP port, 1 to 65,535; or
            udp: a UDP port.
            http: answers every HTTP request with this text (as UTF-8, ``text/plain``).  GET and HEAD, over HTTP/1.1 and
                1.0, connections kept open; TCP only.
            echo: sends back what comes (RFC 862).
            discard: takes what comes and says nothing (RFC 863).

        Returns:
            The service.  Without a :meth:`~Service.close` it lasts as long as the host.

        Raises:
            ValueError: not exactly one port, not exactly one of ``http``, ``echo`` and ``discard``, or a port out of
                range.
            PortTaken: another service of the host has the port.
            NicClosed: the host is off the LAN.
            LanClosed: the LAN is closed.
        """
        if (tcp is None) == (udp is None):
            raise ValueError("a service is on one port: expected either tcp=PORT or udp=PORT")
        protocol, port = ("tcp", tcp) if tcp is not None else ("udp", udp)
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65_535:
            raise ValueError(f"{protocol} is a port, 1 to 65,535, not {port!r}")
        offered = {"http": http is not None, "echo": echo, "discard": discard}
        chosen = [name for name, given in offered.items() if given]
        if len(chosen) != 1:
            said = " and ".join(chosen) or "none"
            raise ValueError(
                f"a service does one thing: expected one of http=TEXT, echo=True, discard=True, not {said}"
            )
        if http is not None and udp is not None:
            raise ValueError("http is served on a TCP port: expected tcp=PORT, not udp=PORT")
        if self._closed:
            raise NicClosed(f"the host {self.name!r} is off the LAN")
        text = http.encode() if isinstance(http, str) else bytes(http or b"")
        try:
            service = self._lan._offer(self._calls, tcp is not None, port, chosen[0], text)
        except PortTaken:
            raise PortTaken(f"{protocol} port {port} of host {self.name!r} is taken by another service") from None
        return Service(protocol, port, chosen[0], lambda: self._lan._withdraw(service))

    def statistics(self) -> NicStatistics:
        """Returns what the host's NIC has sent and received."""
        return self._lan.statistics().nics[self.name]

    def close(self) -> None:
        """Takes the host off the LAN.  May be called twice."""
        self._closed = True
        leave, self._leave = self._leave, _nothing
        leave()


def _nothing() -> None:
    pass
