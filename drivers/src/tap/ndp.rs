//! Neighbour solicitations and advertisements, RFC 4861, as IPv6 datagrams.
//!
//! ```text
//!   ICMPv6:  type │ code 0 │ checksum │ R S O flags (advertisements), reserved │ target, 16 bytes │ options …
//!   option:  type │ length in units of 8 bytes, never 0 │ …                                 1: source MAC, 2: target MAC
//! ```

use std::net::Ipv6Addr;

use vnet_base::checksum;

use super::counters::Reason;
use super::ethernet::{self, HEADER, Mac, framed, is_station};

const ICMPV6: u8 = 58;
const ROUTER_ADVERT: u8 = 134;
const SOLICIT: u8 = 135;
const ADVERT: u8 = 136;

const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Bytes of a solicitation or advertisement without options.
const BARE: usize = 24;

/// Bytes of a frame with one link-layer address option.
pub const FRAME: usize = HEADER + 40 + BARE + 8;

/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A neighbour solicitation: who has `target`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Whose question it is; unspecified in duplicate address detection.
    pub source: Ipv6Addr,
    /// The address in question.
    pub target: Ipv6Addr,
    /// The asker's MAC, if it says so. One whose address is optimistic does not (RFC 4429 section 3.2).
    pub link: Option<Mac>,
}

/// A neighbour advertisement: I have `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// To whom it goes.
    pub destination: Ipv6Addr,
    /// The speaker's address.
    pub target: Ipv6Addr,
    /// Its MAC, if it says so.
    pub link: Option<Mac>,
    /// It answers a question.
    pub solicited: bool,
    /// It is right where it differs from what was known.
    pub overrides: bool,
}

/// What a datagram says of neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A question.
    Solicitation(Solicitation),
    /// An answer, or news.
    Advertisement(Advertisement),
}

/// Reads an IP datagram; `None` where it is no neighbour solicitation or advertisement.
///
/// # Errors
///
/// [`Reason::Malformed`]: it is one, and not valid (RFC 4861 sections 7.1.1 and 7.1.2).
#[inline]
pub fn parse(datagram: &[u8]) -> Result<Option<Message>, Reason> {
    match icmpv6(datagram) {
        Some(at) if matches!(datagram.get(at), Some(&(SOLICIT | ADVERT))) => read(datagram, at).map(Some),
        _ => Ok(None),
    }
}

/// Where the ICMPv6 message begins in an IPv6 datagram, behind extension headers if need be: RFC 8200 section 4.
///
/// Fragments are not followed: nobody accepts neighbour discovery in fragments (RFC 6980 section 5).
#[inline]
fn icmpv6(datagram: &[u8]) -> Option<usize> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    if datagram.len() < 40 || datagram[0] >> 4 != 6 {
        return None;
    }
    let (mut next, mut at) = (datagram[6], 40);
    // Each header is of 8 bytes at least, so the datagram bounds the walk.
    while next != ICMPV6 {
        let header = datagram.get(at..at + 2)?;
        at += match next {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(header[1]) + 1) * 8,
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => return None,
        };
        next = header[0];
    }
    Some(at)
}

#[cold]
fn read(datagram: &[u8], at: usize) -> Result<Message, Reason> {
    let address = |at: usize| -> Option<Ipv6Addr> { Some(Ipv6Addr::from(*datagram.get(at..)?.first_chunk::<16>()?)) };
    let message = datagram.get(at..).filter(|message| message.len() >= BARE).ok_or(Reason::Malformed)?;
    let (Some(source), Some(destination), Some(target)) = (address(8), address(24), address(at + 8)) else {
        return Err(Reason::Malformed);
    };
    let (hop_limit, code) = (datagram[7], message[1]);
    if hop_limit != 255 || code != 0 || target.is_multicast() || sum(source, destination, message) != 0xffff {
        return Err(Reason::Malformed);
    }
    let link = |wanted| link_option(&message[BARE..], wanted);
    if message[0] == SOLICIT {
        let link = link(SOURCE_LINK)?;
        // Section 7.1.1: from nobody only to a solicited-node group, and without a MAC.
        if source.is_unspecified() && (link.is_some() || !is_solicited_node(destination)) {
            return Err(Reason::Malformed);
        }
        return Ok(Message::Solicitation(Solicitation { source, target, link }));
    }
    let (solicited, overrides) = (message[4] & SOLICITED != 0, message[4] & OVERRIDE != 0);
    // Section 7.1.2: what goes to many answers nobody.
    if solicited && destination.is_multicast() {
        return Err(Reason::Malformed);
    }
    Ok(Message::Advertisement(Advertisement { destination, target, link: link(TARGET_LINK)?, solicited, overrides }))
}

/// The MAC in the first option of the type wanted. Options of other types are passed over, but every one must have a
/// length that is not 0 and lies inside: sections 4.6 and 7.1.
fn link_option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Reason> {
    let mut link = None;
    while !options.is_empty() {
        let length = options.get(1).map_or(0, |&length| usize::from(length) * 8);
        if length == 0 || length > options.len() {
            return Err(Reason::Malformed);
        }
        let (option, rest) = options.split_at(length);
        // On Ethernet it is one unit long, RFC 2464 section 6; a longer one would be of another medium.
        if option[0] == wanted && length == 8 && link.is_none() {
            let mac = Mac::try_from(&option[2..8]).unwrap_or_default();
            link = Some(if is_station(mac) { mac } else { return Err(Reason::Malformed) });
        }
        options = rest;
    }
    Ok(link)
}

