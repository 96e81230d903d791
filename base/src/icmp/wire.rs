//! Fields of headers, read and written within their bounds; checksums; the chain of extension headers.

use vnet_tables::Address;

use crate::checksum::{fold, sum};

pub(super) const HEADER4: usize = 20;
pub(super) const HEADER6: usize = 40;

/// Numbers of protocols and of extension headers.
pub(super) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMP6: u8 = 58;
    pub const NONE: u8 = 59;
    pub const DESTINATION: u8 = 60;
    pub const PIM: u8 = 103;
    pub const UDP_LITE: u8 = 136;
}

pub(super) fn is_six(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| byte >> 4 == 6)
}

pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes))
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// Writes where there is room.
pub(super) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..what.len())) {
        place.copy_from_slice(what);
    }
}

/// Bytes of an IPv6 datagram. As Linux has it, no length and hop-by-hop options may be a jumbogram, which is as long as
/// what came.
pub(super) fn length6(datagram: &[u8]) -> Option<usize> {
    match half(datagram, 4)? {
        0 if datagram.get(6) == Some(&protocol::HOP_BY_HOP) => Some(datagram.len()),
        payload => Some(HEADER6 + usize::from(payload)),
    }
}

/// The addresses of a datagram: source, destination.
pub(super) fn addresses(datagram: &[u8]) -> Option<(Address, Address)> {
    if is_six(datagram) {
        let address = |at| {
            let long = |at| Some(u64::from(word(datagram, at)?) << 32 | u64::from(word(datagram, at + 4)?));
            Some(Address::V6(long(at)?, long(at + 8)?))
        };
        return Some((address(8)?, address(24)?));
    }
    Some((Address::V4(word(datagram, 12)?), Address::V4(word(datagram, 16)?)))
}

/// The bytes of an IPv6 address.
pub(super) fn octets6(high: u64, low: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// The Internet checksum of these bytes, as it is stored.
pub(super) fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    // Only the last part may be odd: the callers' pseudo-headers are even.
    (!fold(parts.iter().map(|part| sum(part)).sum())).to_ne_bytes()
}

/// Writes the checksum of an IPv4 header, which is all of `header`.
pub(super) fn seal(header: &mut [u8]) {
    put(header, 10, &[0, 0]);
    let sum = checksum(&[header]);
    put(header, 10, &sum);
}

/// The pseudo-header of a datagram's own addresses, for a transport header of so many bytes with its data; its length
/// says how many of the bytes count.
pub(super) fn pseudo(datagram: &[u8], protocol: u8, length: usize) -> ([u8; 40], usize) {
    let mut header = [0; 40];
    let length = length as u32;
    if is_six(datagram) {
        put(&mut header, 0, datagram.get(8..40).unwrap_or_default());
        put(&mut header, 32, &length.to_be_bytes());
        header[39] = protocol;
        return (header, 40);
    }
    put(&mut header, 0, datagram.get(12..20).unwrap_or_default());
    header[9] = protocol;
    put(&mut header, 10, &(length as u16).to_be_bytes());
    (header, 12)
}

/// Whether the checksum over a pseudo-header for `length` bytes and over these bytes holds.
pub(super) fn holds(datagram: &[u8], protocol: u8, length: usize, bytes: &[u8]) -> bool {
    let (header, count) = pseudo(datagram, protocol, length);
    checksum(&[&header[..count], bytes]) == [0, 0]
}

/// Where a walk over extension headers ends, as Linux's `ipv6_skip_exthdr` does it.
pub(crate) struct Skipped {
    /// What the last header names.
    pub next: u8,
    /// Where that starts.
    pub at: usize,
    /// A Fragment header on the way had an offset, or said that there are more.
    pub fragment: bool,
}

/// Walks over the extension headers of an IPv6 datagram. `None`: they end within one, or in none.
pub(crate) fn skip(datagram: &[u8]) -> Option<Skipped> {
    use protocol::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, NONE, ROUTING};

    let (mut next, mut at, mut fragment) = (*datagram.get(6)?, HEADER6, false);
    loop {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION | FRAGMENT => usize::from(*datagram.get(at + 1)?),
            NONE => return None,
            _ => break,
        };
        let bytes = match next {
            FRAGMENT => {
                let place = half(datagram, at + 2)?;
                fragment |= place & !6 != 0;
                if place & !7 != 0 {
                    break;
                }
                8
            }
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        next = *datagram.get(at)?;
        at += bytes;
    }
    Some(Skipped { next, at, fragment })
}
