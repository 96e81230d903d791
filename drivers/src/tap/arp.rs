//! ARP packets, RFC 826, of the one kind that there is here: IPv4 over Ethernet.
//!
//! ```text
//!   0      2      4     5     6      8            14         18           24         28
//!   ┌──────┬──────┬─────┬─────┬──────┬────────────┬──────────┬────────────┬──────────┐
//!   │ ar$hrd ar$pro hln   pln   ar$op│ sender MAC │ its IPv4 │ target MAC │ its IPv4 │
//!   └──────┴──────┴─────┴─────┴──────┴────────────┴──────────┴────────────┴──────────┘
//! ```
//!
//! Read and written by hand, as `ndp` is: smoltcp has both formats, but only as part of a stack that speaks Ethernet, which
//! would put a neighbour cache and its branches into every built-in host, and it does not make the checks that RFC 4861
//! asks for. The tests let it not grade itself: they compare with scapy, with the kernel and with etherparse.

use std::net::Ipv4Addr;

use super::counters::Reason;
use super::ethernet::{self, BROADCAST, HEADER, Mac, framed, is_station};

/// Bytes of a packet, padding not counted.
const PACKET: usize = 28;

/// Bytes of a frame that carries one.
pub const FRAME: usize = HEADER + PACKET;

/// `ar$hrd` Ethernet, `ar$pro` IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has its address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Question or answer.
    pub operation: Operation,
    /// Who speaks, and to whom an answer goes.
    pub sender_mac: Mac,
    /// The speaker's address; 0.0.0.0 in a probe (RFC 5227 section 1.1).
    pub sender: Ipv4Addr,
    /// Who is spoken to; means nothing in a question.
    pub target_mac: Mac,
    /// The address in question; that of the asker in an answer.
    pub target: Ipv4Addr,
}

/// Reads a packet, and passes over what follows it.
///
/// # Errors
///
/// [`Reason::NotIp`]: of other protocols, or neither request nor reply. [`Reason::Malformed`]: cut off, or in the name of
/// a MAC that no station has.
pub fn parse(packet: &[u8]) -> Result<Packet, Reason> {
    let packet: &[u8; PACKET] = packet.first_chunk().ok_or(Reason::Malformed)?;
    let (kind, rest) = packet.split_first_chunk::<6>().ok_or(Reason::Malformed)?;
    let operation = match (*kind, rest[0], rest[1]) {
        (KIND, 0, 1) => Operation::Request,
        (KIND, 0, 2) => Operation::Reply,
        _ => return Err(Reason::NotIp),
    };
    let mac = |at: usize| Mac::try_from(&packet[at..at + 6]).unwrap_or_default();
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let packet =
        Packet { operation, sender_mac: mac(8), sender: address(14), target_mac: mac(18), target: address(24) };
    if is_station(packet.sender_mac) { Ok(packet) } else { Err(Reason::Malformed) }
}

/// The frame of a packet, from the packet's sender to `destination`.
#[must_use]
pub fn frame(destination: Mac, packet: &Packet) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..HEADER].copy_from_slice(&framed(destination, packet.sender_mac, ethernet::ARP));
    let body = &mut frame[HEADER..];
    body[..6].copy_from_slice(&KIND);
    body[7] = match packet.operation {
        Operation::Request => 1,
        Operation::Reply => 2,
    };
    body[8..14].copy_from_slice(&packet.sender_mac);
    body[14..18].copy_from_slice(&packet.sender.octets());
    body[18..24].copy_from_slice(&packet.target_mac);
    body[24..].copy_from_slice(&packet.target.octets());
    frame
}

/// The frame of a question: who has `target`? To one station, or to all.
///
/// `asker` is 0.0.0.0 in a probe (RFC 5227 section 2.1.1).
#[must_use]
pub fn request(destination: Mac, asker_mac: Mac, asker: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME] {
    let operation = Operation::Request;
    // RFC 5227 section 2.1.1: the target's MAC "SHOULD be set to all zeroes".
    frame(destination, &Packet { operation, sender_mac: asker_mac, sender: asker, target_mac: [0; 6], target })
}

/// The frame of an answer: `mac` has `address`. The answer to a probe is for 0.0.0.0.
#[must_use]
pub fn reply(asker_mac: Mac, asker: Ipv4Addr, mac: Mac, address: Ipv4Addr) -> [u8; FRAME] {
    let operation = Operation::Reply;
    let packet = Packet { operation, sender_mac: mac, sender: address, target_mac: asker_mac, target: asker };
    frame(asker_mac, &packet)
}

/// The frame of an announcement, to all: `mac` has `address`. A request for it, RFC 5227 section 3, which every stack
/// takes in; some pass gratuitous replies over.
#[must_use]
pub fn announcement(mac: Mac, address: Ipv4Addr) -> [u8; FRAME] {
    request(BROADCAST, mac, address, address)
}
