//! A datagram for the router itself.

use vnet_tables::Address;

use super::answer::{self, label};
use super::error::Trouble;
use super::options::{self, Writer};
use super::tlv::{self, Fault};
use super::wire::{HEADER4, HEADER6, addresses, checksum, half, holds, is_six, octets6, protocol, pseudo, put, word};
use super::{Speaker, rst};

/// How a datagram is a router's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its destination is an address of the router.
    Own,
    /// IPv6: its destination is the subnet-router anycast address of a network of the router, RFC 4291 section 2.6.1.
    Anycast,
    /// It goes to a group that the router is in, or is a broadcast.
    Group,
}

/// What a router does with a datagram for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The answer is in `out`; where it is larger than the MTU, [`cut`](super::fragment::cut) it.
    Reply,
    /// An ICMP error is due about the first so many bytes of the datagram, which are all that it quotes, from the
    /// destination of the datagram if that is one address. [`may_answer`](super::may_answer), limits and
    /// [`error`](super::error()) are the caller's.
    Error(Trouble, usize),
    /// It is a fragment: a [`Reassembler`](crate::fragments::Reassembler)'s.
    Fragment,
    /// Nothing is said.
    Silent,
}

/// Whether all routers are in this group: all nodes and all routers of the link, all routers of the site (RFC 4291
/// section 2.7.1). No router answers to a group of IPv4.
#[must_use]
pub fn is_router_group(address: Address) -> bool {
    const ALL_NODES: (u64, u64) = (0xff02 << 48, 1);
    const ALL_ROUTERS: (u64, u64) = (0xff02 << 48, 2);
    const SITE_ROUTERS: (u64, u64) = (0xff05 << 48, 2);
    matches!(address, Address::V6(high, low) if [ALL_NODES, ALL_ROUTERS, SITE_ROUTERS].contains(&(high, low)))
}

/// What a router that serves nothing does with a datagram for itself, which [`receive`](super::receive()) let through and
/// which ends where that said.
///
/// Echo requests are answered (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2), with their options and service or traffic
/// class, and IPv4 timestamp requests (RFC 1122 section 3.2.2.8); every TCP segment is reset (RFC 9293 section 3.5.2);
/// behind UDP no port is open. `mine` as in [`error`](super::error()).
pub fn local(out: &mut Vec<u8>, datagram: &[u8], reach: Reach, speaker: &Speaker, mine: &dyn Fn(u32) -> bool) -> Local {
    out.clear();
    let become_of = if is_six(datagram) {
        local6(out, datagram, reach, speaker)
    } else {
        local4(out, datagram, reach, speaker, mine)
    };
    become_of.unwrap_or(Local::Silent)
}

/// `None`: nothing is said, here as below.
fn local4(
    out: &mut Vec<u8>,
    datagram: &[u8],
    reach: Reach,
    speaker: &Speaker,
    mine: &dyn Fn(u32) -> bool,
) -> Option<Local> {
    if half(datagram, 6)? & 0x3fff != 0 {
        return Some(Local::Fragment);
    }
    // `icmp_echo_ignore_broadcasts`; errors and resets never answer what went to many.
    if reach != Reach::Own {
        return None;
    }
    let header = usize::from(datagram[0] & 15) * 4;
    let (head, body) = datagram.split_at_checked(header).filter(|_| header >= HEADER4)?;
    match datagram[9] {
        protocol::ICMP => icmp4(out, head, body, speaker, mine),
        protocol::TCP => {
            let (options, length) = echoed(head, speaker, mine)?;
            rst::reset(out, datagram, header, options.get(..length)?)
        }
        number @ (protocol::UDP | protocol::UDP_LITE) => udp(datagram, header, number),
        // What Linux listens to, without a word: group memberships, which routers of multicasts heed.
        protocol::IGMP | protocol::PIM => None,
        _ => Some(Local::Error(Trouble::ProtocolUnreachable(9), datagram.len())),
    }
}

fn icmp4(out: &mut Vec<u8>, head: &[u8], body: &[u8], speaker: &Speaker, mine: &dyn Fn(u32) -> bool) -> Option<Local> {
    const ECHO: u8 = 8;
    const TIMESTAMP: u8 = 13;

    let rest = word(body, 4)?;
    if checksum(&[body]) != [0, 0] {
        return None;
    }
    let today = speaker.today.to_be_bytes();
    let mut times = [0; 12];
    let (kind, code, data) = match body[0] {
        ECHO => (0, body[1], &body[8..]),
        TIMESTAMP => {
            times[..4].copy_from_slice(body.get(8..12)?);
            times[4..8].copy_from_slice(&today);
            times[8..].copy_from_slice(&today);
            (14, 0, &times[..])
        }
        _ => return None,
    };
    let (asked, source) = (word(head, 16)?, word(head, 12)?);
    let (options, bytes) = echoed(head, speaker, mine)?;
    let length = 8 + data.len();
    answer::header4(out, head[1], speaker.ident, (asked, source), options.get(..bytes)?, protocol::ICMP, length);
    let start = out.len();
    out.extend_from_slice(&[kind, code, 0, 0]);
    out.extend_from_slice(&rest.to_be_bytes());
    out.extend_from_slice(data);
    let sum = checksum(&[&out[start..]]);
    put(out, start + 2, &sum);
    Some(Local::Reply)
}

