"""``vnet bench``: what this LAN does on this machine, each figure beside its reference, interleaved in one run.

=================  =============================================================  ===============================
name               what                                                           reference
=================  =============================================================  ===============================
stream_64B         64-byte datagrams, process to process, batches of 32           bare single-producer ring
stream_1500B       the same with 1,500 bytes                                      bare single-producer ring
stream_…_captured  both of them while a capture writes all into memory            the same, not captured
stream_64B_routed  the first of them across eight routers in a row                 the same on one network
roundtrip_spin     there and back, both sides polling                             cache-line ping-pong
roundtrip_sleep    there and back, both sides sleeping                            futex ping-pong
python_single      from Python, one call a datagram                               Unix datagram socket
python_many        from Python, ``send_many`` and ``recv_many``                   Unix datagram socket
=================  =============================================================  ===============================

Two processes, each pinned to a processor of its own, do the two halves of every measurement.  Machines are noisy and
virtual processors move about: the distance between the two (a cache-line round trip) is measured before and after each
pair of ours and reference, a pair between which it changed is left out, and ratios are medians over the pairs.
"""

from __future__ import annotations

from .report import run_cli
from .routes import run_routes

__all__ = ["run_cli", "run_routes"]
