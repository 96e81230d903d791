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
tcp_…              a TCP stream between two stacks                                TCP on loopback
pipe_64KiB…        a pipe, 64 KiB at a time; ``_python``: from Python             Unix stream socket; a copying ring
pipe_roundtrip…    64 bytes through a pipe and back                               Unix stream socket
queue_posts        from Python, ``post_many`` to a dispatcher that is busy        Unix datagram socket
queue_wake         a post to a dispatcher that is idle, and one back              futex ping-pong
call_100B          a call with 100 bytes                                          gRPC over a Unix socket
call_region        a call with a region of 1 MiB                                  one without an argument
region_1GiB        a region made, and attached in the other process               bare memory file
=================  =============================================================  ===============================

Two processes, each pinned to a processor of its own, do the two halves of every measurement.  Machines are noisy and
virtual processors move about: the distance between the two (a cache-line round trip) is measured before and after each
pair of ours and reference, a pair between which it changed is left out, and ratios are medians over the pairs.
"""

from __future__ import annotations

from .report import run_cli
from .routes import run_routes

__all__ = ["run_cli", "run_routes"]
