"""A LAN's counters as Prometheus metrics: as text, and over HTTP.

Needs prometheus-client, the extra ``vnet[prometheus]``; it is imported where metrics are asked for.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .errors import LanClosed, MachineLacks, VnetError
from .sample import REASONS, NicSample, Sample, take

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from .lan import Lan

__all__ = ["MetricsServer", "as_text", "parse_listen_address"]

# Name, help, and the counter that it shows, of what a NIC has one value of each. prometheus-client adds "_total".
_COUNTERS: tuple[tuple[str, str, Callable[[NicSample], int]], ...] = (
    (
        "vnet_nic_tx_datagrams",
        "Datagrams that the NIC sent, dropped ones included.",
        lambda n: n.statistics.tx_datagrams,
    ),
    ("vnet_nic_tx_bytes", "Bytes that the NIC sent and that were delivered.", lambda n: n.statistics.tx_bytes),
    ("vnet_nic_rx_datagrams", "Datagrams put into the NIC's input buffer.", lambda n: n.statistics.rx_datagrams),
    ("vnet_nic_rx_bytes", "Bytes put into the NIC's input buffer.", lambda n: n.statistics.rx_bytes),
    (
        "vnet_nic_rx_dropped_datagrams",
        "Datagrams, copies of broadcasts included, that found the NIC's input buffer full.",
        lambda n: n.statistics.rx_dropped,
    ),
    (
        "vnet_nic_doorbells_rung",
        "Batches that the NIC sent after which a receiver had to be woken.",
        lambda n: n.statistics.doorbells_rung,
    ),
    (
        "vnet_nic_doorbells_saved",
        "Batches that the NIC sent after which the receiver was busy and was left alone.",
        lambda n: n.statistics.doorbells_saved,
    ),
)
# Seconds that a client has for its request.
_PATIENCE = 10


class _Collector:
    """What prometheus-client asks for metrics: a sample, whenever it wants one."""

    def __init__(self, sample: Callable[[], Sample | None]) -> None:
        self._sample = sample

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        sample = self._sample()
        if sample is None:
            return
        labels = ("lan", "nic", "network")
        values = [(nic, (sample.lan, nic.name, nic.network)) for nic in sample.nics]
        for name, help_text, read in _COUNTERS:
            counter = CounterMetricFamily(name, help_text, labels=labels)
            for nic, own in values:
                counter.add_metric(own, read(nic))
            yield counter
        dropped = CounterMetricFamily(
            "vnet_nic_dropped_datagrams",
            "Datagrams that the NIC sent and that were dropped, by the reason.",
            labels=(*labels, "reason"),
        )
        for nic, own in values:
            for reason in REASONS:
                dropped.add_metric((*own, reason.name.lower()), nic.statistics.verdicts[reason])
        yield dropped
        frames = CounterMetricFamily(
            "vnet_nic_frames",
            "What befell the frames of a guest behind a TAP device beside being carried, by the reason.",
            labels=(*labels, "reason"),
        )
        for nic, own in values:
            for name, count in nic.statistics.frames.items():
                frames.add_metric((*own, name), count)
        yield frames
        up = GaugeMetricFamily("vnet_nic_up", "Whether somebody holds the NIC: 1, or 0.", labels=labels)
        for nic, own in values:
            up.add_metric(own, nic.state == "up")
        yield up


def _registry(sample: Callable[[], Sample | None]) -> CollectorRegistry:
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise MachineLacks(
            "Prometheus metrics need prometheus-client: pip install prometheus-client (or vnet with its extra, "
            "vnet[prometheus])"
        ) from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(sample))
    return registry


def as_text(sample: Sample) -> str:
    """Returns a sample in Prometheus' text format.

    Raises:
        MachineLacks: prometheus-client is not installed.
    """
    registry = _registry(lambda: sample)
    from prometheus_client import generate_latest

    return generate_latest(registry).decode()


def parse_listen_address(text: str) -> tuple[str, int]:
    """Reads ``HOST:PORT``, with an IPv6 address in brackets; port 0 takes any that is free.

    Raises:
        ValueError: it has another form.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or (":" in host and not text.startswith("[")):
        raise ValueError(f"{text!r} is no address to listen at: HOST:PORT, such as 127.0.0.1:9100 or [::1]:9100")
    if not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{port!r} in {text!r} is no port: 0 to 65535")
    return host, int(port)


class MetricsServer:
    """Serves a LAN's metrics over HTTP, in a thread of its own, until it or the LAN is closed.

    Made by :meth:`vnet.Lan.serve_metrics`.  A context manager; :meth:`close` may be called twice.

    Attributes:
        address: where it was told to listen.
        url: where the metrics are.
    """

    def __init__(self, lan: Lan, address: str) -> None:
        host, port = parse_listen_address(address)
        reference = weakref.ref(lan)

        def sample() -> Sample | None:
            lan = reference()
            try:
                return None if lan is None else take(lan)
            except LanClosed:
                return None

        registry = _registry(sample)
        from prometheus_client import MetricsHandler

        # Its answers, but without waiting for ever for requests.
        handler = type("Handler", (MetricsHandler,), {"registry": registry, "timeout": _PATIENCE})
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            family = {"address_family": found[0]}
            self._server: ThreadingHTTPServer = type("Server", (_Server,), family)(found[4][:2], handler)
        except OSError as error:
            # Those of getaddrinfo() have words of their own.
            why = error.strerror or str(error)
            raise VnetError(f"metrics cannot be served at {address}: {why[:1].lower()}{why[1:]}") from None
        self._pid = os.getpid()
        self.address = address
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="vnet-metrics", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"<MetricsServer {self.url}>"

    @property
    def serving(self) -> bool:
        """Whether it is not closed yet."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Ends the server; the port is free when this returns."""
        if os.getpid() != self._pid:
            return
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _abandon(self) -> None:
        """Lets go of the port in a forked child: it is the parent's."""
        self._server.socket.close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A port that another program listens at is taken, also where that one had asked to share it.
    allow_reuse_port = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes in the middle of an answer is its own business."""
