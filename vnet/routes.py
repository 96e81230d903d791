"""What lies outside of a LAN: prefixes behind its guests, a full Internet table among them.

::

    lan.routes.add("203.0.113.0/24", via="isp")           # behind the guest whose NIC is "isp"
    lan.routes.load("internet.txt.gz", via="10.0.0.254")   # a prefix a line
    lan.routes.look_up("203.0.113.7")                      # what senders find

The routers of the LAN know them all, each by its shortest path to the guest's network.  What a network, a link or a
router itself has is not here: that counts before what lies outside, prefix by prefix.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from . import _native
from .errors import AddressError, LanClosed
from .network import Network, Prefix, parse_address
from .routing.model import REFUSALS, Behind, Class, Refusal, RouterNode, Wire
from .routing.routers import parse_prefix

if TYPE_CHECKING:
    from .network import Address
    from .register import Register

__all__ = ["Match", "OutsideRoute", "Routes", "Source", "Via"]

Via: TypeAlias = str | Sequence[str]
"""A guest's NIC, its address, an address of each family; or ``unreachable``, ``prohibit`` or ``blackhole``."""

# Fewer are laid out in less time than it takes to look for an image.
_MANY = 64 << 10

_GZIP = b"\x1f\x8b"
_PAGE = 4096


@dataclass(frozen=True)
class OutsideRoute:
    """A prefix that lies outside.

    Attributes:
        prefix: such as ``203.0.113.0/24``.
        via: the address that it lies behind; or ``unreachable``, ``prohibit`` or ``blackhole``.
    """

    prefix: str
    via: str


@dataclass(frozen=True)
class Match:
    """What the route table says of an address.

    Attributes:
        prefix: the longest that has it.
        kind: ``outside``, or what of the LAN it is: ``network``, ``link``, ``router`` (its own address) or ``static``
            (only static routes of routers lead there).
        via: what it lies behind, as of :class:`OutsideRoute`; or the name of the network, link or router.
    """

    prefix: str
    kind: str
    via: str


Source: TypeAlias = "str | os.PathLike[str] | Iterable[str | OutsideRoute | tuple[str, str]]"
"""A file, or prefixes: alone, or each with what it lies behind."""


