"""Tells scapy of NICs, if and when scapy is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nic import Nic


def announce(nic: Nic) -> None:
    """Makes ``nic`` an interface of scapy."""
