//! UDP datagrams that carry what the receiver needs to measure.
//!
//! ```text
//!   payload   0        4         8                16
//!             | flow   | number  | departure      | zeros ...
//! ```
//!
//! Big-endian. The flow tells ours from what else comes to the port; numbers begin at 0; the departure is in nanoseconds
//! of the machine's monotonic clock.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr};

/// Bytes of a payload that mean something.
pub const MARK: usize = 16;

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which flow it belongs to.
    pub flow: u32,
    /// Its number in the flow, from 0.
    pub number: u32,
    /// When it left, in nanoseconds.
    pub departure: u64,
}

impl Mark {
    /// Reads the mark; `None` where the payload is too short to have one.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?));
        let departure = u64::from_be_bytes(payload.get(8..MARK)?.try_into().ok()?);
        Some(Self { flow: word(0)?, number: word(4)?, departure })
    }

    fn write(&self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.flow.to_be_bytes());
        payload[4..8].copy_from_slice(&self.number.to_be_bytes());
        payload[8..MARK].copy_from_slice(&self.departure.to_be_bytes());
    }
}

/// Bytes of IP and UDP headers to this address.
#[must_use]
pub fn headers(to: IpAddr) -> usize {
    if to.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// Writes a datagram of `size` bytes of IP, at least [`headers`] and [`MARK`], into `datagram`. Source and destination are
/// of one family.
pub fn write(datagram: &mut Vec<u8>, from: SocketAddr, to: SocketAddr, size: usize, mark: &Mark) {
    let sums = ChecksumCapabilities::default();
    let payload_len = size.saturating_sub(headers(to.ip())).max(MARK);
    datagram.clear();
    datagram.resize(headers(to.ip()) + payload_len, 0);
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let at = match (from.ip(), to.ip()) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let next_header = IpProtocol::Udp;
            let ip = Ipv4Repr { src_addr, dst_addr, next_header, payload_len: 8 + payload_len, hop_limit: 64 };
            ip.emit(&mut Ipv4Packet::new_unchecked(&mut datagram[..]), &sums);
            20
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let next_header = IpProtocol::Udp;
            let ip = Ipv6Repr { src_addr, dst_addr, next_header, payload_len: 8 + payload_len, hop_limit: 64 };
            ip.emit(&mut Ipv6Packet::new_unchecked(&mut datagram[..]));
            40
        }
        _ => return datagram.clear(),
    };
    let mut packet = UdpPacket::new_unchecked(&mut datagram[at..]);
    let payload = |bytes: &mut [u8]| mark.write(bytes);
    udp.emit(&mut packet, &from.ip().into(), &to.ip().into(), payload_len, payload, &sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_has_the_size_asked_for() {
        for (from, to) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let mark = Mark { flow: 7, number: 0xffff_fffe, departure: 1 << 60 };
            let mut datagram = Vec::new();
            write(&mut datagram, from, to, 1400, &mark);
            assert_eq!(datagram.len(), 1400);
            let packet = UdpPacket::new_checked(&datagram[headers(to.ip()) - 8..]).unwrap();
            assert!(packet.verify_checksum(&from.ip().into(), &to.ip().into()));
            assert_eq!(Mark::read(packet.payload()), Some(mark));
        }
        assert_eq!(Mark::read(&[0; MARK - 1]), None);
    }
}