class Routes:
    """What lies outside of a LAN; :attr:`vnet.Lan.routes`.

    It is iterated in order, IPv4 before IPv6, by address, shorter prefixes before longer.  Every change holds for all
    senders when the call returns; none of them waits for it.
    """

    def __init__(self, register: Register, table: _native.Routes) -> None:
        self._register = register
        self._table = table
        # What names meant when they were used: a guest may leave before its routes do.
        self._named: dict[str, set[int]] = {}
        register.routing.covering = self._covering

    # Changes

    def add(self, prefix: str, via: Via) -> None:
        """Says where a prefix lies; in place of what was said of it before.

        Arguments:
            prefix: such as ``"203.0.113.0/24"``, or ``"0.0.0.0/0"`` for all that nobody else has.
            via: the name of a guest's NIC, or an address on one of the networks; or ``"unreachable"``, ``"prohibit"``
                or ``"blackhole"``, as of ``ip route``, for all routers.

        Raises:
            AddressError: it is no prefix, or one of the LAN's own; or ``via`` is nowhere, on a network without a
                router, of the other family, or a simulated router, which has nothing behind it.
            LanFull: the table has no room, or the routers have too many next hops.
        """
        wanted = parse_prefix(prefix)
        with self._open():
            if self._register.routing.owns(wanted):
                raise AddressError(f"{wanted} does not lie outside: it is {self._owner(wanted)}")
            classes = self._classes(via)
            number = classes[wanted.version == 6]
            if not number:
                raise AddressError(f"{wanted} is IPv{wanted.version}, and {_shown(via)} has no address of that family")
            _, covers = self._table.insert(str(wanted), number)
            if covers:
                self._register.routing.changed()

    def remove(self, prefix: str) -> None:
        """Takes a prefix out.

        Raises:
            AddressError: it is no prefix.
            ValueError: it is not in.
        """
        wanted = parse_prefix(prefix)
        with self._open():
            before, covers = self._table.remove(str(wanted))
            if not before:
                own = f"; it is {self._owner(wanted)}" if self._register.routing.owns(wanted) else ""
                raise ValueError(f"there is no route to {wanted} outside of this LAN{own}")
            if covers:
                self._register.routing.changed()

    def remove_all(self, via: Via | None = None) -> int:
        """Takes out all that lies behind ``via``, or all.

        Returns:
            How many prefixes that were.

        Raises:
            AddressError: ``via`` is nowhere, and nothing was ever behind it.
        """
        with self._open():
            if via is None:
                gone = len(self._table)
                self._table.clear()
            else:
                numbers = set().union(*(self._named.get(name, ()) for name in _each(via)))
                if not numbers:
                    numbers = {number for number in self._classes(via) if number}
                gone = self._table.remove_classes(sorted(numbers))
            if gone:
                self._register.routing.changed()
            return gone

    def load(self, source: Source, via: Via | None = None, *, family: int | None = None) -> int:
        """Adds many prefixes at once: all of them, or none where something is wrong.

        Where it has one of the LAN's own prefixes, the LAN's counts; the other comes to light once the LAN has it no
        more.

        Arguments:
            source: the path of a text file, plain or gzipped: a prefix a line, behind it perhaps what it lies behind,
                and comments after ``#``; or prefixes, each perhaps with what it lies behind.
            via: what those without lie behind, as of :meth:`add`; a NIC or two addresses where there are prefixes of
                both families.
            family: 4 or 6 to take only those; ``None`` for all.

        Returns:
            How many prefixes the source has, those of other families left out.

        Raises:
            AddressError: something is no prefix, or leads nowhere; the message names file and line.
            OSError: the file cannot be read.
            LanFull: as of :meth:`add`.
        """
        if family not in (None, 4, 6):
            raise ValueError(f"a family is 4 or 6, not {family!r}")
        where, data = _read(source)
        with self._open():
            loaded = self._load_image(where, data, via, family)
            if loaded is not None:
                return loaded
            text = _plain(where, data)
            try:
                routes = _native.RouteList(text)
            except ValueError as error:
                line, reason = error.args
                raise AddressError(f"{where(line)}: {reason}") from None
            classes = [self._classes_of(word, via, family, where) for word in routes.words()]
            loaded, covers = self._table.extend(routes, classes)
            if covers:
                self._register.routing.changed()
            return loaded

    def _load_image(self, where: Callable[[int], str], data: bytes, via: Via | None, family: int | None) -> int | None:
        """Has the whole table lie in an image, where the LAN uses images and nothing lies outside so far.

        Returns what :meth:`load` does; ``None`` where the list is not for images.
        """
        images = self._register.images
        if len(data) < _MANY or via is None or len(self._table) or not images.may_use("routes"):
            return None
        from .images import Recipe

        classes = self._classes(via)
        if family:
            classes = (classes[0], 0) if family == 4 else (0, classes[1])
        # The routers' prefixes are in the same table, so they have to be there first.
        self._register.routing.settle()
        # As it lies there: a gzipped file is not even unpacked where it was seen before.
        recipe = Recipe(f"routes of {Path(where(0)).name}" if where(0) else "routes")
        recipe.add("file", data).add("classes", classes).add("own", self._table.own())

        def build() -> Callable[[int], object]:
            words = self._draft(_plain(where, data), classes, family)
            return lambda fd: _native.image_write(fd, recipe.key, recipe.label, [("routes", words)])

        loaded = -1

        def adopt(_: _native.Base, fd: int, at: int, words: int) -> None:
            nonlocal loaded
            self._table.adopt(fd, at, words)
            loaded = self._table.taken()

        def publish() -> None:
            nonlocal loaded
            loaded, _ = self._table.extend(_native.RouteList(_plain(where, data)), [classes])

        try:
            images.use("routes", recipe, build, adopt, publish)
        except _Unfit:
            return None
        if any(self._table.covering(prefix) for prefix, _ in self._table.own()):
            self._register.routing.changed()
        return loaded

    def _draft(self, text: bytes, classes: tuple[int, int], family: int | None) -> bytes:
        """The words of a table of this text; it is not for images if it is wrong, or names other next hops."""
        try:
            routes = _native.RouteList(text)
        except ValueError:
            raise _Unfit from None
        words = routes.words()
        needed = zip((4, 6), words[0][1:], classes, strict=True)
        if len(words) > 1 or any(line and not number and family in (None, version) for version, line, number in needed):
            raise _Unfit
        return self._table.draft(routes, [classes])

    # Questions

    def look_up(self, address: str) -> Match | None:
        """Returns what senders find for an address; ``None`` where no route leads.

        Raises:
            AddressError: it is no address.
        """
        wanted = parse_address(address)
        with self._register.lock:
            found = self._table.look_up(str(wanted))
            if found is None:
                return None
            number, prefix, own = found
            known = self._register.routing.model.classes[number]
            if known is None:
                return None
            kind, via = _told(known)
            return Match(prefix, kind if own else "outside", via)

    def get(self, prefix: str) -> str | None:
        """Returns what exactly this prefix lies behind; ``None`` where nothing was said of it.

        Raises:
            AddressError: it is no prefix.
        """
        number = self._table.get(str(parse_prefix(prefix)))
        return self._via(number) if number else None

    def __contains__(self, prefix: object) -> bool:
        return isinstance(prefix, str) and self.get(prefix) is not None

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[OutsideRoute]:
        after: str | None = None
        while page := self._table.page(after, _PAGE):
            for prefix, number in page:
                yield OutsideRoute(prefix, self._via(number))
            after = page[-1][0]

    def dump(self, file: str | os.PathLike[str] | IO[str]) -> int:
        """Writes all routes as :meth:`load` reads them.

        Arguments:
            file: a path, gzipped if it ends in ``.gz``; or a text file that is open.

        Returns:
            How many there are.
        """
        with contextlib.ExitStack() as stack:
            if not isinstance(file, (str, os.PathLike)):
                out = file
            elif os.fspath(file).endswith(".gz"):
                out = stack.enter_context(gzip.open(file, "wt", compresslevel=6, encoding="ascii"))
            else:
                out = stack.enter_context(open(file, "w", encoding="ascii"))
            written = 0
            for route in self:
                out.write(f"{route.prefix} {route.via}\n")
                written += 1
            return written

    def __repr__(self) -> str:
        return f"<Routes of {len(self):,} prefixes>"

    # What they mean

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        with self._register.lock:
            if self._register.closed:
                raise LanClosed("this LAN has been closed")
            yield

    def _classes(self, via: Via) -> tuple[int, int]:
        """The classes of IPv4 and of IPv6 prefixes behind ``via``; 0 for a family in which it has no address."""
        model = self._register.routing.model
        found = [0, 0]
        for name in _each(via):
            for version, step in self._steps(name):
                if step not in model.by_step:
                    model.behind(step)
                    self._register.routing.changed()
                number = model.behind(step).number
                if not found[version == 6]:
                    found[version == 6] = number
                    self._named.setdefault(name, set()).add(number)
        return found[0], found[1]

    def _steps(self, via: str) -> list[tuple[int, Behind | Refusal]]:
        """What a word says of each family."""
        if via in REFUSALS:
            return [(version, Refusal(via)) for version in (4, 6)]
        register = self._register
        if via in register.routing.routers:
            raise AddressError(
                f"nothing lies behind router {via!r}: routers of the LAN know what they know; expected a guest's NIC, "
                f"or give the router a static route with add_route()"
            )
        entry = register.nics.get(via)
        if entry is None:
            try:
                return [self._behind(parse_address(via))]
            except AddressError as error:
                if via in register.nodes:
                    nics = ", ".join(repr(name) for name in register.nics if name.startswith(f"{via}."))
                    raise AddressError(f"{via!r} has several NICs, {nics}; expected one of them") from None
                if _is_address(via):
                    raise
                words = ", ".join(repr(word) for word in REFUSALS)
                raise AddressError(
                    f"{via!r} is nothing that prefixes can lie behind: expected a NIC of the LAN, an address, {words}"
                ) from error
        steps: dict[int, Behind | Refusal] = {}
        for address in entry.addresses:
            version, step = self._behind(address)
            steps.setdefault(version, step)
        if not steps:
            raise AddressError(f"NIC {via!r} has no address that prefixes could lie behind")
        return list(steps.items())

    def _behind(self, via: Address) -> tuple[int, Behind]:
        routing = self._register.routing
        owner = routing.model.owners.get(via)
        if owner is not None and not (owner.router if not isinstance(owner, RouterNode) else owner).guest:
            raise AddressError(f"nothing lies behind {via}: it is a router of the LAN itself")
        return via.version, Behind(routing.network_of(via), via)

    def _classes_of(
        self, word: tuple[str, int, int], via: Via | None, family: int | None, where: Callable[[int], str]
    ) -> tuple[int, int]:
        """The classes of a word of a list; 0 for what the list has not, or what is not wanted of it."""
        text, *lines = word
        lines = [0 if family and family != version else line for version, line in zip((4, 6), lines, strict=True)]
        if not any(lines):
            return 0, 0
        first = min(line for line in lines if line)
        if not text and via is None:
            raise AddressError(f"{where(first)}: it does not say what the prefix lies behind, and no `via` does")
        said = text or (via or "")
        try:
            classes = self._classes(said)
        except AddressError as error:
            raise AddressError(f"{where(first)}: {error}" if text else str(error)) from None
        for version, line, number in zip((4, 6), lines, classes, strict=True):
            if line and not number:
                raise AddressError(
                    f"{where(line)}: the prefix is IPv{version}, and {_shown(said)} has no address of that family"
                )
        return (classes[0] if lines[0] else 0), (classes[1] if lines[1] else 0)

    def _covering(self, prefix: Prefix) -> tuple[int, int] | None:
        return self._table.covering(str(prefix))

    def _via(self, number: int) -> str:
        known = self._register.routing.model.classes[number]
        return "" if known is None else _told(known)[1]

    def _owner(self, prefix: Prefix) -> str:
        kind, name = _told(self._register.routing.model.by_prefix[prefix])
        return f"an address of router {name!r}" if kind == "router" else f"{kind} {name!r}"


