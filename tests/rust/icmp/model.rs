//! The router of `kernel`, put together from what is tested.

use std::net::IpAddr;

use vnet_base::fragments::{self, Problem, Reassembler, Taken};
use vnet_base::icmp::{self, Local, Reach, Received, Refusal, Speaker, Trouble, fragment, local};
use vnet_base::tables::Address;

use crate::build::six;
use crate::kernel::{Sent, Side};

/// What the kernel chooses for itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// The identification of its IPv4 datagram.
    pub ident: u16,
    /// That of its IPv6 fragments.
    pub ident6: u32,
    /// The time, in milliseconds since midnight.
    pub today: u32,
}

/// How a router reaches an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Own,
    Anycast,
    Everyone,
    On(Side),
    Not(Trouble),
    Nowhere,
}

fn v4(address: [u8; 4]) -> u32 {
    u32::from_be_bytes(address)
}

fn v6(address: &str) -> Address {
    IpAddr::from(six(address)).into()
}

fn own(side: Side, like: Address) -> Address {
    match (like, side) {
        (Address::V4(_), Side::Left) => Address::V4(v4([10, 1, 0, 254])),
        (Address::V4(_), Side::Right) => Address::V4(v4([10, 2, 0, 254])),
        (Address::V6(high, _), _) if high >> 54 == 0xfe80 >> 6 => match side {
            Side::Left => v6("fe80::ff:fe00:101"),
            Side::Right => v6("fe80::ff:fe00:102"),
        },
        (Address::V6(..), Side::Left) => v6("fd00:1::fe"),
        (Address::V6(..), Side::Right) => v6("fd00:2::fe"),
    }
}

fn is_mine(address: u32) -> bool {
    matches!(way(Address::V4(address), Side::Left), Way::Own | Way::Everyone)
}

/// The route table; `into` is where link-local addresses mean something.
fn way(address: Address, into: Side) -> Way {
    for side in [Side::Left, Side::Right] {
        let link_local = matches!(address, Address::V6(high, _) if high >> 54 == 0xfe80 >> 6);
        if address == own(side, address) && (!link_local || side == into) {
            return Way::Own;
        }
    }
    let special = |number: u64| match number {
        1 => Some(Way::Not(Trouble::UnreachableRoute)),
        2 => Some(Way::Not(Trouble::Prohibited)),
        3 => Some(Way::Nowhere),
        _ => None,
    };
    match address {
        Address::V4(bits) => {
            let [a, b, c, d] = bits.to_be_bytes();
            match (a, b) {
                (10, 1) if c == 255 && d == 255 => Way::Everyone,
                (10, 2) if c == 0 && d == 255 => Way::Everyone,
                (10, 1) => Way::On(Side::Left),
                (10, 2) if c == 0 => Way::On(Side::Right),
                (10, 9) => special(c.into()).unwrap_or(Way::Not(Trouble::NetUnreachable)),
                _ => Way::Not(Trouble::NetUnreachable),
            }
        }
        Address::V6(high, _) if high >> 56 == 0xff => {
            if local::is_router_group(address) {
                Way::Everyone
            } else {
                Way::Nowhere
            }
        }
        Address::V6(high, low) => match high {
            0xfe80_0000_0000_0000 => Way::On(into),
            0xfd00_0001_0000_0000 | 0xfd00_0002_0000_0000 if low == 0 => Way::Anycast,
            0xfd00_0001_0000_0000 => Way::On(Side::Left),
            0xfd00_0002_0000_0000 => Way::On(Side::Right),
            _ if high >> 32 == 0xfd00_0009 => special(high >> 16 & 0xffff).unwrap_or(Way::Not(Trouble::NetUnreachable)),
            _ => Way::Not(Trouble::NetUnreachable),
        },
    }
}

fn mtu(side: Side) -> usize {
    match side {
        Side::Left => 1_500,
        Side::Right => 1_280,
    }
}

fn is_link_local(address: Address) -> bool {
    matches!(address, Address::V6(high, _) if high >> 54 == 0xfe80 >> 6)
}

pub struct Router {
    choice: Choice,
    side: Side,
    sent: Sent,
    reassembler: Reassembler,
}

impl Router {
    /// What the router sends when these datagrams come in, one after the other.
    pub fn take(datagrams: &[Vec<u8>], side: Side, choice: Choice) -> Sent {
        let mut router = Self { choice, side, sent: Sent::new(), reassembler: Reassembler::default() };
        for datagram in datagrams {
            match icmp::receive(datagram) {
                Ok(received) => router.route(&datagram[..received.total], &received),
                Err(Refusal::Silent) => {}
                Err(Refusal::Parameter { code, pointer }) => {
                    router.answer(Trouble::Parameter { code, pointer }, datagram);
                }
            }
        }
        router.sent
    }

    /// What the router sends about a datagram for which nobody on the last network answers.
    pub fn find_nobody(datagram: &[u8], side: Side, choice: Choice) -> Sent {
        let mut router = Self { choice, side, sent: Sent::new(), reassembler: Reassembler::default() };
        let received = icmp::receive(datagram).expect("a datagram that goes on");
        router.route(datagram, &received);
        let (_, passed) = router.sent.pop().expect("a datagram that went on");
        router.answer(Trouble::HostUnreachable, &passed);
        router.sent
    }

