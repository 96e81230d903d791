"""UDP in IPv4, as little of it as the programs beside this one need."""

from ipaddress import IPv4Address


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return 0xFFFF - (number % 0xFFFF or 0xFFFF * bool(number))


def build(source: str, source_port: int, destination: str, destination_port: int, payload: bytes) -> bytes:
    """One datagram."""
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    length = 8 + len(payload)
    udp = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big") + length.to_bytes(2, "big")
    fits = checksum(addresses + b"\0\x11" + length.to_bytes(2, "big") + udp + b"\0\0" + payload) or 0xFFFF
    start = b"\x45\0" + (20 + length).to_bytes(2, "big") + b"\0\0\x40\0\x40\x11"
    header = start + checksum(start + b"\0\0" + addresses).to_bytes(2, "big") + addresses
    return header + udp + fits.to_bytes(2, "big") + payload


def parse(datagram: bytes) -> tuple[str, int, int, bytes] | None:
    """Source address, source port, destination port and payload; None where it is not UDP in IPv4."""
    if len(datagram) < 28 or datagram[0] >> 4 != 4 or datagram[9] != 17:
        return None
    header = (datagram[0] & 15) * 4
    ports = datagram[header : header + 4]
    source = str(IPv4Address(datagram[12:16]))
    return source, int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big"), datagram[header + 8 :]
