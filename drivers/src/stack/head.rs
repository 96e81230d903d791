//! The few header fields that the stack looks at itself, before smoltcp has checked anything. All reads are bounded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Cause;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Where a transport header starts, and of which protocol it is; `None` for fragments and damaged headers.
fn transport(datagram: &[u8]) -> Option<(u8, usize)> {
    match datagram.first()? >> 4 {
        4 => {
            let fragment = u16::from_be_bytes([*datagram.get(6)?, *datagram.get(7)?]) & 0x3fff;
            (fragment == 0).then_some((*datagram.get(9)?, usize::from(datagram[0] & 15) * 4))
        }
        6 => Some((*datagram.get(6)?, 40)),
        _ => None,
    }
}

/// Where the TCP header of a datagram starts that has one.
pub(super) fn tcp_header(datagram: &[u8]) -> Option<usize> {
    transport(datagram).and_then(|(protocol, at)| (protocol == 6).then_some(at))
}

/// Whether smoltcp would find a TCP segment in the datagram: it also looks behind hop-by-hop options.
pub(super) fn is_tcp(datagram: &[u8]) -> bool {
    match datagram.first().map(|byte| byte >> 4) {
        Some(4) => datagram.get(9) == Some(&6),
        Some(6) if datagram.get(6) == Some(&0) => datagram.get(40) == Some(&6),
        Some(6) => datagram.get(6) == Some(&6),
        _ => false,
    }
}

/// The addresses of a datagram: source, destination.
pub(super) fn addresses(datagram: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match datagram.first()? >> 4 {
        4 => {
            let source: [u8; 4] = datagram.get(12..16)?.try_into().ok()?;
            let destination: [u8; 4] = datagram.get(16..20)?.try_into().ok()?;
            Some((Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into()))
        }
        6 => {
            let source: [u8; 16] = datagram.get(8..24)?.try_into().ok()?;
            let destination: [u8; 16] = datagram.get(24..40)?.try_into().ok()?;
            Some((Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into()))
        }
        _ => None,
    }
}

/// Whether the datagram is an ICMP or ICMPv6 message.
pub(crate) fn is_icmp(datagram: &[u8]) -> bool {
    matches!(
        (datagram.first().map(|byte| byte >> 4), transport(datagram)),
        (Some(4), Some((1, _))) | (Some(6), Some((58, _)))
    )
}

/// The ends of a TCP segment and its flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    flags: u8,
}

impl Segment {
    /// Whether it asks for a connection.
    pub fn is_first(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == SYN
    }

    /// Whether it resets one.
    pub fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }

    /// The segment in a datagram that is one.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let (6, at) = transport(datagram)? else { return None };
        let (source, destination) = addresses(datagram)?;
        let tcp = datagram.get(at..at + 14)?;
        Some(Self { source: end(source, tcp, 0), destination: end(destination, tcp, 2), flags: tcp[13] })
    }
}

fn end(address: IpAddr, tcp: &[u8], at: usize) -> SocketAddr {
    SocketAddr::new(address, u16::from_be_bytes([tcp[at], tcp[at + 1]]))
}

/// What the stack knows of a datagram before smoltcp does.
pub(super) enum Head {
    /// A TCP segment.
    Tcp(Segment),
    /// An ICMP error about a segment that was sent from here: what it quotes of it, and what it says of its fate.
    Unreachable(Segment, Cause),
}

impl Head {
    /// `None` for everything else.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let (protocol, at) = transport(datagram)?;
        if protocol == 6 {
            return Segment::of(datagram).map(Self::Tcp);
        }
        // RFC 1122 section 4.2.3.9 and RFC 4443 section 3.1, as Linux takes them for a connection that is being opened.
        let cause = match (datagram[0] >> 4, protocol, *datagram.get(at)?, *datagram.get(at + 1)?) {
            (4, 1, 3, 2 | 3) | (6, 58, 1, 4) => Cause::Refused,
            (4, 1, 3, 0 | 6) | (6, 58, 1, 0) => Cause::NoRoute,
            (4, 1, 3, _) | (6, 58, 1, _) => Cause::Unreachable,
            _ => return None,
        };
        // The quote may end after 8 bytes of TCP: the ports are there, the flags not (RFC 792).
        let quoted = datagram.get(at + 8..)?;
        let (6, at) = transport(quoted)? else { return None };
        let (source, destination) = addresses(quoted)?;
        let tcp = quoted.get(at..at + 4)?;
        Some(Self::Unreachable(
            Segment { source: end(source, tcp, 0), destination: end(destination, tcp, 2), flags: 0 },
            cause,
        ))
    }
}
