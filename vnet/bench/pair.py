"""Two pinned processes that do the halves of measurements together."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from types import TracebackType

from .. import _native
from ..errors import VnetError
from ..lan import Lan
from . import routed
from .halves import Side, prepare_socket, receive_half
from .shared import Shared
from .streams import MTUS, network

__all__ = ["CAPTURED", "Pair"]

# Bytes of the LAN's input buffers and of the bare ring beside them: the same, so that both live in the same cache.
RING = 4 << 20

# The half that is `lan` with a capture of everything, into files in memory: what a disk takes is another question.
CAPTURED = "lan_captured"
# Bytes of each of the two files that are kept.
_FILE = 64 << 20
# Seconds from a peer's death until its end of a pipe is known to be closed.
_MOMENT = 0.5


class Pair:
    """This process and a peer, on a LAN of their own.  A context manager."""

    def __init__(self) -> None:
        # What the last half told beside its figure; see Result.shares.
        self.shares: dict[str, float] = {}
        self._closing = False
        self._watch: threading.Thread | None = None
        with contextlib.ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()

    def _open(self, opened: contextlib.ExitStack) -> None:
        processors = sorted(os.sched_getaffinity(0))
        self.pinned = len(processors) >= 2
        opened.callback(os.sched_setaffinity, 0, set(processors))
        arena = os.memfd_create("vnet:bench")
        opened.callback(os.close, arena)
        os.ftruncate(arena, 4096 + RING)
        self._arena = _native.Arena(arena)
        lan_name = f"bench-{os.getpid()}"
        self._lan = opened.enter_context(Lan(lan_name, "10.0.0.0/24", buffer=RING))
        nic = self._lan.attach("bench", network="lan")
        streams = {}
        for mtu in MTUS:
            name, prefix, (own, _) = network(mtu)
            self._lan.add_network(name, prefix, mtu=mtu)
            streams[mtu] = self._lan.attach(f"bench-{mtu}", own, network=name)
        routed.build(self._lan)
        beyond = self._lan.attach("bench-routed", routed.OURS[1], network=routed.OURS[0])
        ours, theirs = {}, {}
        ours["unix"], theirs["unix"] = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours["udp"], theirs["udp"] = _udp_pair()
        for sock in ours.values():
            prepare_socket(sock)
        ours["stream"], theirs["stream"] = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for sock in ours.values():
            opened.enter_context(sock)
        if self.pinned:
            os.sched_setaffinity(0, {processors[0]})
        with contextlib.ExitStack() as passed:
            fds = {kind: passed.enter_context(sock).fileno() for kind, sock in theirs.items()}
            self._peer = subprocess.Popen(
                [sys.executable, "-m", "vnet.bench.peer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=(arena, *fds.values()),
            )
        opened.callback(self._end_peer)
        self._watch = threading.Thread(target=self._watch_peer, name="vnet-bench", daemon=True)
        self._watch.start()
        port = _free_port()
        setup = {
            "processor": processors[1] if self.pinned else None,
            "lan": lan_name,
            "address": nic.address,
            "arena": arena,
            "sockets": fds,
            "network": nic.network,
            "stream_port": port,
        }
        self._tell(json.dumps(setup))
        address = self._hear()
        shared = Shared(self._arena, nic, "peer", ours["stream"], lan_name)
        self._side = Side(self._arena, nic, address, ours, streams, port, beyond, routed.PEERS[1], shared)

    def _tell(self, line: str) -> None:
        assert self._peer.stdin is not None
        try:
            self._peer.stdin.write(line + "\n")
            self._peer.stdin.flush()
        except BrokenPipeError:
            self._hear()

    def _hear(self) -> str:
        assert self._peer.stdout is not None
        line = self._peer.stdout.readline()
        if not line:
            raise VnetError(f"the benchmark's peer process ended early (code {self._peer.wait()})")
        return line.strip()

    def measure(self, name: str, size: int, count: int) -> float:
        """Returns datagrams a second for streams, bits a second for TCP, seconds a round trip for ping-pongs.

        What the half told beside is in :attr:`shares`: after one with a capture, how many of the datagrams that missed.
        """
        self.shares = {}
        if name != CAPTURED:
            return self._measure(name, size, count)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="vnet-bench-", dir=memory) as directory:
            with self._lan.capture(os.path.join(directory, "all.pcapng"), file_size=_FILE, files=2) as capture:
                result = self._measure("lan", size, count)
            self.shares["missed"] = capture.missed / max(1, capture.missed + capture.datagrams)
        return result

    def _measure(self, name: str, size: int, count: int) -> float:
        self._tell(json.dumps([name, size, count]))
        try:
            result = receive_half(self._side, name, size, count)
        except (RuntimeError, EOFError, OSError, VnetError) as error:
            # What failed because the peer died is told as such: the system needs a moment to say so.
            assert self._peer.stdout is not None
            if select.select([self._peer.stdout.fileno()], [], [], _MOMENT)[0]:
                self._hear()
            raise VnetError(f"benchmark {name}: {' '.join(str(error).split())}") from None
        self._hear()
        self.shares.update(self._side.shared.shares)
        self._side.shared.shares.clear()
        return result

    def _watch_peer(self) -> None:
        # Without this, a half that spins on a word would do so until its time is over.
        pidfd = os.pidfd_open(self._peer.pid)
        try:
            select.select([pidfd], [], [])
        finally:
            os.close(pidfd)
        if not self._closing:
            self._arena.lose()
            self._lan.close()

    def rings(self) -> float:
        """Share of the peer's batches that rang our doorbell so far."""
        counts = self._lan.statistics().nics["peer"]
        return counts.doorbells_rung / max(1, counts.doorbells_rung + counts.doorbells_saved)

    def _end_peer(self) -> None:
        self._closing = True
        assert self._peer.stdin is not None
        assert self._peer.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._peer.stdin.close()
        try:
            self._peer.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._peer.kill()
            self._peer.wait()
        self._peer.stdout.close()
        if self._watch is not None:
            self._watch.join()

    def close(self) -> None:
        """Ends the peer and the LAN.  May be called twice."""
        self._opened.close()

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _udp_pair() -> tuple[socket.socket, socket.socket]:
    first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    first.bind(("127.0.0.1", 0))
    second.bind(("127.0.0.1", 0))
    first.connect(second.getsockname())
    second.connect(first.getsockname())
    return first, second
