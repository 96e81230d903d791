"""Filters in tcpdump's language, for raw IP.

libpcap compiles an expression into a program of classic BPF; the program runs in this package's own machine, which
checks it as the kernel does.  So libpcap is needed where a filter is written, and nowhere else.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import re
from collections.abc import Mapping, Sequence

from . import _native
from .errors import MachineLacks

__all__ = ["FilterError", "compile_filter", "runner", "with_addresses"]

# DLT_RAW on Linux: the packet begins with an IPv4 or IPv6 header. (LINKTYPE_RAW, 101, is what files bear.)
_DLT_RAW = 12
# What a program returns for a packet that it wants: as many bytes as there can be.
_SNAP_LENGTH = 262_144
# A network mask that nobody knows: PCAP_NETMASK_UNKNOWN.
_NO_MASK = 0xFFFFFFFF
# struct bpf_insn.
_INSTRUCTION_BYTES = 8


class FilterError(ValueError):
    """A filter does not compile, in libpcap's words."""


class _Program(ctypes.Structure):
    """struct bpf_program."""

    _fields_ = (("count", ctypes.c_uint), ("instructions", ctypes.c_void_p))


_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*|&&|\|\||\S")
_QUALIFIERS = ("host", "src", "dst")
_OPERATORS = ("or", "and", "||", "&&")
# What may follow an operator and is no host, whatever a NIC is called.
_OTHERS = frozenset(
    [
        "arp",
        "broadcast",
        "gateway",
        "greater",
        "icmp",
        "icmp6",
        "ip",
        "ip6",
        "len",
        "less",
        "multicast",
        "net",
        "not",
        "port",
        "portrange",
        "proto",
        "protochain",
        "sctp",
        "tcp",
        "udp",
    ]
)


def with_addresses(expression: str, names: Mapping[str, Sequence[str]]) -> str:
    """Puts the addresses of NICs for their names, where a filter speaks of hosts: ``host alice``, ``src alice or bob``.

    >>> with_addresses("src alice or bob and port 53", {"alice": ["10.0.0.1", "fd00::1"], "bob": ["10.0.0.2"]})
    'src (10.0.0.1 or fd00::1) or src 10.0.0.2 and port 53'
    """
    made, end = "", 0
    # The words that say what the next host is to be, and what stood last: such words, a host or an operator behind one.
    saying, stood = "", ""
    for found in _WORD.finditer(expression):
        word = found[0]
        made += expression[end : found.start()]
        end = found.end()
        listed = stood == "operator" and word not in _QUALIFIERS and word not in _OTHERS
        if word in _QUALIFIERS or (stood == "saying" and word in _OPERATORS):
            saying = f"{saying} {word}" if stood == "saying" else word
            stood = "saying"
        elif stood == "saying" or listed:
            stood = "host"
            if addresses := names.get(word):
                said = f"({' or '.join(addresses)})" if len(addresses) > 1 else addresses[0]
                # In a list, parentheses would hide from libpcap what the hosts before were to be.
                word = f"{saying} {said}" if listed else said
        else:
            stood = "operator" if stood == "host" and word in _OPERATORS else ""
        made += word
    return made + expression[end:]


def compile_filter(expression: str, names: Mapping[str, Sequence[str]] | None = None) -> bytes:
    """Compiles an expression of pcap-filter(7) for raw IP.

    Arguments:
        expression: the filter.
        names: NICs and their addresses; see :func:`with_addresses`.  Other names of hosts, and those of services, are
            looked up as tcpdump does.

    Returns:
        The program, ``struct bpf_insn``s one after the other; :class:`vnet._native.Filter` runs it.

    Raises:
        FilterError: the expression is wrong, or about what raw IP has not, such as ``ether`` or ``arp``.
        MachineLacks: there is no libpcap.
    """
    if "\0" in expression:
        raise FilterError("the filter has a zero byte in it")
    resolved = with_addresses(expression, names) if names else expression
    library = _library()
    handle = library.pcap_open_dead(_DLT_RAW, _SNAP_LENGTH)
    if not handle:
        raise MemoryError("libpcap has no memory for a filter")
    program = _Program()
    try:
        if library.pcap_compile(handle, ctypes.byref(program), resolved.encode(), 1, _NO_MASK) != 0:
            words = library.pcap_geterr(handle).decode(errors="replace")
            raise FilterError(f"the filter {expression!r} does not compile: {' '.join(words.split())}")
        try:
            code = ctypes.string_at(program.instructions, program.count * _INSTRUCTION_BYTES)
        finally:
            library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)
    return code


@functools.cache
def _library() -> ctypes.CDLL:
    # By its own name first: looking it up takes a linker, or a compiler.
    for name in ("libpcap.so.0.8", "libpcap.so.1"):
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        found = ctypes.util.find_library("pcap")
        if found is None:
            raise MachineLacks("a filter needs libpcap: apt-get install libpcap0.8")
        library = ctypes.CDLL(found)
    library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_compile.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Program),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint32,
    ]
    library.pcap_compile.restype = ctypes.c_int
    library.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
    library.pcap_freecode.restype = None
    library.pcap_geterr.argtypes = [ctypes.c_void_p]
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_close.argtypes = [ctypes.c_void_p]
    library.pcap_close.restype = None
    return library


def runner(expression: str) -> _native.Filter:
    """Returns a filter that runs on datagrams; errors as of :func:`compile_filter`."""
    return _native.Filter(compile_filter(expression))
