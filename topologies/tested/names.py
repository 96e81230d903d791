"""A small name server for a LAN: it answers questions for IPv4 and IPv6 addresses over UDP, on port 53.

Usage: names.py NAME=ADDRESS ...
"""

import ipaddress
import socket
import sys

import vnet

A, AAAA, IN = 1, 28, 1
NO_ERROR, FORMAT_ERROR, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 3, 4


def answer(query: bytes, names: dict[str, list[str]]) -> bytes | None:
    """The answer to a query (RFC 1035 section 4), or None where there is nobody to answer."""
    if len(query) < 12 or query[2] & 0x80:
        return None  # too short to have an id, or itself an answer
    number, recursion = query[:2], query[2] & 1
    if query[2] & 0x78:
        return number + bytes([0x80 | recursion, NOT_IMPLEMENTED]) + bytes(8)
    labels, at = [], 12
    try:
        while size := query[at]:
            if size > 63:
                raise ValueError("names in a question are not compressed")
            labels.append(query[at + 1 : at + 1 + size].decode("ascii"))
            at += 1 + size
        question, kind, family = query[12 : at + 5], query[at + 1 : at + 3], query[at + 3 : at + 5]
        if len(family) < 2 or query[4:6] != b"\0\1":
            raise ValueError("not one whole question")
    except (IndexError, ValueError):
        return number + bytes([0x80 | recursion, FORMAT_ERROR]) + bytes(8)
    name = ".".join(labels).lower()
    wanted = {A: 4, AAAA: 6}.get(int.from_bytes(kind, "big")) if int.from_bytes(family, "big") == IN else None
    addresses = [each for each in map(ipaddress.ip_address, names.get(name, [])) if each.version == wanted]
    code = NO_ERROR if name in names else NO_SUCH_NAME
    head = number + bytes([0x84 | recursion, code]) + bytes([0, 1, 0, len(addresses)]) + bytes(4)
    # 0xC00C: the name of the question; 60 seconds.
    found = [
        b"\xc0\x0c" + kind + family + b"\0\0\0\x3c" + bytes([0, len(each.packed)]) + each.packed for each in addresses
    ]
    return head + question + b"".join(found)


def main() -> None:
    names: dict[str, list[str]] = {}
    for argument in sys.argv[1:]:
        name, _, address = argument.partition("=")
        names.setdefault(name.lower(), []).append(str(ipaddress.ip_address(address)))
    with vnet.attach() as nic, nic.stack() as stack, stack.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", 53))
        print(f"{nic.name} answers at {nic.address}", flush=True)
        while True:
            query, client = server.recvfrom(512)
            if reply := answer(query, names):
                server.sendto(reply, client)


if __name__ == "__main__":
    main()
