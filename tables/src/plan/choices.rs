//! What a router may do with a datagram, and which of it a flow takes.

use super::description::PortId;
use super::layout::MOST_EQUAL;
use crate::network::Address;

/// The decision of one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The destination is on this port's network or link.
    OnLink {
        /// A port of the router.
        port: PortId,
    },
    /// On to the next router.
    Router {
        /// The port that it leaves by.
        out: PortId,
        /// The port of the next router that it comes in by.
        into: PortId,
    },
    /// To the NIC that has an address on a port's network.
    Via {
        /// A port of the router, on a network.
        port: PortId,
        /// The address of the next hop.
        address: Address,
    },
    /// No route.
    NoRoute,
    /// A static route says: host unreachable.
    Unreachable,
    /// A static route says: prohibited.
    Prohibited,
    /// A static route says: dropped without a word.
    Blackhole,
}

/// Next steps of equal cost at one router, in an order that does not change while the plan does not.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    list: [Next; MOST_EQUAL],
    count: usize,
}

impl Choices {
    pub(super) fn none() -> Self {
        Self { list: [Next::NoRoute; MOST_EQUAL], count: 0 }
    }

    pub(super) fn one(next: Next) -> Self {
        let mut choices = Self::none();
        choices.add(next);
        choices
    }

    /// What is there already is not added again: two nearest attachments may lie behind the same next hop.
    pub(super) fn add(&mut self, next: Next) {
        if self.count < self.list.len() && !self.as_slice().contains(&next) {
            self.list[self.count] = next;
            self.count += 1;
        }
    }

    /// The steps.
    #[must_use]
    pub fn as_slice(&self) -> &[Next] {
        &self.list[..self.count]
    }

    /// The step that a flow takes.
    ///
    /// Rendezvous hashing (Thaler and Ravishankar 1998): each step draws a number from the flow's hash and itself, the
    /// largest wins. Every step is as likely as every other, and when one goes, only its own flows move. Ports bear
    /// numbers that no two routers share, so routers choose independently of each other: choices do not polarise.
    #[must_use]
    pub fn choose(&self, hash: u32) -> Next {
        match self.as_slice() {
            [] => Next::NoRoute,
            [only] => *only,
            several => *several.iter().max_by_key(|next| draw(hash, next)).unwrap_or(&Next::NoRoute),
        }
    }
}

fn draw(hash: u32, next: &Next) -> u64 {
    let key = match *next {
        Next::Router { out, into } => u64::from(out.0) << 32 | u64::from(into.0),
        Next::Via { port, address: Address::V4(number) } => u64::from(port.0) << 32 | u64::from(number),
        Next::Via { port, address: Address::V6(high, low) } => mix(u64::from(port.0) << 32) ^ mix(high) ^ low,
        _ => 0,
    };
    mix(mix(key) ^ u64::from(hash))
}

/// SplitMix64's finaliser: each bit of the result depends on every bit of the number.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
