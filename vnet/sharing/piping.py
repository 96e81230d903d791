"""Pipes, as guests listen for them and make them; :mod:`vnet.pipes` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..pipes import Listener, Pipe
    from .guest import Sharing

__all__ = ["Piping"]


class Piping:
    """Streams between guests."""

    def listen(
        self,
        service: str,
        *,
        backlog: int = 16,
        guests: Sequence[str] | None = None,
        messages: bool | None = None,
        longest: int = 1 << 28,
    ) -> Listener:
        """Listens for those who connect to a service of this guest.

        Arguments:
            service: its name, such as ``"disk"``: letters, digits, ``.``, ``_`` and ``-``.
            backlog: how many may wait to be accepted, 1 to 128; others get :class:`vnet.ServiceBusy`.
            guests: names of those who may connect; ``None`` for all.  The operator, who can do all else, may always.
            messages: whether it takes pipes of messages only, or of bytes only; ``None`` for either.
            longest: bytes of the longest message that this end sends or takes; 256 MiB unless given.

        Raises:
            NameTaken: the guest listens for it already.
            NotPermitted: the lab keeps the name for another guest.
            NicClosed, LanClosed, ForkedNic: the guest cannot be used.
            TypeError, ValueError: an argument is wrong.
        """
        from .. import pipes

        about: dict[str, Any] = {"backlog": backlog, "guests": guests, "messages": messages, "longest": longest}
        return pipes.listen(cast("Sharing", self), service, **about)

    def connect(
        self,
        guest: str,
        service: str,
        *,
        timeout: float | None = None,
        messages: bool = False,
        size: int = 1 << 20,
        longest: int = 1 << 28,
    ) -> Pipe:
        """Connects to a service of another guest.

        It does not wait until the other accepts: what is written before waits for him.

        Arguments:
            guest: the name of the guest that listens; a guest may connect to itself.
            service: the service's name.
            timeout: seconds to go on trying while the service is not there, or has no room; ``None`` to try once.
            messages: have the pipe keep the boundaries of what is written.
            size: bytes that may wait in each direction, 4 KiB to 1 GiB; memory is taken as they are used.
            longest: bytes of the longest message that this end sends or takes; 256 MiB unless given.

        Raises:
            ServiceNotFound: the guest does not listen for it, or there is no such guest.
            ServiceGone: it did, and has ended.
            ServiceBusy: too many wait to be accepted.
            NotPermitted: the service does not let this guest in.
            NicClosed, LanClosed, ForkedNic: the guest cannot be used.
            TypeError, ValueError: the service takes the other kind of pipes, or an argument is wrong.
        """
        from .. import pipes

        about: dict[str, Any] = {"timeout": timeout, "messages": messages, "size": size, "longest": longest}
        return pipes.connect(cast("Sharing", self), guest, service, **about)
