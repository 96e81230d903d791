"""The control socket: how other processes find a LAN, attach and leave.

A client connects to the LAN's Unix socket and sends requests, each a JSON object on a line of its own; the base answers
each with a JSON object on a line.  A request names the ABI version that the client was built for and what to do:

=========  =============================================  ========================================================
``do``     arguments                                      answer
=========  =============================================  ========================================================
attach     ``nic``, ``addresses`` or null, ``network``    the NIC's place, with the descriptors of the memory
           or null; perhaps ``gateway``, ``forward``      files; from then on the connection is the NIC's lease
detach                                                    the NIC is off the LAN, its name and addresses are free
describe                                                  name, ABI version, networks and NICs, and what the LAN is
member     ``guest`` or null, ``operator``                the name of the guest that the client is, or null for
                                                          the operator; from then on the connection is that guest's
=========  =============================================  ========================================================

Over a NIC's lease, or a member's connection, the guest also asks the broker (:mod:`vnet.sharing`), with requests such
as ``region.create``.  A refusal of those leaves the connection as it is.  A request may have a ``tag``, which its
answer repeats, say how many ``descriptors`` came with it, and be ``quiet``, so that it is not answered.

Whatever else was registered with :meth:`vnet.Lan.serve` is a call (:mod:`vnet.calls`), served in a thread of its own.

A refusal is ``{"ok": false, "error": NAME, "message": TEXT}`` with the name of an exception of :mod:`vnet.errors`, or
of ``ValueError``.  Whatever is not a valid request gets a refusal and a closed connection.  The base looks at the
peer's user id and answers nobody but its own user and root.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _native
from .calls import Call
from .connection import Connection, Death, Files
from .description import description
from .errors import AbiMismatch, AddressError, LanClosed, LanFull, MachineLacks, ProtocolError
from .nic import Nic
from .runtime import connect, release_socket
from .sharing.doors import RemoteDoor
from .sharing.memory import most
from .sharing.proving import open_peer
from .sharing.serving import admit, answer, refused
from .wire import LONGEST, MOST_FILES, ask, close_all, recv_fds, send_fds

if TYPE_CHECKING:
    from .lan import Lan
    from .routing.gateways import Gateway

__all__ = ["ControlServer", "attach", "describe"]

# Connections without a NIC that may be open at one time; a flood beyond it is turned away at the door.
_STRANGERS = 128
# Connections let in at a time, few enough that none of them is the oldest before it has been heard.
_AT_A_TIME = 32
# Seconds in which a connection must have asked for a NIC.
_PATIENCE = 10.0
# Members that may be there at one time; each is a connection.
_MEMBERS = 1024
# Calls that may be under way at one time, each with a thread.
_CALLS = 64


class _HandedOver(Exception):
    """The connection is a call's from now on, and the server is done with it."""


