"""The native part of vnet.  Users see :mod:`vnet`; this page is for those who read its code."""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias, TypedDict, final, type_check_only

from typing_extensions import Buffer, Self, disjoint_base

from .verdict import Verdict

__all__ = [
    "ABI",
    "Arena",
    "Base",
    "Capture",
    "Filter",
    "Held",
    "HostCalls",
    "IMAGE_VERSION",
    "Mirror",
    "PingRun",
    "PipeEnd",
    "PlanDraft",
    "Plan",
    "Port",
    "Program",
    "RouteBench",
    "RouteList",
    "Routes",
    "Rules",
    "Segment",
    "Service",
    "Stack",
    "TcpListener",
    "TcpSocket",
    "TrafficGuest",
    "UdpSocket",
    "adopt_image",
    "image_check",
    "image_peek",
    "image_write",
    "offer",
    "optimised",
    "publish_filters",
    "set_network_filter",
    "set_nic_filters",
    "pipe_make",
    "region_frames",
    "region_make",
    "region_ranges",
    "region_reading",
    "region_settle",
    "section_words",
    "start_on_host",
    "QueueEnd",
    "Taker",
    "WorkDesk",
    "desk_make",
    "queue_bytes",
    "queue_make",
    "WORKERS",
    "verdicts",
    "wake_host",
    "withdraw",
]

ABI: Final[int]
"""The version of the segments' layout; base and guest must agree on it."""

WORKERS: Final[int]
"""Base workers of a LAN, and alarms that wake them."""

IMAGE_VERSION: Final[int]
"""The version of the format of images."""

def image_write(fd: int, key: bytes, label: str, sections: list[tuple[str, bytes]]) -> int:
    """Writes an image at the beginning of an empty file, and returns its bytes.

    Arguments:
        fd: the file, open for writing.
        key: the hash of what it was compiled from, 32 bytes.
        label: the same in words; what does not fit into 160 bytes is cut off.
        sections: ``"plan"``, ``"filters"`` or ``"routes"``, each with its words of 32 bits as bytes.

    Raises:
        OSError: it cannot be written.
        ValueError: no such section, twice the same, or half a word.
    """

def image_check(fd: int, key: bytes | None) -> tuple[bytes, str, int, list[tuple[str, int, int]]]:
    """Checks all of an image; returns its key, label, bytes, and of each section the kind, first byte and words.

    Arguments:
        fd: the file, open for reading.
        key: what it must have been compiled from; ``None`` for whatever it was.

    Raises:
        ImageError: it is not fit for use.
    """

def image_peek(fd: int, key: bytes | None = None) -> tuple[bytes, str, int, list[tuple[str, int, int]]]:
    """Checks the header and the length of an image, and not the sections; otherwise as :func:`image_check`."""

def section_words(base: Base, section: str) -> bytes:
    """Returns the words of ``"plan"``, ``"filters"`` or ``"routes"`` as the section lies now.

    Raises:
        ValueError: no such section.
    """

def adopt_image(base: Base, section: str, fd: int, at: int, words: int) -> None:
    """Has a section lie in an image that was checked; the descriptor stays the caller's.

    Guests that attach from now on are given the image, too; to those that have attached already the section is empty.

    Raises:
        VnetError: the section lay in an image before, or this one ends early.
        OSError: it cannot be mapped.
        ValueError: no such section.
    """

def verdicts() -> list[tuple[str, int]]:
    """Returns every verdict's name and number."""

def optimised() -> bool:
    """Returns whether the module was built with optimisation."""

@final
class Segment:
    """The memory files of a LAN, mapped into this process."""

    @staticmethod
    def attach(files: list[int], alarms: list[int], images: list[tuple[str, int]] = ...) -> Segment:
        """Maps the files behind the descriptors of tables, buffers and routing.

        Arguments:
            files: those; they stay the caller's, as all descriptors here do.
            alarms: of the base workers, in the order of their numbers.
            images: of sections that lie in images, by the names of the sections.

        Raises:
            AbiMismatch: the LAN was made by another version.
            ProtocolError: the files are not those of a LAN.
            OSError: they cannot be mapped.
        """

    def files(self) -> list[int]:
        """Returns the descriptors of tables, buffers and routing; they stay its own."""

    def images(self) -> list[tuple[str, int]]:
        """Returns the sections that lie in images, or did so once, with the images' descriptors; they stay its own."""

    def alarms(self) -> list[int]:
        """Returns the descriptors that wake the base workers, one for each of :data:`WORKERS`."""

    def sizes(self) -> tuple[int, int]:
        """Returns the bytes of tables and buffers."""

    def counters(self, slot: int) -> tuple[list[int], int, int, int, int, int, int]:
        """Returns sent by verdict, bytes delivered; received, bytes, refused; doorbells rung, saved."""

    def explain(self, slot: int, datagram: Any) -> dict[str, Any]:
        """Returns what would become of a datagram of the NIC in ``slot``; :mod:`vnet.explain` says it in words."""

