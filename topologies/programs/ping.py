"""Pings an address from its own NIC.  Usage: ping.py ADDRESS"""

import sys
import time
from ipaddress import IPv4Address

from udp import checksum

import vnet

destination = sys.argv[1]
with vnet.attach() as nic:
    echo = b"\0\0" + b"\x12\x34\0\x01" + b"is anybody there"
    icmp = b"\x08\0" + checksum(b"\x08\0" + echo).to_bytes(2, "big") + echo[2:]
    start = b"\x45\0" + (20 + len(icmp)).to_bytes(2, "big") + b"\0\0\0\0\x40\x01"
    addresses = IPv4Address(str(nic.addresses[0])).packed + IPv4Address(destination).packed
    header = start + checksum(start + b"\0\0" + addresses).to_bytes(2, "big") + addresses
    began = time.perf_counter()
    verdict = nic.send(header + icmp)
    if verdict is not vnet.Verdict.DELIVERED:
        sys.exit(f"{destination}: {verdict.name.lower()}")
    try:
        reply = nic.recv(timeout=2.0)
    except vnet.ReceiveTimeout:
        sys.exit(f"{destination} does not answer")
    print(f"{destination} answered {len(reply) - 20} bytes in {(time.perf_counter() - began) * 1e6:.0f} µs")
