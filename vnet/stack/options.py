"""Socket options: what programs may set and read, and what becomes of it in the stack.

Options are kept by the socket, as they can be set before there is a connection, and are handed to the native socket as
soon as there is one.  What the stack does not know is refused (``ENOPROTOOPT``) as a kernel refuses it; what it accepts
without effect makes no difference here: addresses can always be used again, and buffers have one size.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from .addresses import error

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Options"]

# Seconds of silence after which a connection with SO_KEEPALIVE is asked for a sign of life (RFC 9293 section 3.8.4).
_KEEP_IDLE = 7200
# Bytes that the stack buffers in each direction of a connection.
_BUFFER = 512 << 10


class _Rule(NamedTuple):
    """An option: its value where it was not set, and the values that it may have."""

    default: int
    least: int = 0
    most: int = 2**31 - 1


_SOL, _TCP, _IP, _IP6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6

_COMMON = {
    (_SOL, socket.SO_REUSEADDR): _Rule(0),
    (_SOL, socket.SO_REUSEPORT): _Rule(0),
    (_SOL, socket.SO_BROADCAST): _Rule(0),
    (_SOL, socket.SO_KEEPALIVE): _Rule(0),
    (_SOL, socket.SO_RCVBUF): _Rule(_BUFFER),
    (_SOL, socket.SO_SNDBUF): _Rule(_BUFFER),
    # A socket of IPv6 that is bound to no address hears IPv4, too.
    (_IP6, socket.IPV6_V6ONLY): _Rule(0, most=0),
}
_STREAM = {
    (_TCP, socket.TCP_NODELAY): _Rule(0),
    (_TCP, socket.TCP_KEEPIDLE): _Rule(_KEEP_IDLE, least=1, most=32_767),
    (_TCP, socket.TCP_KEEPINTVL): _Rule(75, least=1, most=32_767),
    (_TCP, socket.TCP_KEEPCNT): _Rule(9, least=1, most=127),
    (_TCP, socket.TCP_USER_TIMEOUT): _Rule(0),
    (_IP, socket.IP_TTL): _Rule(64, least=1, most=255),
    (_IP6, socket.IPV6_UNICAST_HOPS): _Rule(64, least=1, most=255),
}
_KEEPALIVE = {(_SOL, socket.SO_KEEPALIVE), (_TCP, socket.TCP_KEEPIDLE)}


class Options:
    """The options of one socket."""

    def __init__(self, stream: bool, like: Options | None = None) -> None:
        self._rules = {**_COMMON, **_STREAM} if stream else _COMMON
        self._values: dict[tuple[int, int], int] = {} if like is None else dict(like._values)
        self._linger: tuple[int, int] = (0, 0) if like is None else like._linger

    @property
    def resets(self) -> bool:
        """Whether close() is to reset the connection: ``SO_LINGER`` is on with no time to linger."""
        return self._linger == (1, 0) or (self._linger[0] != 0 and self._linger[1] == 0)

    def set(self, level: int, option: int, value: int | Buffer | None, length: int | None) -> tuple[int, int]:
        """Notes an option and returns which it was.

        Raises:
            OSError: ``ENOPROTOOPT`` for one that the stack does not have, ``EINVAL`` for a value that it cannot have.
        """
        which = (int(level), int(option))
        if value is None:
            raise error(errno.ENOPROTOOPT, f"option {option} of level {level} cannot be set to {length} zero bytes")
        if which == (_SOL, socket.SO_LINGER):
            if isinstance(value, int) or len(data := bytes(value)) < 8:
                raise error(errno.EINVAL, "SO_LINGER takes struct.pack('ii', on, seconds)")
            self._linger = struct.unpack("ii", data[:8])
            return which
        rule = self._rules.get(which)
        if rule is None:
            raise error(errno.ENOPROTOOPT, f"the stack has no socket option {option} of level {level}")
        number = value if isinstance(value, int) else _number(value)
        if not rule.least <= number <= rule.most:
            raise error(errno.EINVAL)
        self._values[which] = int(number)
        return which

    def get(self, level: int, option: int, length: int) -> int | bytes:
        """Returns an option, as bytes where ``length`` is given.

        Raises:
            OSError: ``ENOPROTOOPT``.
        """
        which = (int(level), int(option))
        if which == (_SOL, socket.SO_LINGER):
            return struct.pack("ii", *self._linger)[: length or 4] if length else self._linger[0]
        rule = self._rules.get(which)
        if rule is None:
            raise error(errno.ENOPROTOOPT, f"the stack has no socket option {option} of level {level}")
        return as_asked(self._values.get(which, rule.default), length)

    def apply(self, native: Any, which: tuple[int, int] | None = None) -> None:
        """Hands the options that were set, or the one that just was, to a native TCP socket."""
        changed = self._values.keys() if which is None else {which} & self._values.keys()
        for each in changed:
            value = self._values[each]
            if each == (_TCP, socket.TCP_NODELAY):
                native.set("nodelay", int(bool(value)))
            elif each == (_TCP, socket.TCP_USER_TIMEOUT):
                # Milliseconds here, seconds there; less than a second is not none.
                native.set("timeout", (value + 999) // 1000)
            elif each in ((_IP, socket.IP_TTL), (_IP6, socket.IPV6_UNICAST_HOPS)):
                native.set("ttl", value)
            elif each in _KEEPALIVE:
                idle = self._values.get((_TCP, socket.TCP_KEEPIDLE), _KEEP_IDLE)
                native.set("keepalive", idle if self._values.get((_SOL, socket.SO_KEEPALIVE)) else 0)


def as_asked(number: int, length: int) -> int | bytes:
    """Returns an option's value as ``getsockopt`` does: a number, or up to ``length`` bytes of it."""
    return struct.pack("i", number)[:length] if length else number


def _number(value: Buffer) -> int:
    data = bytes(value)
    if len(data) < 4:
        raise error(errno.EINVAL)
    return int(struct.unpack("i", data[:4])[0])