@final
class Base:
    """The base of a LAN in this process."""

    def __new__(cls, name: str, max_nics: int, stride: int, lan: int) -> Base: ...
    def segment(self) -> Segment: ...
    def add_network(self, v4: tuple[str, int] | None, v6: tuple[str, int] | None, mtu: int) -> int:
        """Adds a network and returns its number.  A prefix is its address and its length in bits."""

    def add_nic(
        self,
        name: str,
        network: int,
        addresses: list[str],
        mac: int,
        mtu: int,
        ring_bytes: int,
        served: bool,
        up: bool,
        *,
        bridges: bool = False,
        port: int = 0,
    ) -> tuple[int, int]:
        """Adds a NIC and returns its slot and generation.

        With ``bridges``, addresses that the LAN does not know may lie behind it.  With ``port``, it is that port of a
        router, its number in the plan plus one, and has no input buffer.

        Raises:
            LanFull: no slot or table row is free.
        """

    def set_gateways(self, slot: int, generation: int, v4: int, v6: int) -> bool:
        """Says which NICs, slots, lead the guest of a NIC out of its network: for IPv4 and for IPv6, 0 for none.

        Returns whether the NIC is still that of ``generation``.
        """

    def set_plan(self, routers: list[_Router], ports: list[_Port], classes: list[_Class], hash_ports: bool) -> None:
        """Compiles what the routers are and know, and has senders go by it.  What has not changed is not compiled anew.

        Arguments:
            routers: by number.
            ports: by number.
            classes: by number; what stands at 0 is not looked at.
            hash_ports: whether flows are told apart by ports, too, where paths cost the same.

        Raises:
            ValueError: a number stands for nothing, or there is too much of something.
            VnetError: the plan does not fit into the LAN.
        """

    def set_ports(self, changes: list[_Change]) -> None:
        """Cuts, mends and weighs ports of the plan, and has senders go by it.

        Raises:
            ValueError: there is no such port, or a weight is not 1 to 1,048,575.  Nothing has changed then.
        """

    def routes_insert(self, entries: list[tuple[str, int]]) -> None:
        """Enters prefixes that the routers know themselves, or changes their classes, in the route table.

        Raises:
            ValueError: one is no prefix, or class 0.
            LanFull: the table has no room; those before have been entered.
        """

    def routes_remove(self, prefixes: list[str]) -> None:
        """Takes prefixes that the routers know themselves out of the route table; what lies outside shows again."""

    def routes(self) -> Routes:
        """Returns what lies outside, in the same table."""

    def hold(self, slot: int) -> int:
        """Gives a NIC that is down to a new holder and returns the new generation."""

    def take_down(self, slot: int, generation: int) -> bool: ...
    def remove(self, slot: int, generation: int) -> bool: ...
    def is_up(self, slot: int, generation: int) -> bool: ...
    def new_token(self) -> int:
        """Returns a name for an owner of locks that was never used on this LAN."""

    def watch(self, slot: int, generation: int, token: int, socket: int, pid: int | None) -> int:
        """Takes the NIC down when the connection breaks, and puts right what the process left when it dies."""

    def forget(self, watch: int) -> None: ...
    def serve_host(
        self, slot: int, generation: int, addresses: list[tuple[str, int]], mtu: int, seed: int
    ) -> HostCalls: ...
    def serve_tap(self, slot: int, generation: int, fd: int, *, bridges: bool = False) -> None:
        """Has a base worker serve the guest behind a TAP device, of whose descriptor it keeps a duplicate.

        The descriptor is attached to its interface with ``IFF_NO_PI`` and ``IFF_VNET_HDR``.  The NIC goes down when the
        device goes.

        Raises:
            OSError: it is no such descriptor.
        """

    def tap_counters(self, slot: int) -> dict[str, int]:
        """What befell the frames of a guest behind a TAP device, by reason; empty for other guests."""

    def set_gateway(self, network: int, slot: int) -> None:
        """Has a NIC take what leads out of its network; slot 0: none does."""

    def serve_loopback(self, slot: int, generation: int) -> None:
        """Has the base worker send back what the NIC gets."""

    def ping(
        self, host: HostCalls, destination: str, count: int, interval: float, timeout: float, size: int, hop_limit: int
    ) -> PingRun: ...
    def inject(
        self, slot: int, datagrams: Iterable[Any], block: bool = False, timeout: float | None = None
    ) -> list[Verdict]: ...
    def capture(self, file: int, arguments: CaptureArguments) -> Capture:
        """Starts a capture into a descriptor, which stays the caller's.

        Raises:
            OSError: it cannot be written.
            CaptureError: a stopped process holds the captures' ring.
            ValueError: there is no such direction.
        """

    def abandon(self) -> None:
        """Forgets threads and connections in a forked child."""

    def close(self) -> None: ...

