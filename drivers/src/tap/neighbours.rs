//! One TAP's view of the network: who is behind it, who asks for whom, and where a datagram's frame goes.

use std::net::IpAddr;
use std::sync::Arc;

use super::counters::{Counters, Reason};
use super::ethernet::{BROADCAST, Frame, Mac, Payload, group_mac};
use super::neighbourhood::{Event, News};

/// Who has an address, as the base's tables say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It is on the link, and no NIC has it.
    Nobody,
    /// This NIC.
    Own,
    /// Another NIC of the network, with this MAC in its row.
    Other(Mac),
    /// It is not on the link, or belongs to no one station: the prefix's broadcast address.
    OffLink,
}

/// What a driver lends for a call: the base's tables, the other TAPs and its own device.
pub trait World {
    /// Who has `address`.
    fn owner(&self, address: IpAddr) -> Owner;

    /// Enters an address that nobody has into the host table as this NIC's. False when the table has no room.
    fn learn(&mut self, address: IpAddr) -> bool;

    /// Takes a learned address out of the host table, unless it is another NIC's by now.
    fn forget(&mut self, address: IpAddr);

    /// The guest's MAC is another: the NIC's row takes it on. False when another NIC has it; nothing changes then.
    fn guest_moved(&mut self, mac: Mac) -> bool;

    /// Tells the other TAPs of the network.
    fn announce(&mut self, event: Event);

    /// Sends a frame out of this TAP, to its guest.
    fn transmit(&mut self, frame: &[u8]);
}

/// Where the frame of a datagram to this TAP's guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To this MAC.
    To(Mac),
    /// To the MAC of this address, which is being asked for: [`Neighbours::keep`] the datagram meanwhile.
    Resolve(IpAddr),
    /// Nowhere; it is counted already.
    Nowhere(Reason),
}

/// A datagram that waits, or has waited, for a MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The datagram.
    pub datagram: Vec<u8>,
    /// What the base's record says of its offloads.
    pub word: Option<u64>,
    /// The MAC of the NIC that sent it.
    pub source: Mac,
}

/// The neighbours of one TAP.
pub struct Neighbours {
    mac: Mac,
    counters: Arc<Counters>,
}

impl Neighbours {
    /// A TAP whose NIC has the addresses `own` and, in its row, `mac`.
    ///
    /// With `bridges` many stations may be behind it. Its `mac` then stands for all of them on the LAN, and must not be the
    /// MAC of the TAP interface itself: a Linux bridge keeps frames to its ports' own MACs.
    #[must_use]
    pub fn new(own: &[IpAddr], mac: Mac, bridges: bool, counters: Arc<Counters>) -> Self {
        let _ = (own, bridges);
        Self { mac, counters }
    }

    /// The NIC's MAC, as its row should have it.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Takes in what a frame of the guest says of neighbours, and returns the datagram to forward, if there is one.
    ///
    /// ARP, neighbour solicitations and advertisements are consumed. Whatever befalls the frame is counted here.
    pub fn incoming<'f>(&mut self, frame: &Frame<'f>, world: &mut dyn World, now: u64) -> Option<&'f [u8]> {
        let _ = (world, now);
        match frame.payload {
            Payload::Ip(datagram) => Some(datagram),
            Payload::Arp(_) => {
                self.counters.count(Reason::Unanswered);
                None
            }
        }
    }

    /// Where the frame of a datagram to the guest goes; `to_all` says that its destination is a broadcast or multicast
    /// address.
    pub fn outgoing(&mut self, datagram: &[u8], to_all: bool, world: &mut dyn World, now: u64) -> Way {
        let _ = (world, now);
        if !to_all {
            return Way::To(self.mac);
        }
        let group = vnet_base::datagram::destination(datagram).ok().and_then(|address| group_mac(address.into()));
        Way::To(group.unwrap_or(BROADCAST))
    }

    /// Keeps a datagram until the MAC of `next_hop` is known, which [`Neighbours::outgoing`] has just said to resolve.
    pub fn keep(&mut self, next_hop: IpAddr, kept: Kept) {
        let _ = (next_hop, kept);
        self.counters.count(Reason::Unresolved);
    }

    /// A datagram that was kept and can go now, with the MAC that it goes to; the oldest first.
    pub fn resolved(&mut self) -> Option<(Mac, Kept)> {
        None
    }

    /// Takes in what another TAP of the network, or the base, has to say.
    pub fn hear(&mut self, event: Event, world: &mut dyn World, now: u64) {
        let _ = (world, now);
        match event {
            Event::Asked { .. } => self.counters.count(Reason::Asked),
            Event::Told { news: News::Moved | News::Found, .. } => {}
        }
    }

    /// Does what is due: questions that are repeated or given up, MACs that want confirming, addresses that were not heard
    /// for long. Returns when it wants to be called again, in nanoseconds of `now`'s clock; `None`: only after another call.
    pub fn due(&mut self, world: &mut dyn World, now: u64) -> Option<u64> {
        let _ = (world, now);
        None
    }
}
