//! What the neighbours need of the LAN around them.

use std::net::IpAddr;

use super::super::counters::Reason;
use super::super::ethernet::Mac;
use super::super::neighbourhood::Event;

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

    /// Whether the NIC that has `address` has it only because it was heard there. Asked for few addresses a second.
    fn is_learned(&self, address: IpAddr) -> bool;

    /// Whether the guest that has `address` speaks Ethernet, so that its own driver answers what it asks. Asked for few
    /// addresses a second.
    fn speaks_ethernet(&self, address: IpAddr) -> bool;

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