@final
class RouteBench:
    """Look-ups in the route table, and in plain DIR-24-8 arrays of the same routes, for ``vnet bench --routes``.

    Arguments:
        text: as of :class:`RouteList`.
        classes: how many classes the prefixes have.

    Raises:
        RuntimeError: the list is wrong, or there is no memory.
    """

    def __new__(cls, text: bytes, classes: int) -> RouteBench: ...
    @property
    def compiled(self) -> float:
        """Seconds that it took to lay the table out."""

    def sizes(self) -> tuple[int, int, int, int, int]:
        """Returns IPv4 and IPv6 routes, and bytes: of the table, of arrays with cells of 32 bits and of 16."""

    def look_up(self, who: str, which: str, count: int) -> tuple[float, int]:
        """Looks addresses up, one after the other, in this thread.

        Arguments:
            who: ``"ours"``, ``"array32"`` or ``"array16"``.
            which: ``"any4"``, ``"routed4"`` or ``"routed6"``.

        Returns:
            Seconds, and the sum of the classes found.
        """

    def update(
        self, processors: tuple[int, int], rate: int, seconds: float, rounds: int
    ) -> tuple[list[list[float]], float]:
        """Changes routes in one thread while another looks addresses up, on these processors; that one comes first.

        Returns:
            For each round look-ups a second without the other thread, beside it while it changes nothing, and beside
            it while it makes ``rate`` changes a second (0: as many as it can); and changes a second.
        """

@final
class RouteList:
    """Prefixes that were read from text: one a line, behind it perhaps a word that says where it leads.

    Raises:
        ValueError: a line is wrong; its arguments are the line's number and the reason.
    """

    def __new__(cls, text: bytes) -> RouteList: ...
    def words(self) -> list[tuple[str, int, int]]:
        """Returns the words, the first one for lines without.

        With each come the lines where it first stands behind an IPv4 and an IPv6 prefix, 0 for nowhere.
        """

@final
class Routes:
    """What lies outside of a LAN: the part of its route table that is not the routers' own.

    Changes hold when the call returns, for all senders.  A prefix that the routers have themselves is kept, and shows
    when they have it no more.  What lies in an image is copied out of it when more than its look-ups is wanted.

    Raises:
        ValueError: something is no prefix or no address, or class 0.
        LanFull: the table has no room; it is as before.
        VnetError: the image that it lies in has been damaged since it was checked.
    """

    def insert(self, prefix: str, class_: int) -> tuple[int, bool]:
        """Enters a prefix or changes its class.

        Returns:
            The class that it had, 0 for none, and whether a prefix of the routers is inside.
        """

    def remove(self, prefix: str) -> tuple[int, bool]:
        """Takes a prefix out; returns as :meth:`insert` does."""

    def extend(self, list: RouteList, classes: list[tuple[int, int]]) -> tuple[int, bool]:
        """Enters the prefixes of a list, all of them or none.

        Arguments:
            list: the prefixes.
            classes: for each word of the list those of IPv4 and IPv6 prefixes with it; 0 leaves them out.

        Returns:
            How many came, those that were said twice counted twice; and whether prefixes of the routers are inside of
            one.
        """

    def remove_classes(self, classes: list[int]) -> int:
        """Takes all prefixes of these classes out; returns how many there were."""

    def clear(self) -> None:
        """Takes all prefixes out."""

    def get(self, prefix: str) -> int:
        """Returns the class of exactly this prefix, 0 for none."""

    def look_up(self, address: str) -> tuple[int, str, bool] | None:
        """Returns what senders find for an address: class and prefix, and whether the prefix is the routers' own."""

    def class_of(self, address: str) -> int:
        """Returns the class that senders find for an address, wherever the table lies; 0 for none."""

    def covering(self, prefix: str) -> tuple[int, int] | None:
        """Returns the longest prefix outside that has all addresses of this one: its length and its class."""

    def __len__(self) -> int: ...
    def page(self, after: str | None, count: int) -> list[tuple[str, int]]:
        """Returns at most ``count`` prefixes with their classes, in order, from the one behind ``after`` on."""

    def anatomy(self) -> tuple[int, int, int, int]:
        """Returns IPv4 and IPv6 routes of the whole table, bytes that look-ups can touch, and bytes ever used."""

    def own(self) -> list[tuple[str, int]]:
        """Returns the routers' prefixes with their classes, in order: with what lies outside they make the table."""

    def draft(self, list: RouteList, classes: list[tuple[int, int]]) -> bytes:
        """Returns the words of the section that a list would make of the table, if nothing lies outside so far."""

    def taken(self) -> int:
        """Returns how many prefixes the list had of which the image was made that the table lies in."""

    def adopt(self, fd: int, at: int, words: int) -> None:
        """Has senders go by a table that lies in an image: that of :meth:`draft`.  The routers' prefixes are as then.

        Raises:
            VnetError, OSError: as of :func:`adopt_image`.
        """

