"""What tests of calls share: an interface of many types, and a caller and a service over a pipe without a LAN."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict

import msgspec

import vnet
from vnet import pipes
from vnet.rpc import Limits, current_call, interface_of, raises
from vnet.rpc.caller import Caller
from vnet.rpc.channel import Channel
from vnet.rpc.links import PipeLink, pipe_size
from vnet.rpc.service import Service


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: float


@dataclasses.dataclass
class Person:
    name: str
    born: datetime.date | None = None


class Options(TypedDict, total=False):
    depth: int
    quiet: bool


class Pair(NamedTuple):
    left: int
    right: str


class NoSuchBlock(Exception):
    """Bears more than its message."""

    def __init__(self, block: int, where: str = "here") -> None:
        super().__init__(f"no block {block} {where}")
        self.block = block


class Unknown(Exception):
    """No interface declares it."""


class Store(Protocol):
    """A block store."""

    def read(self, block: int, *, fresh: bool = False) -> bytes:
        """Reads a block."""

    def write(self, block: int, data: bytes) -> None: ...

    @raises(NoSuchBlock)
    def fail(self, how: str) -> None: ...

    def wait(self, seconds: float) -> bool:
        """Waits, and says whether the caller gave up meanwhile."""

    def count(self, to: int, size: int = 0) -> Iterator[bytes]: ...

    def echo(self, value: Any) -> Any: ...

    def points(self, points: list[Point], at: tuple[int, str] = (0, "")) -> int: ...

    def who(self) -> str | None: ...


class Ram:
    """Keeps what was asked of it, so that tests can see that nothing was."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.given_up = threading.Event()
        self.closed = threading.Event()
        self.made = 0

    def read(self, block: int, *, fresh: bool = False) -> bytes:
        self.asked.append(("read", block, fresh))
        return bytes([block % 256]) * 4

    def write(self, block: int, data: bytes) -> None:
        self.asked.append(("write", block, data))

    def fail(self, how: str) -> None:
        self.asked.append(("fail", how))
        if how == "declared":
            raise NoSuchBlock(7, "at all")
        if how == "unknown":
            raise Unknown("hm", 3)
        if how == "file":
            os.stat("/nonexistent/file")
        if how == "vnet":
            raise vnet.RegionNotFound("no region 12")
        if how == "key":
            raise KeyError("block", 3)
        if how == "odd":
            raise ValueError(object())
        if how == "stop":
            raise StopIteration("now")
        if how == "exit":
            raise SystemExit(3)
        if how == "wrong":
            return 5  # type: ignore[return-value]
        return None

    def wait(self, seconds: float) -> bool:
        self.asked.append(("wait", seconds))
        given_up = current_call().wait_cancelled(seconds)
        if given_up:
            self.given_up.set()
        return given_up

    def count(self, to: int, size: int = 0) -> Iterator[bytes]:
        try:
            for number in range(to):
                self.made += 1
                yield number.to_bytes(8, "big") + bytes(size)
        finally:
            self.closed.set()

    def echo(self, value: Any) -> Any:
        self.asked.append(("echo", value))
        return value

    def points(self, points: list[Point], at: tuple[int, str] = (0, "")) -> int:
        self.asked.append(("points", points, at))
        return len(points)

    def who(self) -> str | None:
        return current_call().guest


class Everything(Protocol):
    """One method with a parameter of each type that can be sent."""

    def take(
        self,
        whole: int,
        real: float,
        flag: bool,
        text: str,
        data: bytes,
        maybe: str | None,
        several: int | str | list[int] | None,
        moment: datetime.datetime,
        day: datetime.date,
        hour: datetime.time,
        span: datetime.timedelta,
        exact: decimal.Decimal,
        unique: uuid.UUID,
        color: Color,
        level: Level,
        choice: Literal["on", "off", 3],
        small: Annotated[int, msgspec.Meta(ge=0, le=9)],
        numbers: list[int],
        pairs: tuple[tuple[int, str], ...],
        names: frozenset[str],
        table: dict[str, list[float]],
        by_number: dict[int, Point],
        point: Point,
        tree: Tree,
        shape: Circle | Square,
        person: Person,
        options: Options,
        named: Pair,
        anything: Any,
    ) -> int: ...


@contextlib.contextmanager
def served(
    implementation: Any, interface: Any = Store, *, limits: Limits | None = None, **settings: Any
) -> Iterator[tuple[Service, Callable[..., Caller[Any]]]]:
    """A service without a LAN, and a function that makes callers of it."""
    service = Service("store", implementation, interface, limits=limits, **settings)
    callers: list[Caller[Any]] = []

    def call(declared: Any = interface, guest: str | None = "alice", **options: Any) -> Caller[Any]:
        taken = options.pop("limits", limits) or Limits()
        mine, theirs = pipes.pair(size=pipe_size(taken), messages=True)
        assert service.adopt(PipeLink(theirs), guest)
        link = PipeLink(mine)
        try:
            channel = Channel(link, interface_of(declared), "'store' of 'host'", taken, 10.0)
        except BaseException:
            link.close()
            raise
        callers.append(Caller(channel, options.pop("timeout", None), lambda handle: handle))
        return callers[-1]

    try:
        yield service, call
    finally:
        for each in callers:
            each.close()
        assert service.close(1.0)
