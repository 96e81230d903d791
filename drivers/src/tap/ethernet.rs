//! Ethernet frames: what they carry, and the header in front of a datagram.

use std::net::IpAddr;

use super::counters::Reason;

/// A hardware address, IEEE 802.
pub type Mac = [u8; 6];

/// Where broadcasts go.
pub const BROADCAST: Mac = [0xff; 6];

/// Bytes of an Ethernet II header: destination, source, EtherType.
pub const HEADER: usize = 14;

/// EtherTypes, as IANA lists them.
pub(super) const IPV4: [u8; 2] = [0x08, 0x00];
pub(super) const ARP: [u8; 2] = [0x08, 0x06];
pub(super) const IPV6: [u8; 2] = [0x86, 0xdd];

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'f> {
    /// An IP datagram without what Ethernet padded it with. Its version agrees with the EtherType.
    Ip(&'f [u8]),
    /// An ARP packet, padding included.
    Arp(&'f [u8]),
}

/// A frame of which destination, source and kind have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    /// Whom it is for.
    pub destination: Mac,
    /// Who sent it; a MAC that a station can have.
    pub source: Mac,
    /// What it carries.
    pub payload: Payload<'f>,
}

/// Reads a frame that a guest wrote.
///
/// `offloaded` says that the guest left segmenting to the device, so that the payload may be a segment whose length no
/// IP header can tell: Linux then writes 0 there ("BIG TCP"), and the datagram is all that follows the Ethernet header.
///
/// # Errors
///
/// [`Reason::NotIp`]; [`Reason::Malformed`]: cut off, lengths that contradict each other, or from a MAC
/// that no station has (IEEE 802.3 section 3.2.3).
#[inline]
pub fn parse(frame: &[u8], offloaded: bool) -> Result<Frame<'_>, Reason> {
    let (header, rest) = frame.split_first_chunk::<HEADER>().ok_or(Reason::Malformed)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, kind @ ..] = *header;
    let destination = [d0, d1, d2, d3, d4, d5];
    let source = [s0, s1, s2, s3, s4, s5];
    let payload = match kind {
        IPV4 => Payload::Ip(v4(rest, offloaded)?),
        IPV6 => Payload::Ip(v6(rest, offloaded)?),
        ARP => Payload::Arp(rest),
        _ => return Err(Reason::NotIp),
    };
    if is_station(source) { Ok(Frame { destination, source, payload }) } else { Err(Reason::Malformed) }
}

/// RFC 791 section 3.1: version, header length in words, total length.
#[inline]
fn v4(rest: &[u8], offloaded: bool) -> Result<&[u8], Reason> {
    let header = rest.first_chunk::<20>().ok_or(Reason::Malformed)?;
    let header_length = usize::from(header[0] & 15) * 4;
    let total = match usize::from(u16::from_be_bytes([header[2], header[3]])) {
        0 if offloaded => rest.len(),
        total => total,
    };
    if header[0] >> 4 != 4 || header_length < 20 || total < header_length {
        return Err(Reason::Malformed);
    }
    rest.get(..total).ok_or(Reason::Malformed)
}

/// RFC 8200 section 3: version, payload length. Without an offload a jumbogram (RFC 2675) fits no frame.
#[inline]
fn v6(rest: &[u8], offloaded: bool) -> Result<&[u8], Reason> {
    const HOP_BY_HOP: u8 = 0;
    let header = rest.first_chunk::<40>().ok_or(Reason::Malformed)?;
    let total = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        0 if offloaded => rest.len(),
        0 if header[6] == HOP_BY_HOP => return Err(Reason::Malformed),
        payload => 40 + payload,
    };
    if header[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    rest.get(..total).ok_or(Reason::Malformed)
}

/// The Ethernet header in front of a datagram, whose first byte tells the EtherType.
#[inline]
#[must_use]
pub fn header(destination: Mac, source: Mac, datagram: &[u8]) -> [u8; HEADER] {
    let is_v6 = datagram.first().is_some_and(|first| first >> 4 == 6);
    framed(destination, source, if is_v6 { IPV6 } else { IPV4 })
}

#[inline]
pub(super) fn framed(destination: Mac, source: Mac, kind: [u8; 2]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&source);
    header[12..].copy_from_slice(&kind);
    header
}

/// The MAC of a multicast group: RFC 1112 section 6.4, RFC 2464 section 7. `None` for an address that is no group's;
/// which addresses are broadcast addresses is the caller's to know.
#[inline]
#[must_use]
pub fn group_mac(destination: IpAddr) -> Option<Mac> {
    if !destination.is_multicast() {
        return None;
    }
    Some(match destination {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    })
}

/// Whether a MAC is that of a group, the broadcast address included: IEEE 802 section 8.2.2.
#[inline]
#[must_use]
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

/// Whether a MAC can be one station's.
#[must_use]
pub fn is_station(mac: Mac) -> bool {
    !is_group(mac) && mac != [0; 6]
}