# A guest that forwards, the number is in use.
_Router: TypeAlias = tuple[bool, bool]
# Router, network or 0, peer or -1, slot or 0, MTU, weight, IPv4 address or 0, IPv6 address or 0, up, the number is in
# use.
_Port: TypeAlias = tuple[int, int, int, int, int, int, int, int, bool, bool]
# Router, what ("via", "unreachable", "prohibit", "blackhole"), port, address of the next hop.
_Fixed: TypeAlias = tuple[int, str, int, str | None]
# Kind ("network", "link", "loopback", "external", "static"), the number of a network, port or router, address of the
# next hop, class of the next shorter prefix or 0, static routes.
_Class: TypeAlias = tuple[str, int, str | None, int, list[_Fixed]]
# Port, up, weight.
_Change: TypeAlias = tuple[int, bool, int]
# What ("link", "router", "via", "none", "unreachable", "prohibit", "blackhole"), the port out or -1, and the port into
# the next router or the address of the next hop.
_Next: TypeAlias = tuple[str, int, int | str | None]

@final
class PlanDraft:
    """What a plan is to be, for those who keep plans in images.  The arguments are those of :meth:`Base.set_plan`.

    Raises:
        ValueError: a number stands for nothing, or there is too much of something.
    """

    def __new__(
        cls, routers: list[_Router], ports: list[_Port], classes: list[_Class], hash_ports: bool
    ) -> PlanDraft: ...
    def form(self) -> bytes:
        """Returns what it is to be in its one form: the same for all that compiles to the same."""

    def compile(self) -> bytes:
        """Compiles it, and returns the words of the section."""

    def publish(self, base: Base) -> None:
        """Has senders go by it, out of the LAN's own memory; as :meth:`Base.set_plan`.

        Raises:
            VnetError: the plan does not fit into the LAN.
        """

    def adopt(self, base: Base, fd: int, at: int, words: int) -> None:
        """Has senders go by it as it lies in an image; errors as of :func:`adopt_image`."""

@final
class Plan:
    """A compiled plan by itself: it says what routers do.  The arguments are those of :meth:`Base.set_plan`.

    Raises:
        ValueError: a number stands for nothing, or there is too much of something.
    """

    def __new__(cls, routers: list[_Router], ports: list[_Port], classes: list[_Class], hash_ports: bool) -> Plan: ...
    def set_ports(self, changes: list[_Change]) -> None:
        """Cuts, mends and weighs ports.

        Raises:
            ValueError: there is no such port, or a weight is not 1 to 1,048,575.  Nothing has changed then.
        """

    def next(self, router: int, class_: int, hash: int) -> _Next:
        """Returns what a router does with a datagram for a class, by the 32-bit hash of the datagram's flow."""

    def choices(self, router: int, class_: int) -> list[_Next]:
        """Returns all that :meth:`next` chooses from; nothing where there is no route."""

    def distance(self, start: int, end: int) -> int | None:
        """Returns the cost of the shortest path from one router to another, if there is one."""

@final
class HostCalls:
    """A built-in host, for calls to it."""

@final
class Service:
    """A service of a built-in host."""

def offer(base: Base, host: HostCalls, tcp: bool, port: int, action: str, text: bytes) -> Service:
    """Offers a service on a host's port: ``discard``, ``echo``, or ``http``, which answers with ``text``.

    Raises:
        PortTaken: another service has the port.
        NicClosed: the host is off the LAN.
    """

def withdraw(base: Base, service: Service) -> bool:
    """Ends a service.  Returns whether its port is free."""

@final
class PingRun:
    """Echo requests under way."""

    def wait(self, timeout: float) -> list[float | Verdict | str | None] | None:
        """Returns seconds for a reply, a verdict or an ICMP error's name and sender instead of one, None for nothing.

        None in place of the list: not all are settled within ``timeout`` seconds.
        """

@type_check_only
class CaptureArguments(TypedDict):
    nics: list[str] | None
    direction: str
    filter: tuple[Filter, str] | None
    drops: bool
    limit: int | None
    snaplen: int | None
    ring: tuple[int, str, str, int, int] | None

@final
class Capture:
    """A running capture."""

    def counts(self) -> tuple[int, int, int]:
        """Returns packets written, datagrams written, datagrams missed."""

    def end(self) -> str | None:
        """Returns why it is over, if it is: ``stopped``, ``limit``, ``reader`` or ``failed``."""

    def wait(self, timeout: float) -> bool:
        """Waits up to ``timeout`` seconds until it is over.  Returns whether it is."""

    def stop(self) -> tuple[str, int | None, str]:
        """Ends it once all is written.  Returns why it was over, and of a failure the system's number and words."""

    def discard(self) -> None:
        """Ends it at once."""

