//! What a router looks at before it routes a datagram.

use vnet_tables::Address;

use super::options;
use super::rules::is_group4;
use super::tlv::{self, Fault};
use super::wire::{HEADER4, HEADER6, addresses, checksum, half, length6, protocol};

/// What the rest of the way needs to know of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the IPv4 header with its options; IPv6: of the fixed header and the hop-by-hop options.
    pub header: usize,
    /// Bytes of the datagram; what is behind them is no part of it.
    pub total: usize,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// Neither options (IPv4) nor a hop-by-hop header (IPv6).
    pub plain: bool,
    /// IPv4 with DF set, and all of IPv6: a router does not cut it.
    pub dont_fragment: bool,
    /// IPv4: a fragment other than the first.
    pub later_fragment: bool,
    /// IPv4: any fragment.
    pub fragment: bool,
    /// The protocol behind `header`.
    pub protocol: u8,
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
}

/// Why a datagram goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Dropped; nobody hears of it.
    Silent,
    /// Dropped, and its sender hears of it: ICMP parameter problem.
    Parameter {
        /// The message's code.
        code: u8,
        /// Which byte of the datagram is at fault.
        pointer: u32,
    },
}

/// What Linux's `ip_rcv`, `ip_route_input` and `ipv6_rcv` check of a datagram that does not depend on routes.
///
/// IPv4: version, header length, checksum, total length; addresses that cannot be (RFC 1812 section 5.3.7); options;
/// source routes, which Linux refuses by default without a word. IPv6: version, length, addresses, hop-by-hop options. A
/// router also drops what bears one of its own IPv4 addresses as its source; that is the caller's.
///
/// # Errors
///
/// A [`Refusal`] where the datagram goes no further.
pub fn receive(datagram: &[u8]) -> Result<Received, Refusal> {
    match datagram.first().map(|byte| byte >> 4) {
        Some(4) => receive4(datagram),
        Some(6) => receive6(datagram),
        _ => Err(Refusal::Silent),
    }
}

fn receive4(datagram: &[u8]) -> Result<Received, Refusal> {
    let header = usize::from(datagram[0] & 15) * 4;
    let bytes = datagram.get(..header).filter(|_| header >= HEADER4).ok_or(Refusal::Silent)?;
    let total = usize::from(half(bytes, 2).ok_or(Refusal::Silent)?);
    if checksum(&[bytes]) != [0, 0] || total < header || total > datagram.len() {
        return Err(Refusal::Silent);
    }
    let Some((source @ Address::V4(from), destination @ Address::V4(to))) = addresses(datagram) else {
        return Err(Refusal::Silent);
    };
    let loopback = |address: u32| address >> 24 == 127;
    if is_group4(from) || is_group4(to) || from == 0 || to == 0 || loopback(from) || loopback(to) {
        return Err(Refusal::Silent);
    }
    if header > HEADER4 {
        options::check(bytes)?;
    }
    let place = half(bytes, 6).ok_or(Refusal::Silent)?;
    Ok(Received {
        header,
        total,
        ttl: bytes[8],
        plain: header == HEADER4,
        dont_fragment: place & 0x4000 != 0,
        later_fragment: place & 0x1fff != 0,
        fragment: place & 0x3fff != 0,
        protocol: bytes[9],
        source,
        destination,
    })
}

fn receive6(datagram: &[u8]) -> Result<Received, Refusal> {
    let (source, destination) = addresses(datagram).ok_or(Refusal::Silent)?;
    let (Address::V6(from, from_low), Address::V6(to, to_low)) = (source, destination) else {
        return Err(Refusal::Silent);
    };
    let loopback = |high: u64, low: u64| high == 0 && low == 1;
    // No multicast sends; scopes 0 and 1 are reserved or leave no interface: RFC 4291 section 2.7.
    let bound = to >> 56 == 0xff && to >> 48 & 15 <= 1;
    if from >> 56 == 0xff || bound || loopback(from, from_low) || loopback(to, to_low) {
        return Err(Refusal::Silent);
    }
    let mut next = datagram[6];
    let total = length6(datagram).ok_or(Refusal::Silent)?;
    let bytes = datagram.get(..total).ok_or(Refusal::Silent)?;
    let mut header = HEADER6;
    if next == protocol::HOP_BY_HOP {
        header = tlv::check(bytes, HEADER6, true).map_err(|fault| match fault {
            Fault::Silent => Refusal::Silent,
            Fault::Parameter { code, pointer } => Refusal::Parameter { code, pointer },
        })?;
        next = bytes[HEADER6];
    }
    Ok(Received {
        header,
        total,
        ttl: bytes[7],
        plain: header == HEADER6,
        dont_fragment: true,
        later_fragment: false,
        fragment: false,
        protocol: next,
        source,
        destination,
    })
}
