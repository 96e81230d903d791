"""Default gateways: which NIC leads a guest out of its network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from ..errors import AddressError, AddressOutside
from ..network import Address, Network, parse_address

if TYPE_CHECKING:
    from ..register import Entry
    from .model import Model

__all__ = ["AUTOMATIC", "NONE", "Gateway", "Gateways", "Wish", "check_wish", "parse_wish"]

Gateway: TypeAlias = str | Sequence[str] | Literal[False] | None
"""What ``gateway=`` takes: an address or one of each family; ``None`` for the first router; ``False`` for none."""


@dataclass(frozen=True)
class Wish:
    """What gateway a guest asked for: whichever router there is, or those at ``addresses``, or none."""

    automatic: bool
    addresses: tuple[Address, ...] = ()


AUTOMATIC = Wish(True)
NONE = Wish(False)


class _Base(Protocol):
    def set_gateways(self, slot: int, generation: int, v4: int, v6: int) -> bool: ...


def parse_wish(network: Network, gateway: Gateway) -> Wish:
    """Returns what ``gateway`` asks for on ``network``.

    Raises:
        AddressError: one is not an address, or two are of one family.
        AddressOutside: nobody on the network can have it.
    """
    if gateway is None:
        return AUTOMATIC
    if gateway is False:
        return NONE
    if not isinstance(gateway, str | Sequence):
        raise TypeError(
            f"gateway is an address, None for the network's first router, or False for none; not {gateway!r}"
        )
    found = [parse_address(text) for text in ([gateway] if isinstance(gateway, str) else gateway)]
    for address in found:
        six = any(prefix.version == 6 for prefix in network.prefixes)
        if network.prefix_of(address) is None and not (six and address.version == 6 and address.is_link_local):
            own = " and ".join(map(str, network.prefixes))
            raise AddressOutside(f"the gateway {address} is outside network {network.name!r} ({own})")
    if len({address.version for address in found}) < len(found):
        raise AddressError(f"there is one default gateway for each family: {', '.join(map(str, found))}")
    return Wish(False, tuple(sorted(found, key=lambda address: address.version)))


def check_wish(network: Network, wish: Wish, own: Sequence[Address], *, somebody: bool) -> None:
    """Refuses a gateway that is the NIC itself or, with ``somebody``, nobody's address.

    Raises:
        AddressError: one is.
    """
    for address in wish.addresses:
        if address in own:
            raise AddressError(f"the gateway {address} is an address of the NIC itself")
        if somebody and network.owner(address) is None:
            raise AddressError(
                f"the gateway {address} is nobody's address on network {network.name!r}: plug in the router or the "
                "guest that has it first"
            )


class Gateways:
    """The default gateways of all guests, kept up to date as routers come and go.

    Called with the register's lock held.
    """

    def __init__(self, base: _Base, model: Model, find: Callable[[str], Entry | None]) -> None:
        self._base = base
        self._model = model
        self._find = find
        self._guests: dict[Network, dict[Entry, Wish]] = {}
        # Who asked for an address, whoever has it.
        self._asking: dict[tuple[Network, Address], dict[Entry, None]] = {}
        # What has to be told, because the guest's own stack decides.
        self._followers: dict[Entry, Callable[[], None]] = {}
        # Those of them that have not been told yet.
        self.untold: dict[Callable[[], None], None] = {}

    def wish(self, entry: Entry) -> Wish:
        """What a guest asked for."""
        return self._guests.get(entry.network, {}).get(entry, NONE)

    def set(self, entry: Entry, wish: Wish) -> None:
        """Gives a guest the gateways that it wishes."""
        self._forget(entry)
        if wish != NONE:
            self._guests.setdefault(entry.network, {})[entry] = wish
            for address in wish.addresses:
                self._asking.setdefault((entry.network, address), {})[entry] = None
        self._renew(entry)

    def follow(self, entry: Entry, told: Callable[[], None]) -> None:
        """Has ``told`` called when ``entry.gateways`` has changed, with the other changes of a batch."""
        self._followers[entry] = told

    def came(self, entry: Entry) -> None:
        """A NIC came, whose address guests may have asked for."""
        if self._asking:
            for address in entry.addresses:
                for asking in list(self._asking.get((entry.network, address), ())):
                    self._renew(asking)

    def left(self, entry: Entry) -> None:
        """A NIC left."""
        self._followers.pop(entry, None)
        self._forget(entry)
        entry.gateways, entry.gateway_slots = (), (0, 0)
        # The base has forgotten it as a gateway already; here it is about who comes in its place.
        self.came(entry)

    def routers_changed(self, network: Network) -> None:
        """A router came to a network or left it: the first one may be another."""
        for entry, wish in list(self._guests.get(network, {}).items()):
            if wish.automatic:
                self._renew(entry)

    def _forget(self, entry: Entry) -> None:
        guests = self._guests.get(entry.network, {})
        wish = guests.pop(entry, None)
        if wish is None:
            return
        if not guests:
            del self._guests[entry.network]
        for address in wish.addresses:
            asking = self._asking[entry.network, address]
            del asking[entry]
            if not asking:
                del self._asking[entry.network, address]

    def _renew(self, entry: Entry) -> None:
        wish = self.wish(entry)
        addresses = self._first(entry) if wish.automatic else wish.addresses
        slots = {address.version: self._slot(entry.network, address) for address in addresses}
        pair = slots.get(4, 0), slots.get(6, 0)
        if pair != entry.gateway_slots:
            entry.gateway_slots = pair
            self._base.set_gateways(entry.slot, entry.generation, *pair)
        if addresses != entry.gateways:
            entry.gateways = addresses
            told = self._followers.get(entry)
            if told is not None:
                self.untold[told] = None

    def _first(self, entry: Entry) -> tuple[Address, ...]:
        """Of each family that the guest has, the address of the first router there that has one."""
        found: list[Address] = []
        ports = self._model.on_network.get(entry.network, ())
        for version in sorted({address.version for address in entry.addresses if not address.is_link_local}):
            # A router's NICs are not gateways of one another.
            others = (port.address(version) for port in ports if port.router.name != entry.node)
            found += [address for address in others if address is not None][:1]
        return tuple(found)

    def _slot(self, network: Network, address: Address) -> int:
        owner = self._find(network.owner(address) or "")
        return 0 if owner is None else owner.slot