@final
class Filter:
    """A filter for raw IP: a program of classic BPF, ``struct bpf_insn``s one after the other.

    Raises:
        ValueError: the kernel would not take the program.
    """

    def __new__(cls, program: bytes) -> Filter: ...
    def run(self, datagram: bytes, length: int | None = None) -> int:
        """Returns how many bytes of the datagram are wanted.  ``length``: what it had before it was cut."""

@final
class Rules:
    """A filter that was compiled and checked; :mod:`vnet.filtering` makes it of what users write.

    Arguments:
        rules: what each says (0 allows, 1 denies, 2 rejects), and of what: everything, a program of classic BPF, or a
            table of prefixes from and to, protocols, and ranges of ports from and to.
        otherwise: what is said of datagrams that none matches.

    Raises:
        ValueError: the kernel would not take a program, or there are too many rules or words.
    """

    def __new__(
        cls,
        rules: list[
            tuple[
                int,
                bytes
                | tuple[
                    list[tuple[str, int]] | None,
                    list[tuple[str, int]] | None,
                    list[int] | None,
                    list[tuple[int, int]] | None,
                    list[tuple[int, int]] | None,
                ]
                | None,
            ]
        ],
        otherwise: int,
    ) -> Rules: ...
    def words(self) -> bytes:
        """Returns the compiled form."""

    def judge(self, datagram: bytes) -> tuple[int, int | None]:
        """Returns what it says of a datagram, and the number of the rule that matched, from 0."""

def publish_filters(base: Base, serial: int, filters: list[Rules | None]) -> bool:
    """Replaces the filters of a LAN; a filter's number is its place.  ``serial`` is another than the last time.

    Returns whether they fit.
    """

def set_nic_filters(base: Base, slot: int, generation: int, inward: int, outward: int) -> bool:
    """Says which filters a NIC has, by their numbers plus one; 0 for none.  Returns whether the NIC is still there."""

def set_network_filter(base: Base, network: int, filter: int) -> None:
    """Says which filter a network has, by its number plus one; 0 for none."""

@disjoint_base
class Port:
    """A NIC in this process; :class:`vnet.Nic` documents what users call."""

    def __new__(
        cls, segment: Segment, slot: int, generation: int, token: int, connection: int | None = None
    ) -> Port: ...
    def send(self, datagram: Any, *, block: bool = False, timeout: float | None = None) -> Verdict: ...
    def send_many(
        self, datagrams: Iterable[Any], *, block: bool = False, timeout: float | None = None
    ) -> list[Verdict]: ...
    def recv(self, timeout: float | None = None) -> bytes: ...
    def recv_many(self, max: int = 1024, timeout: float | None = None) -> list[bytes]: ...
    def hold_record(self, timeout: float | None) -> tuple[int, int, Held]:
        """Returns where the next datagram lies in the buffers file, its bytes, and what releases it."""

    def release_record(self, held: Held) -> None: ...
    def fileno(self) -> int: ...
    def set_spin(self, spin: str) -> None:
        """Polls before sleeping: ``never``, ``adaptive`` or ``always``."""

    @property
    def slot(self) -> int: ...
    @property
    def segment(self) -> Segment: ...
    def check(self) -> None:
        """Raises what makes the NIC unusable, if something does."""

    def shut(self) -> bool:
        """Lets go of the memory and the connection.  False when that was done before."""

@final
class Held:
    """A datagram that is read in place."""

@final
class Stack:
    """The TCP/IP stack on a process's NIC: from now on the NIC's datagrams are the stack's.

    In what follows a ``timeout`` of ``None`` waits for ever, 0 looks only and raises ``BlockingIOError``, and any other
    is in seconds and ends with ``TimeoutError``.  Waiting goes without the GIL and answers signals.  Errors are those
    of Python's socket module, and :class:`~vnet.LanClosed`, :class:`~vnet.NicClosed` and :class:`~vnet.ForkedNic`.
    """

    def __new__(cls, port: Port, addresses: list[tuple[str, int]], mtu: int, seed: int) -> Stack:
        """Takes the NIC over.  Addresses are given with their prefixes' lengths in bits, ``mtu`` in bytes of IP.

        Raises:
            ValueError: the NIC has a stack already, or more addresses than a stack can have.
        """

    def connect(self, remote: tuple[str, int], local: tuple[str | None, int] | None = None) -> TcpSocket:
        """Starts a connection and returns at once."""

    def listen(self, local: tuple[str | None, int], backlog: int | None) -> TcpListener:
        """Listens; port 0 is an ephemeral one.  Without a backlog the port is only held, and who comes is refused.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``.
        """

    def udp(self, local: tuple[str | None, int]) -> UdpSocket:
        """Opens a UDP socket; port 0 is an ephemeral one.  Raises as :meth:`listen`."""

    def close(self) -> None:
        """Ends every socket and gives the NIC back.  May be called twice."""