/// The sum of an ICMPv6 message and its pseudo-header (RFC 8200 section 8.1) in 16 bits; 0xffff for one that is right.
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let tail = (message.len() as u64) << 32 | u64::from(ICMPV6);
    let addresses = checksum::sum(&source.octets()) + checksum::sum(&destination.octets());
    checksum::fold(addresses + checksum::sum(&tail.to_be_bytes()) + checksum::sum(message))
}

/// Who sends router advertisements, and for how many seconds it wants to be a default router: `None` where the datagram is
/// none. Their contents are the guest's to judge.
#[inline]
#[must_use]
pub fn router(datagram: &[u8]) -> Option<(Ipv6Addr, u16)> {
    let message = datagram.get(icmpv6(datagram)?..)?;
    let lifetime = match *message.first_chunk::<8>()? {
        [ROUTER_ADVERT, 0, _, _, _, _, high, low] => u16::from_be_bytes([high, low]),
        _ => return None,
    };
    Some((Ipv6Addr::from(*datagram.get(8..)?.first_chunk::<16>()?), lifetime))
}

/// The group that whoever has `address` listens to: RFC 4291 section 2.7.1.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

/// The link-local address that a MAC makes: RFC 4291 appendix A, RFC 2464 section 5.
#[must_use]
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(mac[0] ^ 2, mac[1]),
        word(mac[2], 0xff),
        word(0xfe, mac[3]),
        word(mac[4], mac[5]),
    )
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node(address) == address
}

/// The MAC of an IPv6 group.
fn group(address: Ipv6Addr) -> Mac {
    ethernet::group_mac(address.into()).unwrap_or(ethernet::BROADCAST)
}

/// The frame of a question: who has `target`? To the one station that had it, or to its group.
#[must_use]
pub fn solicitation(station: Option<Mac>, asker_mac: Mac, asker: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME] {
    let (destination, mac) = match station {
        Some(mac) => (target, mac),
        None => (solicited_node(target), group(solicited_node(target))),
    };
    let mut frame = [0; FRAME];
    write(&mut frame, (mac, asker_mac), (asker, destination), &Body { kind: SOLICIT, flags: 0, target });
    option(&mut frame, SOURCE_LINK, asker_mac);
    finish(&mut frame);
    frame
}

/// The frame of a question in duplicate address detection, RFC 4862 section 5.4.2: from nobody, without a MAC.
#[must_use]
pub fn probe(asker_mac: Mac, target: Ipv6Addr) -> [u8; FRAME - 8] {
    let destination = solicited_node(target);
    let mut frame = [0; FRAME - 8];
    let body = Body { kind: SOLICIT, flags: 0, target };
    write(&mut frame, (group(destination), asker_mac), (Ipv6Addr::UNSPECIFIED, destination), &body);
    finish(&mut frame);
    frame
}

/// The frame of an answer to `asker`: `mac` has `target`. To nobody in particular (RFC 4861 section 7.2.4) it goes to all
/// nodes, without the solicited flag; so do news (section 7.2.6).
#[must_use]
pub fn advertisement(asker: Option<(Mac, Ipv6Addr)>, mac: Mac, target: Ipv6Addr, is_router: bool) -> [u8; FRAME] {
    let ((to_mac, to), solicited) = match asker {
        Some(asker) => (asker, SOLICITED),
        None => ((group(ALL_NODES), ALL_NODES), 0),
    };
    let flags = solicited | OVERRIDE | if is_router { ROUTER } else { 0 };
    let mut frame = [0; FRAME];
    write(&mut frame, (to_mac, mac), (target, to), &Body { kind: ADVERT, flags, target });
    option(&mut frame, TARGET_LINK, mac);
    finish(&mut frame);
    frame
}

struct Body {
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
}

/// Everything but options and checksum, into a frame of zeros.
fn write(frame: &mut [u8], (to_mac, from_mac): (Mac, Mac), (from, to): (Ipv6Addr, Ipv6Addr), body: &Body) {
    frame[..HEADER].copy_from_slice(&framed(to_mac, from_mac, ethernet::IPV6));
    let datagram = &mut frame[HEADER..];
    let length = (datagram.len() - 40) as u16;
    datagram[0] = 0x60;
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
    datagram[6..8].copy_from_slice(&[ICMPV6, 255]);
    datagram[8..24].copy_from_slice(&from.octets());
    datagram[24..40].copy_from_slice(&to.octets());
    datagram[40] = body.kind;
    datagram[44] = body.flags;
    datagram[48..64].copy_from_slice(&body.target.octets());
}

fn option(frame: &mut [u8; FRAME], kind: u8, mac: Mac) {
    let option = &mut frame[FRAME - 8..];
    option[..2].copy_from_slice(&[kind, 1]);
    option[2..].copy_from_slice(&mac);
}

fn finish(frame: &mut [u8]) {
    let datagram = &mut frame[HEADER..];
    let address = |at: usize| datagram[at..].first_chunk::<16>().copied().map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from);
    let sum = sum(address(8), address(24), &datagram[40..]);
    datagram[42..44].copy_from_slice(&(!sum).to_ne_bytes());
}