class _Unfit(Exception):
    """A list is not kept in an image."""


def _told(known: Class) -> tuple[str, str]:
    """What a class is of, and its name."""
    origin = known.origin
    if isinstance(origin, Behind):
        return "outside", str(origin.via)
    if isinstance(origin, Refusal):
        return "outside", origin.word
    if isinstance(origin, Network):
        return "network", origin.name
    if isinstance(origin, Wire):
        return "link", origin.name
    if isinstance(origin, RouterNode):
        return "router", origin.name
    return "static", ""


def _each(via: Via) -> tuple[str, ...]:
    return (via,) if isinstance(via, str) else tuple(via)


def _shown(via: Via) -> str:
    return " and ".join(repr(name) for name in _each(via))


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except AddressError:
        return False
    return True


def _read(source: Source) -> tuple[Callable[[int], str], bytes]:
    """The text of a source, perhaps gzipped, and how its lines are told; 0 for the whole."""
    if not isinstance(source, (str, os.PathLike)):
        lines = []
        for each in source:
            if isinstance(each, OutsideRoute):
                each = (each.prefix, each.via)
            parts = (each,) if isinstance(each, str) else tuple(each)
            if not all(isinstance(part, str) for part in parts):
                raise TypeError(f"a prefix is a string, alone or with what it lies behind, not {each!r}")
            # One line each, whatever it holds.
            lines.append(" ".join(" ".join(part.split()) for part in parts))
        return lambda line: f"prefix {line}" if line else "", "\n".join(lines).encode()
    name = os.fspath(source)
    with open(name, "rb") as file:
        data = file.read()
    return lambda line: f"{name}, line {line}" if line else name, data


def _plain(where: Callable[[int], str], data: bytes) -> bytes:
    """The text of what was read."""
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise AddressError(f"{where(0)}: the compressed file is damaged: {error}") from None