@final
class Mirror:
    """A descriptor that polls as a socket does, for ``select``, ``selectors`` and asyncio; writing to it is refused."""

    def __new__(cls, readable: bool, writable: bool) -> Mirror:
        """Makes one that shows no socket yet, but this."""

    def fileno(self) -> int:
        """Returns the descriptor, or -1 once it is closed."""

    def show(self, readable: bool, writable: bool) -> None:
        """Shows no socket any more, but this."""

    def close(self) -> None: ...

@final
class TcpSocket:
    """An end of a TCP connection."""

    def state(self) -> str:
        """Returns connecting, open, refused, reset, timed_out, unreachable or closed."""

    def local(self) -> tuple[str, int]: ...
    def remote(self) -> tuple[str, int]: ...
    def wait_connected(self, timeout: float | None) -> None: ...
    def send(self, data: Buffer, timeout: float | None) -> int:
        """Sends some of it, at least a byte, and returns how many bytes."""

    def send_all(self, data: Buffer, timeout: float | None) -> None:
        """Sends all of it, without a copy where it is ``bytes``; how much was sent is not known after an error."""

    def recv(self, size: int, timeout: float | None) -> bytes:
        """Returns up to ``size`` bytes; ``b""`` at the end of the stream."""

    def recv_into(self, buffer: Buffer, timeout: float | None) -> int: ...
    def shutdown(self, how: int) -> None: ...
    def close(self, abort: bool = False) -> None:
        """Lets go of the socket.  What was sent is delivered, then the connection ends; ``abort`` resets it."""

    def set(self, option: str, value: int) -> None:
        """Sets ``nodelay`` (0, 1), ``keepalive`` and ``timeout`` (seconds, 0 for none), or ``ttl``."""

    def ready(self) -> tuple[bool, bool]:
        """Returns whether receiving, and whether sending, would go without waiting."""

    def show_on(self, mirror: Mirror) -> None:
        """Has the mirror be readable and writable as the socket is, from now on."""

@final
class TcpListener:
    """A listening TCP port."""

    def accept(self, timeout: float | None) -> TcpSocket: ...
    def set_backlog(self, backlog: int) -> None:
        """Listens on a port that was only held, or lets another number of connections wait."""

    def local(self) -> tuple[str, int]: ...
    def close(self) -> None: ...
    def ready(self) -> tuple[bool, bool]: ...
    def show_on(self, mirror: Mirror) -> None: ...

@final
class UdpSocket:
    """A UDP port."""

    def sendto(self, data: Buffer, address: tuple[str, int], timeout: float | None) -> int: ...
    def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, tuple[str, int]]:
        """Returns a datagram's payload, cut to ``size`` bytes, and who sent it."""

    def local(self) -> tuple[str, int]: ...
    def close(self) -> None: ...
    def ready(self) -> tuple[bool, bool]: ...
    def show_on(self, mirror: Mirror) -> None: ...

_Sent: TypeAlias = tuple[int, int, list[int], int, int, str | None]
_Flow: TypeAlias = tuple[int, int, int, int, float, int, int, int]
_Tally: TypeAlias = tuple[list[_Flow], list[tuple[int, int]], tuple[int, int] | None, str | None]

@final
class Program:
    """A program for a stack that measures: a source, a sink or a probe."""

    @staticmethod
    def udp_source(
        flow: int,
        source: str,
        destination: tuple[str, int],
        sizes: list[int],
        bits: int | None,
        datagrams: tuple[int, int] | None,
        duration: float | None,
        count: int | None,
    ) -> Program: ...
    @staticmethod
    def tcp_source(
        flow: int, source: str, destination: tuple[str, int], duration: float | None, bytes: int | None
    ) -> Program: ...
    @staticmethod
    def udp_sink(port: int, flows: list[int]) -> Program: ...
    @staticmethod
    def tcp_sink(port: int, flows: list[int]) -> Program: ...
    @staticmethod
    def probe(source: str, destination: tuple[str, int], request: bytes, timeout: float) -> Program: ...
    def wait(self, timeout: float) -> bool: ...
    def stop(self) -> None: ...
    def sent(self) -> _Sent:
        """Datagrams, bytes, by verdict, begin and end in nanoseconds, why it failed."""

    def tally(self) -> _Tally:
        """By flow: received, bytes, duplicates, out of order, jitter, sum of latencies, first and last arrival; then
        latencies as (nanoseconds, count), the shortest and the longest, why it failed."""

    def ready(self) -> bool:
        """Whether a sink has its port, or never will."""

    def arrived(self) -> list[int]: ...
    def answer(self) -> tuple[str, float | None, bytes]:
        """How it ended, seconds until the connection was open, what came."""