/// The options of an answer to a datagram with this header, and how many bytes of them there are.
fn echoed(head: &[u8], speaker: &Speaker, mine: &dyn Fn(u32) -> bool) -> Option<([u8; 40], usize)> {
    let mut echoed = [0; 40];
    if head.len() == HEADER4 {
        return Some((echoed, 0));
    }
    let mut written = [0; 60];
    let written = written.get_mut(..head.len())?;
    written.copy_from_slice(head);
    let writer = Writer { here: word(head, 16)?, today: speaker.today, mine };
    let (found, done) = options::compile(written, Some(&writer));
    done.ok()?;
    let bytes = options::echo(&mut echoed, written, &found, &writer)?;
    Some((echoed, bytes))
}

/// A UDP datagram, or a UDP-Lite one (RFC 3828): nobody listens, if it is one.
fn udp(datagram: &[u8], at: usize, number: u8) -> Option<Local> {
    let body = datagram.get(at..)?;
    let six = is_six(datagram);
    let (mut length, sum) = (usize::from(half(body, 4)?), half(body, 6)?);
    if number == protocol::UDP_LITE {
        // The field is how much the checksum covers.
        let covered = if length == 0 { body.len() } else { length };
        let right = covered >= 8 && sum != 0 && holds(datagram, number, body.len(), body.get(..covered)?);
        return right.then_some(Local::Error(Trouble::PortUnreachable, datagram.len()));
    }
    if six && length == 0 {
        length = body.len();
    }
    // What lies behind is no part of it, and is cut off before anything is said.
    let body = body.get(..length).filter(|_| length >= 8)?;
    let right = if sum == 0 { !six } else { holds(datagram, number, length, body) };
    right.then_some(Local::Error(Trouble::PortUnreachable, at + length))
}

/// Walks from header to header, as Linux's `ip6_protocol_deliver_rcu`.
fn local6(out: &mut Vec<u8>, datagram: &[u8], reach: Reach, speaker: &Speaker) -> Option<Local> {
    let fault =
        |code, pointer: usize| Some(Local::Error(Trouble::Parameter { code, pointer: pointer as u32 }, datagram.len()));
    let (mut named_at, mut at) = (6, HEADER6);
    // Hop-by-hop options were looked at on arrival; they come first or not at all (RFC 8200 section 4.1).
    if datagram.get(named_at) == Some(&protocol::HOP_BY_HOP) {
        (named_at, at) = (at, at + (usize::from(*datagram.get(at + 1)?) + 1) * 8);
    }
    let mut fragment = false;
    loop {
        let number = *datagram.get(named_at)?;
        match number {
            protocol::DESTINATION => match tlv::check(datagram, at, false) {
                Ok(end) => (named_at, at) = (at, end),
                Err(Fault::Parameter { code, pointer }) => return fault(code, pointer as usize),
                Err(Fault::Silent) => return None,
            },
            protocol::ROUTING => {
                let end = at + (usize::from(*datagram.get(at + 1)?) + 1) * 8;
                let header = datagram.get(at..end)?;
                // RPL and segment routing are off; nobody's route goes on from here by another kind.
                if reach == Reach::Group || matches!(header[2], 3 | 4) {
                    return None;
                }
                if header[3] != 0 {
                    return fault(0, at + 2);
                }
                (named_at, at) = (at, end);
            }
            protocol::FRAGMENT => {
                let Some(place) = half(datagram, at + 2).filter(|_| !fragment && datagram.len() >= at + 8) else {
                    return fault(0, at);
                };
                if place & !6 != 0 {
                    return Some(Local::Fragment);
                }
                // All of its datagram, RFC 6946.
                fragment = true;
                (named_at, at) = (at, at + 8);
            }
            protocol::ICMP6 => return icmp6(out, datagram, at, reach, speaker),
            protocol::TCP if reach == Reach::Own => return rst::reset(out, datagram, at, &[]),
            protocol::UDP | protocol::UDP_LITE if reach != Reach::Group => return udp(datagram, at, number),
            protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::NONE | protocol::PIM => return None,
            _ => return Some(Local::Error(Trouble::ProtocolUnreachable(named_at as u32), datagram.len())),
        }
    }
}

fn icmp6(out: &mut Vec<u8>, datagram: &[u8], at: usize, reach: Reach, speaker: &Speaker) -> Option<Local> {
    const ECHO: u8 = 128;
    const REPLY: u8 = 129;

    let body = datagram.get(at..).filter(|body| body.len() >= 8)?;
    if body[0] != ECHO || !holds(datagram, protocol::ICMP6, body.len(), body) {
        return None;
    }
    let (Address::V6(source, source_low), asked) = addresses(datagram)? else { return None };
    let Address::V6(from, from_low) = (if reach == Reach::Own { asked } else { speaker.from }) else { return None };
    let ends = (octets6(from, from_low), octets6(source, source_low));
    let class = (half(datagram, 0)? >> 4) as u8;
    answer::header6(out, class, label(&ends, u32::from(REPLY) << 8), &ends, protocol::ICMP6, body.len());
    out.extend_from_slice(&[REPLY, body[1], 0, 0]);
    out.extend_from_slice(&body[4..]);
    let (head, count) = pseudo(out, protocol::ICMP6, body.len());
    let sum = checksum(&[&head[..count], &out[HEADER6..]]);
    put(out, HEADER6 + 2, &sum);
    Some(Local::Reply)
}
