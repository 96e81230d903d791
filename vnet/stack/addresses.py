"""Socket addresses: what programs write, what the native stack takes, and the errors in between."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

__all__ = [
    "ANY",
    "error",
    "family_of",
    "gai_error",
    "is_literal",
    "literal",
    "native_host",
    "port_numbers",
    "shown",
    "split",
]

# "All addresses of this family", as a program writes it.
ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


def error(number: int, message: str | None = None) -> OSError:
    """Returns the error of this errno, of the class that Python has for it."""
    return OSError(number, message or os.strerror(number))


def gai_error(number: int, message: str) -> socket.gaierror:
    """Returns the error of a name that stands for no address."""
    return socket.gaierror(number, message)


def literal(host: str) -> str | None:
    """Returns the IP address that ``host`` is, in its usual form, or ``None`` for a name.

    Brackets around an IPv6 address, as in URLs, are taken off.
    """
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        address = ip_address(host)
        inner = address.ipv4_mapped if address.version == 6 else None
        return str(address) if inner is None else f"::ffff:{inner}"
    except ValueError:
        return None


def is_literal(host: object) -> bool:
    """Whether looking ``host`` up takes nothing but reading it."""
    return host in (None, "", b"") or (isinstance(host, str) and literal(host) is not None)


def family_of(address: str) -> socket.AddressFamily:
    """Returns the family of an address that is one."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def split(address: Any, family: int, verb: str) -> tuple[str, int]:
    """Returns host and port of a socket address, checked as the socket module checks them.

    Raises:
        TypeError: it is no tuple of host and port.
        OverflowError: the port is not 0 to 65,535.
    """
    if not isinstance(address, tuple):
        raise TypeError(f"{verb}(): a socket address is a tuple (host, port), not {type(address).__name__}")
    most = 4 if family == socket.AF_INET6 else 2
    if not 2 <= len(address) <= most:
        raise TypeError(f"{verb}(): a socket address is a tuple (host, port), not one of {len(address)}")
    host, port = address[0], address[1]
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"{verb}(): a host is text, not {type(host).__name__}")
    if not isinstance(port, int):
        raise TypeError(f"{verb}(): a port is a number, not {type(port).__name__}")
    if not 0 <= port <= 65_535:
        raise OverflowError(f"{verb}(): port must be 0-65535.")
    return host, port


def shown(address: tuple[str, int], family: int) -> tuple[Any, ...]:
    """Returns a native address as the socket module shows one of this family: IPv6 with flow and scope."""
    host, port = address
    if family != socket.AF_INET6:
        return host, port
    # IPv4 at an IPv6 socket is IPv4-mapped: RFC 4291 section 2.5.5.2, RFC 3493 section 3.7.
    return host if ":" in host else f"::ffff:{host}", port, 0, 0


def port_numbers(port: object, protocols: Sequence[int]) -> dict[int, int]:
    """Returns a port's number by protocol.  A service's name may have one for some of the protocols only.

    Raises:
        socket.gaierror: no service has that name.
        OverflowError: the number is not 0 to 65,535.
    """
    if port is None:
        port = 0
    if isinstance(port, (bytes, bytearray)):
        port = port.decode("ascii")
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    if isinstance(port, str):
        numbers = {}
        for protocol in protocols:
            with contextlib.suppress(OSError):
                numbers[protocol] = socket.getservbyname(port, "tcp" if protocol == socket.IPPROTO_TCP else "udp")
        if not numbers:
            raise gai_error(socket.EAI_SERVICE, f"no service is called {port!r}; give the port's number")
        return numbers
    if not isinstance(port, int):
        raise gai_error(socket.EAI_SERVICE, f"a port is a number or a service's name, not {port!r}")
    if not 0 <= port <= 65_535:
        raise OverflowError("getaddrinfo(): port must be 0-65535.")
    return dict.fromkeys(protocols, port)


def native_host(address: str, family: int) -> str:
    """Returns an address as the native stack takes it from a socket of this family: IPv4-mapped ones as IPv4.

    Raises:
        socket.gaierror: ``EAI_ADDRFAMILY``: it is not one of that family.
    """
    if family_of(address) != family:
        kind = "an IPv6" if family == socket.AF_INET6 else "an IPv4"
        raise gai_error(socket.EAI_ADDRFAMILY, f"{address} is no address for {kind} socket")
    return address.removeprefix("::ffff:") if "." in address else address