@final
class TrafficGuest:
    """A stack for programs on the NIC of a process, driven by the caller's thread."""

    def __new__(cls, addresses: list[tuple[str, int]], mtu: int, seed: int) -> TrafficGuest: ...
    def start(self, app: Program) -> None: ...
    def drive(self, port: Port, seconds: float) -> None: ...

def start_on_host(base: Base, calls: HostCalls, app: Program) -> bool: ...
def wake_host(base: Base, calls: HostCalls) -> None: ...

@final
class Arena:
    """What the two processes of a measurement share, and the halves of the measurements.

    Every method is one half; the peer makes the other at the same time.  Raises ``RuntimeError`` when the peer does not
    do its part in time.
    """

    def __new__(cls, file: int) -> Arena: ...
    def gate(self) -> None: ...
    def ring_send(self, datagram: bytes, count: int) -> None: ...
    def ring_receive(self, size: int, count: int) -> float: ...
    def line_ping_pong(self, first: bool, count: int) -> float: ...
    def futex_ping_pong(self, first: bool, count: int) -> float: ...
    def lan_send(self, port: Port, datagram: bytes, count: int) -> None: ...
    def lan_receive(self, port: Port, size: int, count: int) -> float: ...
    def lan_round_trips(self, port: Port, datagram: bytes, first: bool, sleep: bool, count: int) -> float: ...
    def socket_send(self, socket: int, datagram: bytes, count: int) -> None: ...
    def socket_receive(self, socket: int, size: int, count: int) -> float: ...
    def socket_round_trips(self, socket: int, datagram: bytes, first: bool, count: int) -> float: ...
    def copies_send(self, ring: int, piece: bytes, count: int) -> None: ...
    def copies_receive(self, ring: int, size: int, count: int) -> float: ...
    def bytes_send(self, socket: int, piece: bytes, count: int) -> None: ...
    def bytes_receive(self, socket: int, size: int, count: int) -> float: ...
    def pipe_send(self, pipe: PipeEnd, piece: bytes, count: int) -> None: ...
    def pipe_receive(self, pipe: PipeEnd, size: int, count: int) -> float: ...
    def pipe_round_trips(self, pipe: PipeEnd, message: bytes, first: bool, count: int) -> float: ...
    def queue_round_trips(self, queue: QueueEnd, taker: Taker, item: bytes, first: bool, count: int) -> float: ...
    def lose(self) -> None:
        """Ends this half's loops, now and from now on: its peer has died."""

# Regions

def region_make(name: str, bytes: int, huge: bool) -> int:
    """Makes a region's memory file, its size sealed; the descriptor is the caller's."""

def region_settle(file: int, one_writer: bool) -> None:
    """Seals its seals; with ``one_writer`` nobody gets a writable mapping from now on."""

def region_reading(file: int) -> int:
    """Opens it for reading alone; the descriptor is the caller's."""

def region_ranges(pid: int | None, file: int) -> list[tuple[int, int, bool]]:
    """Where a process, or this one, has it mapped: first address, bytes, whether it can be written.

    Raises:
        OSError: there is no such process, or it may not be looked at.
    """

def region_frames(pid: int | None, start: int, bytes: int) -> bytes | None:
    """The page frames behind a range of a process, each 8 bytes, 0 for pages that it has not touched.

    ``None``: the kernel does not tell this process.
    """

# Pipes

def pipe_make(size: int, messages: bool = False, *, name: str = "vnet:pipe") -> tuple[list[int], list[int]]:
    """Makes a pipe: the descriptors of its first end and of its second, which are the caller's.

    Args:
        size: bytes of each of the two rings; the next power of two of at least 4096 is taken.
        messages: whether the pipe keeps the boundaries of messages.

    Raises:
        ValueError: a size of 0 or beyond 1 GiB.
    """

