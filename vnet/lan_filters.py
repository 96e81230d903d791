"""What a LAN offers to those who filter: the part of :class:`vnet.Lan` that is about what may pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import _native
    from .filtering import AttachedFilter
    from .filtering.keeping import Keeping
    from .hosts import Host
    from .hostside import Tap
    from .netns import Netns, Plug
    from .network import Network
    from .nic import Nic
    from .register import NicInfo, Register

__all__ = ["FilteredLan"]


class FilteredLan:
    """Filters of NICs and networks; :class:`vnet.Lan` is one."""

    _base: _native.Base
    _register: Register
    _filters: Keeping | None

    def _check(self) -> None:
        raise NotImplementedError

    @property
    def _keeping(self) -> Keeping:
        with self._register.lock:
            if self._filters is None:
                from .filtering.keeping import Keeping

                self._filters = Keeping(self._base, self._register)
            return self._filters

    @property
    def filters(self) -> tuple[AttachedFilter, ...]:
        """The filters that are set, in the order in which they came."""
        return self._keeping.all()

    def set_filter(
        self,
        where: str | Nic | NicInfo | Host | Network | Netns | Tap | Plug,
        rules: Any,
        *,
        direction: str = "in",
        default: str | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Sets what may pass a NIC or enter a network, in place of what was set there before.

        Whatever a filter holds back has the verdict ``filtered``.  The first rule that matches a datagram decides.

        Arguments:
            where: a NIC or a network, or its name.
            rules: a list of rules such as ``"deny tcp port 22"`` or ``{"reject": {"from": "10.9.0.0/16"}}``; see
                docs/filters.md.  Names in them mean the addresses that NICs and networks have now.
            direction: ``in``: what the NIC is given, or what enters the network to any of its NICs; ``out``: what the
                NIC sends.
            default: ``allow``, ``deny`` or ``reject``: what happens to datagrams that no rule matches; ``None`` for
                what ``rules`` says, or ``allow``.
            names: addresses or prefixes by name, for names in rules beside those that the LAN has.

        Raises:
            vnet.filtering.RuleError: a rule is wrong; nothing has changed.
            ValueError: there is no such NIC or network, or no such direction.
            MachineLacks: a rule is in tcpdump's language, and there is no libpcap.
        """
        self._check()
        self._keeping.set(where, rules, direction, default, names or {})

    def remove_filter(
        self, where: str | Nic | NicInfo | Host | Network | Netns | Tap | Plug, *, direction: str | None = None
    ) -> None:
        """Removes the filter of a NIC or a network, of one direction or of both.  Does nothing where none is set.

        Raises:
            ValueError: there is no such NIC or network, or no such direction.
        """
        self._check()
        self._keeping.remove(where, direction)