class ControlServer:
    """Serves the control socket of a LAN, in a thread of its own."""

    def __init__(self, lan: Lan, listener: socket.socket, path: Path) -> None:
        import weakref

        self._lan = weakref.ref(lan)
        self._listener = listener
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._strangers: dict[Connection, None] = {}
        self._calls: dict[Call, threading.Thread] = {}
        self._members = 0
        self._stopping = False
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="vnet-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Removes the socket and ends the thread; connections break, which tells the guests.  May be called twice."""
        if self._stopping:
            return
        self._stopping = True
        release_socket(self._path)
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
        for call, thread in list(self._calls.items()):
            # The call that ends the LAN has its last answer to give yet.
            if thread is not threading.current_thread():
                call._end()
                thread.join(timeout=5)

    def abandon(self) -> None:
        """Lets go of all descriptors in a forked child, without touching the socket file."""
        self._stopping = True
        if self._selector.get_map() is None:
            # The LAN was closed, or abandoned by this process's parent, before the fork.
            return
        # unregister() would reach into the parent's epoll queue, which the child shares: only close.
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(OSError):
                os.close(key.fd)
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.detach()
        self._selector.close()
        self._woken.detach()
        self._wake.close()
        for call in list(self._calls):
            close_all(call.files)
            call._sock.close()

    def _run(self) -> None:
        try:
            while not self._stopping:
                timeout = 1.0 if self._strangers else None
                for key, ready in self._selector.select(timeout):
                    try:
                        self._handle(key, ready)
                    except Exception:
                        # A fault of ours, which is told, and not the end of the LAN for all others.
                        sys.excepthook(*sys.exc_info())
                self._sweep()
        finally:
            for key in list(self._selector.get_map().values()):
                if isinstance(key.data, Connection):
                    self._let_go(key.data)
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
            self._selector.close()
            self._wake.close()

    def _handle(self, key: selectors.SelectorKey, ready: int) -> None:
        if key.fileobj is self._listener:
            # Not all that wait: those let in before have a request to be answered first.
            for _ in range(_AT_A_TIME):
                if not self._accept():
                    break
        elif isinstance(key.data, Death):
            self._drop(key.data.connection)
        elif isinstance(key.data, Connection) and not key.data.dropped:
            # One that was dropped with what came before it in this round is no more.
            if ready & selectors.EVENT_WRITE:
                self._write(key.data)
            else:
                self._read(key.data)

    def _accept(self) -> bool:
        """Lets in one client.  Returns whether there may be more."""
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError:
            # Out of descriptors: whoever waits in the queue is served when some are free again.
            time.sleep(0.05)
            return False
        sock.setblocking(False)
        # struct ucred, unix(7).
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        connection = Connection(sock, pid, time.monotonic())
        if uid not in (os.geteuid(), 0):
            self._refuse(connection, "NotPermitted", f"this LAN belongs to user {os.geteuid()}, you are user {uid}")
            sock.close()
            return True
        if len(self._strangers) >= _STRANGERS:
            # Its request would be one of a flood; the oldest that has asked for nothing goes.
            self._drop(next(iter(self._strangers)))
        self._strangers[connection] = None
        self._selector.register(sock, selectors.EVENT_READ, connection)
        return True

    def _sweep(self) -> None:
        horizon = time.monotonic() - _PATIENCE
        for connection in [each for each in self._strangers if each.since < horizon]:
            self._refuse(connection, "ProtocolError", f"this connection asked for no NIC within {_PATIENCE:.0f} s")
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection.dropped:
            return
        connection.dropped = True
        self._strangers.pop(connection, None)
        self._members -= connection.member is not None
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.sock)
        # Whoever watches the lease has the socket open, too.
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
        connection.sock.close()
        self._let_go(connection)
        lan = self._lan()
        if lan is None:
            return
        if connection.nic is not None:
            lan._register.bury(*connection.nic)
        if connection.member is not None and connection.member[0] is not None:
            lan._register.broker.let_go(connection.member[0])

    def _let_go(self, connection: Connection) -> None:
        """Closes what came over a connection, and what was to go over it."""
        close_all(connection.files)
        connection.files = []
        for _, files in connection.outgoing:
            files.close()
        connection.outgoing.clear()
        if connection.process is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection.process)
            os.close(connection.process)
            connection.process = None

    def _read(self, connection: Connection) -> None:
        try:
            data, files, _ = recv_fds(connection.sock, 65_536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, files = b"", []
        connection.files += files
        if not data or len(connection.files) > MOST_FILES:
            self._drop(connection)
            return
        connection.pending += data
        self._serve(connection)

    def _write(self, connection: Connection) -> None:
        if not self._send(connection):
            self._drop(connection)
        elif not connection.outgoing:
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
            self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        """Answers what was read.  A client that takes no answers gets no more of them, and nobody waits for it."""
        while not self._stopping and not connection.outgoing and b"\n" in connection.pending:
            line, _, connection.pending = connection.pending.partition(b"\n")
            try:
                if not self._answer(connection, line):
                    self._drop(connection)
                    return
            except _HandedOver:
                return
        if connection.outgoing:
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
        elif len(connection.pending) > LONGEST:
            self._refuse(connection, "ProtocolError", f"a request has at most {LONGEST} bytes")
            self._drop(connection)

    def _answer(self, connection: Connection, line: bytes) -> bool:
        """Answers one request.  Returns whether the connection goes on."""
        files: tuple[int, ...] = ()
        tag: dict[str, Any] = {}
        try:
            request = _parse(line)
            if isinstance(request.get("tag"), int):
                tag = {"tag": request["tag"]}
            lan = self._lan()
            if lan is None or lan.closed:
                raise LanClosed("the LAN is closing")
            if request["do"] == "attach":
                reply, files = self._attach(lan, connection, request)
            elif request["do"] == "detach":
                reply = self._detach(lan, connection)
            elif request["do"] == "describe":
                reply = description(lan)
            elif request["do"] == "member":
                reply = self._member(lan, connection, request)
            elif (
                connection.nic is not None and lan._register.broker.serves(request["do"])
            ) or connection.member is not None:
                return self._share(lan, connection, request, tag)
            elif request["do"] in lan._handlers:
                self._hand_over(lan, connection, request)
            else:
                known = ", ".join(["attach", "detach", "describe", "member", *sorted(lan._handlers)])
                raise ProtocolError(f"this base does not serve {request['do']!r}; it serves {known}")
        except _HandedOver:
            raise
        except Exception as error:
            self._reply(connection, {**refused(error), **tag}, Files())
            return False
        # Descriptors are a call's affair.
        close_all(connection.files)
        connection.files = []
        return self._reply(connection, {"ok": True, **reply, **tag}, Files(files))

    def _share(self, lan: Lan, connection: Connection, request: dict[str, Any], tag: dict[str, Any]) -> bool:
        """Has the broker answer a request.  Returns whether the connection goes on."""
        self._watch_process(connection)
        answered = answer(lan._register, connection, request, tag)
        if answered is None:
            return True
        connection.outgoing.append(answered)
        return self._send(connection)

    def _watch_process(self, connection: Connection) -> None:
        """Has the connection end with the client's process, from its first request to the broker on."""
        if connection.process is not None:
            return
        connection.process = open_peer(connection.sock, connection.pid)
        if connection.process is not None:
            self._selector.register(connection.process, selectors.EVENT_READ, Death(connection))

    def _member(self, lan: Lan, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        # Each is two descriptors: a connection and a process.
        if self._members >= most(_MEMBERS, 8):
            raise LanFull(f"{self._members} members are there already")
        self._watch_process(connection)
        reply = admit(lan._register, connection, request)
        self._members += 1
        self._strangers.pop(connection, None)
        return reply

    def _hand_over(self, lan: Lan, connection: Connection, request: dict[str, Any]) -> None:
        """Gives the connection to a call, in a thread of its own."""
        if connection.nic is not None:
            raise ProtocolError("this connection is a NIC's lease; calls have one of their own")
        if len(self._calls) >= _CALLS:
            raise LanFull(f"the base serves {_CALLS} calls already")
        self._strangers.pop(connection, None)
        self._selector.unregister(connection.sock)
        files, connection.files = connection.files, []
        call = Call(connection.sock, request, files, connection.pid)
        handler = lan._handlers[request["do"]]

        def run() -> None:
            try:
                call._run(lan, handler)
            finally:
                self._calls.pop(call, None)

        thread = threading.Thread(target=run, name="vnet-call", daemon=True)
        self._calls[call] = thread
        thread.start()
        raise _HandedOver

    def _refuse(self, connection: Connection, error: str, message: str) -> None:
        self._reply(connection, {"ok": False, "error": error, "message": message}, Files())

    def _reply(self, connection: Connection, reply: dict[str, Any], files: Files) -> bool:
        connection.outgoing.append((json.dumps(reply).encode() + b"\n", files))
        return self._send(connection)

    @staticmethod
    def _send(connection: Connection) -> bool:
        """Sends what the client takes at once of its answers.  Returns whether the connection still stands."""
        while connection.outgoing:
            data, files = connection.outgoing[0]
            try:
                sent = send_fds(connection.sock, data, files.files)
            except BlockingIOError:
                break
            except OSError:
                return False
            files.close()
            if sent < len(data):
                connection.outgoing[0] = (data[sent:], Files())
            else:
                connection.outgoing.popleft()
        return True

    def _attach(
        self, lan: Lan, connection: Connection, request: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[int, ...]]:
        if connection.nic is not None:
            raise ProtocolError("this connection is a NIC's lease already")
        name, addresses, network = request.get("nic"), request.get("addresses"), request.get("network")
        if not isinstance(name, str):
            raise ProtocolError("'nic' is the NIC's name")
        if addresses is not None and not (isinstance(addresses, list) and all(isinstance(a, str) for a in addresses)):
            raise ProtocolError("'addresses' is a list of addresses, or null")
        if network is not None and not isinstance(network, str):
            raise ProtocolError("'network' is a network's name, or null")
        gateway, forward = _routed(request)
        with lan._register.lock:
            entry = lan._register.join(name, "process", addresses, network, None, gateway=gateway, forward=forward)
            try:
                entry.watch = lan._base.watch(
                    entry.slot, entry.generation, entry.token, connection.sock.fileno(), connection.pid or None
                )
            except BaseException:
                lan._register.leave(entry)
                raise
            info = lan._register.info(entry)
            connection.nic = (entry, entry.generation)
            entry.pid = connection.pid
            # From here on, an image that is adopted is none that this guest has.
            lan._register.images.private = False
            images = lan._segment.images()
        self._strangers.pop(connection, None)
        reply = {
            "lan": lan.name,
            "slot": entry.slot,
            "generation": entry.generation,
            "token": entry.token,
            "network": info.network,
            "addresses": list(info.addresses),
            "mac": info.mac,
            "mtu": info.mtu,
            "images": [section for section, _ in images],
        }
        return reply, (*lan._segment.files(), *(file for _, file in images), *lan._segment.alarms())

    def _detach(self, lan: Lan, connection: Connection) -> dict[str, Any]:
        if connection.member is not None:
            (guest,), connection.member = connection.member, None
            self._members -= 1
            self._strangers[connection] = None
            connection.since = time.monotonic()
            if guest is not None:
                lan._register.broker.let_go(guest)
            return {}
        if connection.nic is None:
            raise ProtocolError("no NIC is attached on this connection")
        (entry, generation), connection.nic = connection.nic, None
        lan._register.leave(entry, generation)
        self._strangers[connection] = None
        connection.since = time.monotonic()
        return {}


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a request is a JSON object on one line: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise ProtocolError("a request is a JSON object with a string 'do'")
    if request.get("abi") != _native.ABI:
        raise AbiMismatch(f"the base has ABI version {_native.ABI}, you have {request.get('abi')!r}")
    return request


def _routed(request: dict[str, Any]) -> tuple[Gateway, bool | str]:
    """What a request to attach says of default gateway and forwarding; as :meth:`vnet.Lan.attach` takes it."""
    gateway, forward = request.get("gateway"), request.get("forward", False)
    if not (gateway is None or gateway is False or _are_texts(gateway)):
        raise ProtocolError("'gateway' is a list of addresses, false for none, or null")
    if not isinstance(forward, bool | str):
        raise ProtocolError("'forward' is true, false, or the name of a router")
    return gateway, forward


def _are_texts(said: Any) -> bool:
    return isinstance(said, list) and all(isinstance(each, str) for each in said)


def attach(
    lan: str | None = None,
    name: str | None = None,
    address: str | list[str] | tuple[str, ...] | None = None,
    *,
    network: str | None = None,
    gateway: Gateway = None,
    forward: bool | str = False,
) -> Nic:
    """Plugs a NIC into a LAN whose base is another process of the same user, and returns it.

    Arguments:
        lan: the LAN's name; ``None`` takes the environment variable ``VNET_LAN``.
        name: the NIC's name; ``None`` takes ``VNET_NIC``, or else a name made of the process id.
        address: an IP address or several; ``None`` takes the next free one of each prefix, or those that were kept for
            this name.
        network: the name of its network; not needed where there is one.
        gateway: where what leads out of its network goes; as of :meth:`vnet.Lan.attach`.
        forward: it is a router; as of :meth:`vnet.Lan.attach`.

    Raises:
        LanNotFound: no live LAN has the name.
        NotPermitted: the LAN is another user's.
        AbiMismatch: the base is of another version.
        NameTaken, AddressTaken, AddressOutside, NetworkFull, LanFull: as of :meth:`vnet.Lan.attach`.
    """
    lan = lan if lan is not None else os.environ.get("VNET_LAN")
    if lan is None:
        raise ValueError("name the LAN: attach(lan, name), or set VNET_LAN")
    if name is None:
        name = os.environ.get("VNET_NIC") or f"pid-{os.getpid()}"
    addresses = None if address is None else [address] if isinstance(address, str) else list(address)
    if addresses is not None and not all(isinstance(each, str) for each in addresses):
        raise AddressError(f"addresses are strings, not {address!r}")
    asked: dict[str, Any] = {"do": "attach", "nic": name, "addresses": addresses, "network": network}
    if gateway is not None:
        asked["gateway"] = [gateway] if isinstance(gateway, str) else gateway and list(gateway)
    if forward:
        asked["forward"] = forward
    connection = connect(lan)
    try:
        reply, files = ask(connection, asked)
        try:
            # Tables, buffers and routing, the images that sections of routing lie in, the alarms of the base workers.
            images = reply.get("images")
            if not isinstance(images, list):
                raise ProtocolError("the base's answer lacks 'images', or it is no list")
            alarms = 3 + len(images)
            if len(files) != alarms + _native.WORKERS:
                raise ProtocolError(f"the base sent {len(files)} descriptors, not {alarms + _native.WORKERS}")
            sections = list(zip(images, files[3:alarms], strict=True))
            try:
                segment = _native.Segment.attach(files[:3], files[alarms:], sections)
            except OSError as error:
                raise MachineLacks(f"the LAN {lan!r} cannot be mapped: {error}; raise `ulimit -v`") from None
        finally:
            close_all(files)
        return _make_nic(segment, name, reply, connection)
    except BaseException:
        connection.close()
        raise


def _make_nic(segment: _native.Segment, name: str, reply: dict[str, Any], connection: socket.socket) -> Nic:
    door = RemoteDoor(connection, str(reply.get("lan")))

    def leave() -> None:
        # A base that is gone, or does not answer, notices the broken connection instead.
        door.leave()

    def drop(_: int) -> None:
        door.tell("detach")

    connection.settimeout(None)
    try:
        place = int(reply["slot"]), int(reply["generation"]), int(reply["token"])
        addresses, mtu = tuple(map(str, reply["addresses"])), int(reply["mtu"])
        lan, network, mac = str(reply["lan"]), str(reply["network"]), str(reply["mac"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"the base's answer lacks a field or has a wrong one: {error!r}") from None
    nic = Nic._make(
        segment,
        *place,
        name=name,
        lan=lan,
        network=network,
        addresses=addresses,
        mac=mac,
        mtu=mtu,
        leave=leave,
        drop=drop,
        connection=connection,
        door=door,
    )
    from . import scapy_hook

    scapy_hook.announce(nic)
    return nic


def describe(lan: str) -> dict[str, Any]:
    """Asks the base of the live LAN ``lan`` for its networks and NICs.

    Raises:
        LanNotFound, NotPermitted, AbiMismatch: as of :func:`attach`.
    """
    with connect(lan) as connection:
        reply, files = ask(connection, {"do": "describe"})
        close_all(files)
    return reply