@final
class PipeEnd:
    """One end of a pipe.  Threads may share it: one at a time writes, one at a time reads, and closing wakes them all.

    Raises, beside what the methods name: ValueError of an end that is closed, ForkedNic in a forked child,
    BrokenPipeError of writing when the peer reads no more, ConnectionResetError of reading when the peer died before
    it ended what it wrote (which is read first), TimeoutError, and OSError with EPROTO when the peer wrote nonsense
    into the memory that both share.
    """

    def __new__(cls, files: list[int], first: bool, *, largest: int = 268435456) -> PipeEnd:
        """Takes the descriptors over.

        Args:
            files: those of one end, in the order of :func:`pipe_make`.
            first: whether they are the first end's.
            largest: the most bytes of a message, both written and read.

        Raises:
            ValueError: they are no pipe's; they are closed then.
        """

    @property
    def size(self) -> int:
        """Bytes of each ring."""

    @property
    def largest(self) -> int: ...
    @property
    def messages(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def peer_gone(self) -> bool:
        """Whether the peer has closed its end or died.  What it wrote may still be there."""

    @property
    def peer_closed_write(self) -> bool:
        """Whether the peer has said that it writes no more.  What it wrote may still be there."""

    @property
    def bytes_written(self) -> int:
        """Counted so far, as all of these also after it was closed.  Of messages, what they hold."""

    @property
    def bytes_read(self) -> int: ...
    @property
    def writes(self) -> int: ...
    @property
    def reads(self) -> int: ...
    @property
    def rung(self) -> int:
        """Times that the peer was interrupted, because it slept."""

    @property
    def saved(self) -> int:
        """Times that it was not, because it was busy."""

    @property
    def slept(self) -> int: ...
    def write(self, data: Buffer, block: bool = True, timeout: float | None = None) -> int | None:
        """Writes bytes: all of them, or without ``block`` as many as fit, or a message, whole or not at all.

        A message longer than half of the ring goes in pieces, which only the reader's end makes one: without ``block``
        come again with the same object until it has gone.  Another message drops what was begun.

        Returns:
            Bytes taken, fewer than all only without ``block`` or when the time was over; None when none was, without
            ``block``, or not the whole message.

        Raises:
            TimeoutError: none was taken in time, or not the whole message.
            OSError: EMSGSIZE, a message longer than ``largest``.
        """

    def readinto(self, buffer: Buffer, block: bool = True, timeout: float | None = None) -> int | None:
        """Reads what is there, one byte at least; 0 is the end of what the peer wrote, None that nothing is there."""

    def read(self, size: int, block: bool = True, timeout: float | None = None) -> bytes | None:
        """As :meth:`readinto`, into bytes of its own, ``size`` at most."""

    def peek(self, size: int = 0) -> bytes:
        """Returns what is there, at most ``size`` and 8192 bytes, and leaves it there."""

    def read_message(self, block: bool = True, timeout: float | None = None) -> bytes | None:
        """Reads a message; None when there is none yet.

        Raises:
            EOFError: the peer has ended what it wrote.
            OSError: EMSGSIZE, a message longer than ``largest``; this pipe can be read no more.
        """

    def wait(self, read: bool, write: bool, timeout: float | None = None) -> bool:
        """Waits until a read or a write would not have to, or either: whether it is so before the time is over."""

    def available(self) -> int:
        """Bytes that can be read now; of messages, with those that hold them apart."""

    def room(self) -> int:
        """Bytes that can be written now."""

    def fileno(self) -> int:
        """A descriptor that is readable when there is data or the end of it, writable when there is room or no reader.

        It is to be polled and never read, written or closed.  Once the ring was full it shows room when a quarter of it
        is free, or as much as a message needs that was refused.
        """

    def shut_write(self, timeout: float | None = None) -> None:
        """Says that this end writes no more; the peer reads what was written, and then the end."""

    def shut_read(self) -> None:
        """Says that this end reads no more: whoever waits for data here finds the end, and the peer's writes fail."""

    def close(self) -> None: ...

# Work queues

def queue_bytes(capacity: int, item_size: int, priorities: int) -> int: ...
def queue_make(name: str, capacity: int, item_size: int, priorities: int) -> int: ...
def desk_make(name: str) -> tuple[int, int]: ...

@final
class WorkDesk:
    def __new__(cls, file: int, event: int, life: int | None = None) -> WorkDesk: ...
    def force(self) -> None: ...
    @property
    def idle(self) -> bool: ...

@disjoint_base
class QueueEnd:
    def __new__(
        cls,
        title: str,
        file: int,
        desk: WorkDesk,
        capacity: int,
        item_size: int,
        priorities: int,
        token: int,
        port: Port | None = None,
    ) -> Self: ...
    def post(self, item: Buffer, priority: int = 0, block: bool = False, timeout: float | None = None) -> None: ...
    def post_many(
        self, items: Iterable[Buffer], priority: int = 0, block: bool = False, timeout: float | None = None
    ) -> int: ...
    def counters(self) -> tuple[list[int], list[int], int, int, int]: ...
    @property
    def ended(self) -> str | None: ...
    def end(self, why: str) -> None: ...
    def lock_owner(self) -> int | None: ...
    def bury(self, token: int) -> bool: ...
    def is_jammed(self) -> bool: ...
    def shut(self) -> bool: ...

@final
class Taker:
    def __new__(cls, desk: WorkDesk, port: Port | None = None) -> Taker: ...
    def serve(self, end: QueueEnd, most: int, in_place: bool) -> int: ...
    def leave(self, number: int) -> None: ...
    def take(self, limit: int | None = None) -> tuple[int, int, int, Any] | None: ...
    def done(self, number: int, priority: int) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def wake(self) -> None: ...
    @property
    def orphan(self) -> bool: ...
    def backlog(self) -> int: ...
    def fileno(self) -> int: ...
    def rest(self) -> None: ...
    def set_spin(self, spin: str) -> None: ...
