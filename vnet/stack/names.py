"""Names: on a LAN, the NICs' names stand for their addresses."""

from __future__ import annotations

import difflib
import socket
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from .addresses import gai_error, literal

if TYPE_CHECKING:
    from ..nic import Nic

__all__ = ["Names"]


class _Book(NamedTuple):
    """What the base says of its LAN: addresses by NIC, and all prefixes."""

    addresses: dict[str, tuple[str, ...]]
    prefixes: tuple[str, ...]


class Names:
    """Looks names up for the stack of one NIC.  Nothing is kept: NICs come and go, and the base is asked each time."""

    def __init__(self, nic: Nic) -> None:
        self._nic = nic

    def addresses(self, host: str) -> tuple[str, ...]:
        """Returns the addresses that ``host`` stands for: its own if it is one, or those of the NIC of that name.

        ``localhost`` is the NIC itself.  Names are looked up as they are written and then without regard to case,
        because some libraries write host names in small letters.

        Raises:
            socket.gaierror: no NIC has the name.
            LanClosed: the base has ended.
        """
        address = literal(host)
        if address is not None:
            return (address,)
        if host.lower() in ("localhost", self._nic.name.lower()):
            return self._nic.addresses
        known = self._book().addresses
        found = known.get(host)
        if found is None:
            alike = [name for name in known if name.lower() == host.lower()]
            if len(alike) != 1:
                raise _unknown(host, list(known), self._nic.lan)
            found = known[alike[0]]
        return found

    def with_bits(self) -> list[tuple[str, int]]:
        """Returns the NIC's own addresses, each with the length of its network's prefix in bits."""
        prefixes = [ip_network(prefix) for prefix in self._book().prefixes]
        found = []
        for text in self._nic.addresses:
            own = ip_address(text)
            bits = [prefix.prefixlen for prefix in prefixes if own.version == prefix.version and own in prefix]
            found.append((text, max(bits, default=own.max_prefixlen)))
        return found

    def _book(self) -> _Book:
        from ..ending import living

        # What makes the NIC unusable is a better answer than that nobody serves this LAN.
        self._nic.check()
        for lan in living():
            # A LAN of this process needs no asking; one without a name could not be asked.
            if not lan.closed and lan._segment.files() == self._nic.segment.files():
                return _Book(
                    {name: info.addresses for name, info in lan.nics.items()},
                    tuple(str(prefix) for network in lan.networks.values() for prefix in network.prefixes),
                )
        from ..control import describe

        about = describe(self._nic.lan or "")
        return _Book(
            {str(nic["name"]): tuple(map(str, nic["addresses"])) for nic in about["nics"]},
            tuple(str(prefix) for network in about["networks"] for prefix in network["prefixes"]),
        )


def _unknown(host: str, known: Sequence[str], lan: str | None) -> socket.gaierror:
    where = f"of LAN {lan!r}" if lan else "of this LAN"
    close = difflib.get_close_matches(host, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    if "." in host and not close:
        hint = "; the LAN's names are its NICs' names, and no DNS is asked"
    return gai_error(socket.EAI_NONAME, f"no NIC {where} is called {host!r}{hint}")
