"""Between scapy's packets and the LAN's datagrams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from scapy.base_classes import Gen, SetGen
from scapy.config import conf
from scapy.data import ETH_P_IP, ETH_P_IPV6
from scapy.error import Scapy_Exception
from scapy.packet import NoPayload, Packet, Padding

__all__ = ["Completed", "can_fragment", "complete", "layer_of"]

_DONT_FRAGMENT = 0x40


def layer_of(datagram: bytes) -> Any:
    """Returns the class that dissects a datagram."""
    version = datagram[0] >> 4 if datagram else 0
    number = {4: ETH_P_IP, 6: ETH_P_IPV6}.get(version)
    return conf.l3types.num2layer.get(number, conf.raw_layer)


def complete(packet: Any, sources: Mapping[int, str], *, copy: bool) -> Any:
    """Returns what of a packet travels on a LAN, with the sources that were left to scapy.

    A link-layer header is left off, and the padding behind its frame.  Every IP header without a source gets one here,
    because scapy would look for it in the machine's routes; a source that is there stays, spoofed or not.

    Arguments:
        packet: a packet, or anything that has bytes.
        sources: the NIC's address for each IP version.
        copy: leave ``packet`` itself as it is.

    Raises:
        Scapy_Exception: the packet is ARP, or a frame with something else than IP in it.
    """
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    if not isinstance(packet, Packet):
        return packet
    datagram = _unframed(packet, (IP, IPv6))
    if datagram is not packet or (copy and any(_sourceless(datagram, (IP, IPv6)))):
        framed, datagram = datagram is not packet, datagram.copy()
        datagram.underlayer = None
        if framed:
            _remove_padding(datagram)
    for header in _sourceless(datagram, (IP, IPv6)):
        header.src = sources[6 if isinstance(header, IPv6) else 4]
    return datagram


def _unframed(packet: Any, ip: tuple[Any, ...]) -> Any:
    """The datagram in a frame; or the packet itself, where it is none."""
    datagram = packet
    while type(datagram) in conf.l2types.layer2num and not isinstance(datagram, ip):
        says_ip = getattr(datagram, "type", None) in (ETH_P_IP, ETH_P_IPV6)
        datagram = datagram.payload
        if isinstance(datagram, NoPayload) or not (says_ip or isinstance(datagram, ip)):
            break
    else:
        if isinstance(datagram, ip) or type(datagram) not in conf.l3types.layer2num:
            return datagram
    raise Scapy_Exception(f"a vnet LAN carries IP, not {'/'.join(each.__name__ for each in packet.layers())}")


def _sourceless(datagram: Any, ip: tuple[Any, ...]) -> Iterator[Any]:
    for layer in datagram.iterpayloads():
        if isinstance(layer, ip) and layer.getfieldval("src") is None:
            yield layer


def _remove_padding(datagram: Any) -> None:
    for layer in datagram.iterpayloads():
        if isinstance(layer.payload, Padding):
            layer.remove_payload()
            return


def can_fragment(datagram: Any) -> bool:
    """Whether scapy can cut a packet into fragments, which takes IPv4, and it does not say DF."""
    from scapy.layers.inet import IP

    return isinstance(datagram, IP) and not bytes(datagram)[6] & _DONT_FRAGMENT


class Completed:
    """The packets of a scapy question, each as :func:`complete` makes it.

    scapy takes down what it asks before it sends, to know the answers; so it has to be given the finished packets.
    """

    def __init__(self, question: Any, sources: Mapping[int, str]) -> None:
        self._question = question
        # A flood makes its packets itself, and lists are not expanded otherwise.
        self._packets = question if isinstance(question, Gen) or hasattr(question, "stopevent") else SetGen(question)
        self._sources = sources
        if isinstance(question, Packet):
            # A mistake here is the caller's to see; in scapy's sending thread it would be a line in a log.
            complete(question, sources, copy=True)

    def __iter__(self) -> Iterator[Any]:
        for packet in self._packets:
            yield complete(packet, self._sources, copy=False)

    def __len__(self) -> int:
        return int(self._packets.__iterlen__())

    @property
    def sent_time(self) -> Any:
        return self._question.sent_time

    @sent_time.setter
    def sent_time(self, when: Any) -> None:
        with contextlib.suppress(AttributeError):
            self._question.sent_time = when