    fn route(&mut self, datagram: &[u8], received: &Received) {
        let six = matches!(received.source, Address::V6(..));
        if !six && way(received.source, self.side) == Way::Own {
            return;
        }
        let out = match way(received.destination, self.side) {
            Way::Own => return self.local(datagram, Reach::Own),
            Way::Anycast => return self.local(datagram, Reach::Anycast),
            Way::Everyone => return self.local(datagram, Reach::Group),
            Way::Not(trouble) => return self.answer(trouble, datagram),
            Way::Nowhere => return,
            Way::On(out) => out,
        };
        if six && received.source == v6("::") {
            return;
        }
        if received.ttl <= 1 {
            return self.answer(Trouble::TimeExceeded, datagram);
        }
        if is_link_local(received.source) && out != self.side {
            return self.answer(Trouble::BeyondScope, datagram);
        }
        let fits = datagram.len() <= mtu(out);
        if !fits && received.dont_fragment {
            return self.answer(Trouble::TooBig(mtu(out) as u32), datagram);
        }
        let mut passed = datagram.to_vec();
        if let (Address::V4(here), Address::V4(there), false) =
            (self.speaks_from(received.source), own(out, received.source), received.plain)
        {
            icmp::pass_options(&mut passed[..received.header], here, there, self.choice.today, &is_mine);
        }
        icmp::hop(&mut passed, 1);
        if fits {
            self.sent.push((out, passed));
            return;
        }
        let sent = &mut self.sent;
        fragment(&passed, mtu(out), |piece| sent.push((out, piece.to_vec()))).expect("room for pieces");
    }

    /// The side to which a router answers. To a broadcast address, too: Linux looks at no source closely where it neither
    /// filters by them nor sends redirects.
    fn back(&self, source: Address) -> Option<Side> {
        match (way(source, self.side), source) {
            (Way::On(side), _) => Some(side),
            (Way::Everyone, Address::V4(bits)) => Some(if bits >> 16 == 0x0a01 { Side::Left } else { Side::Right }),
            _ => None,
        }
    }

    /// From where a router answers a source: IPv4 by its address where the answer leaves, IPv6 by that where the offender
    /// came in.
    fn speaks_from(&self, source: Address) -> Address {
        let back = if matches!(source, Address::V4(_)) { self.back(source) } else { None };
        own(back.unwrap_or(self.side), source)
    }

    fn speaker(&self, from: Address) -> Speaker {
        Speaker { from, ident: self.choice.ident, today: self.choice.today, mtu: 1_500 }
    }

    fn local(&mut self, datagram: &[u8], reach: Reach) {
        let source = source_of(datagram);
        let mut out = Vec::new();
        match icmp::local(&mut out, datagram, reach, &self.speaker(self.speaks_from(source)), &is_mine) {
            Local::Reply => self.send(out),
            Local::Error(trouble, quote) => self.answer(trouble, &datagram[..quote]),
            Local::Fragment => self.gather(datagram),
            Local::Silent => {}
        }
    }

    fn gather(&mut self, fragment: &[u8]) {
        let wrong = |problem: Problem| Trouble::Parameter { code: problem.code, pointer: problem.pointer };
        match self.reassembler.take(fragment, 0) {
            Taken::Completed(whole) => match fragments::nested(&whole) {
                Some(problem) => self.answer(wrong(problem), &whole),
                None => self.local(&whole, Reach::Own),
            },
            Taken::Wrong(problem) => self.answer(wrong(problem), fragment),
            Taken::Whole | Taken::Nothing => {}
        }
    }

    fn answer(&mut self, trouble: Trouble, offender: &[u8]) {
        if !icmp::may_answer(offender, trouble) {
            return;
        }
        let (source, asked) = (source_of(offender), destination_of(offender));
        let from = match way(asked, self.side) {
            Way::Own | Way::Anycast => asked,
            // What went to everyone is not for errors.
            Way::Everyone if matches!(asked, Address::V4(_)) => return,
            _ => self.speaks_from(source),
        };
        let mut out = Vec::new();
        if icmp::error(&mut out, trouble, offender, &self.speaker(from), &is_mine) {
            self.send(out);
        }
    }

    fn send(&mut self, datagram: Vec<u8>) {
        // Nobody is told anything where no way leads.
        let Some(out) = self.back(destination_of(&datagram)) else { return };
        if datagram.len() <= mtu(out) {
            self.sent.push((out, datagram));
            return;
        }
        let six = datagram[0] >> 4 == 6;
        let id = if six { self.choice.ident6 } else { self.choice.ident.into() };
        let sent = &mut self.sent;
        fragment::cut(&datagram, mtu(out), id, |piece| sent.push((out, piece.to_vec()))).expect("room for pieces");
    }
}

fn address_at(datagram: &[u8], four: usize, six: usize) -> Address {
    let octets = |at: usize| <[u8; 16]>::try_from(&datagram[at..at + 16]).expect("16 bytes");
    if datagram[0] >> 4 == 6 {
        return IpAddr::from(octets(six)).into();
    }
    Address::V4(v4(datagram[four..four + 4].try_into().expect("4 bytes")))
}

fn source_of(datagram: &[u8]) -> Address {
    address_at(datagram, 12, 8)
}

fn destination_of(datagram: &[u8]) -> Address {
    address_at(datagram, 16, 24)
}
