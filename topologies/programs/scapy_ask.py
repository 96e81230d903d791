"""Asks addresses with scapy: an ICMP echo request and a TCP SYN for port 80 each.  Usage: scapy_ask.py ADDRESS..."""

import sys

from scapy.all import ICMP, IP, TCP, ICMPv6EchoRequest, IPv6, sr1

import vnet

with vnet.attach() as nic:
    for address in sys.argv[1:]:
        ip, echo = (IPv6, ICMPv6EchoRequest) if ":" in address else (IP, ICMP)
        reply = sr1(ip(dst=address) / echo(), iface=nic, timeout=2, verbose=0)
        if reply is None:
            sys.exit(f"{address} does not answer")
        # A port that is closed answers, too: with a reset.
        segment = sr1(ip(dst=address) / TCP(sport=40_000, dport=80, flags="S"), iface=nic, timeout=2, verbose=0)
        if segment is None or TCP not in segment:
            sys.exit(f"{address} does not answer on port 80")
        print(f"{address} answers; port 80 says {segment[TCP].flags}")
