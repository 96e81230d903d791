//! A LAN of TAPs without the base: a plain map for the tables, vectors for the devices.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use vnet_drivers::tap::counters::{Counters, Reason};
use vnet_drivers::tap::ethernet;
use vnet_drivers::tap::neighbourhood::Event;
use vnet_drivers::tap::neighbours::questions::{KEPT_BYTES, OPEN};
use vnet_drivers::tap::neighbours::stations::{LEARNED, LEARNED_BRIDGE};
use vnet_drivers::tap::neighbours::{Held, Kept, Neighbours, Owner, Way, World};

use crate::wire::{Mac, Said, read};

pub const SECOND: u64 = 1_000_000_000;

/// MAC of the NIC in a slot, and of its guest unless the guest changes it.
pub fn mac(slot: u8) -> Mac {
    [2, 0, 0, 0, 0, slot]
}

pub fn v4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

pub fn v6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host)
}

pub struct Tables {
    /// Address to slot, and whether it was learned.
    pub hosts: BTreeMap<IpAddr, (u8, bool)>,
    pub macs: BTreeMap<u8, Mac>,
    /// Slots of TAPs.
    pub taps: BTreeSet<u8>,
    pub room: usize,
}

impl Tables {
    /// 10.0.0.0/24 and fd00::/64.
    fn is_on_link(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[..3] == [10, 0, 0] && address.octets()[3] != 255,
            IpAddr::V6(address) => address.segments()[..4] == [0xfd00, 0, 0, 0] || address.is_unicast_link_local(),
        }
    }
}

pub struct Side {
    slot: u8,
    tables: Rc<RefCell<Tables>>,
    pub sent: Vec<Vec<u8>>,
    pub events: Vec<Event>,
}

impl World for Side {
    fn owner(&self, address: IpAddr) -> Owner {
        let tables = self.tables.borrow();
        match tables.hosts.get(&address) {
            Some((slot, _)) if *slot == self.slot => Owner::Own,
            Some((slot, _)) => Owner::Other(tables.macs[slot]),
            None if Tables::is_on_link(address) => Owner::Nobody,
            None => Owner::OffLink,
        }
    }

    fn is_learned(&self, address: IpAddr) -> bool {
        self.tables.borrow().hosts.get(&address).is_some_and(|(_, learned)| *learned)
    }

    fn speaks_ethernet(&self, address: IpAddr) -> bool {
        let tables = self.tables.borrow();
        tables.hosts.get(&address).is_some_and(|(slot, _)| tables.taps.contains(slot))
    }

    fn learn(&mut self, address: IpAddr) -> bool {
        let mut tables = self.tables.borrow_mut();
        assert!(Tables::is_on_link(address) && !tables.hosts.contains_key(&address), "{address} may not be learned");
        if tables.room == 0 {
            return false;
        }
        tables.room -= 1;
        tables.hosts.insert(address, (self.slot, true));
        true
    }

    fn forget(&mut self, address: IpAddr) {
        let mut tables = self.tables.borrow_mut();
        if tables.hosts.get(&address) == Some(&(self.slot, true)) {
            tables.room += 1;
            tables.hosts.remove(&address);
        }
    }

    fn guest_moved(&mut self, mac: Mac) -> bool {
        let mut tables = self.tables.borrow_mut();
        if tables.macs.iter().any(|(slot, other)| *slot != self.slot && *other == mac) {
            return false;
        }
        tables.macs.insert(self.slot, mac);
        true
    }

    fn announce(&mut self, event: Event) {
        self.events.push(event);
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.sent.push(frame.to_vec());
    }
}

pub struct Tap {
    pub neighbours: Neighbours,
    pub side: Side,
    pub counters: Arc<Counters>,
    pub bridges: bool,
}

impl Tap {
    /// Everything that was sent to the guest since the last call.
    pub fn said(&mut self) -> Vec<Said> {
        let read = |frame: Vec<u8>| read(&frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
        std::mem::take(&mut self.side.sent).into_iter().map(read).collect()
    }

    pub fn count(&self, reason: Reason) -> u64 {
        self.counters.get(reason)
    }

    /// Every count that is not 0.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counters.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name(), count)).collect()
    }
}

/// Guests behind TAPs, in slots 1, 2, …; others may stand in the tables only.
pub struct Lan {
    pub taps: BTreeMap<u8, Tap>,
    pub tables: Rc<RefCell<Tables>>,
    pub now: u64,
}

impl Lan {
    pub fn new() -> Self {
        let tables = Tables { hosts: BTreeMap::new(), macs: BTreeMap::new(), taps: BTreeSet::new(), room: usize::MAX };
        Self { taps: BTreeMap::new(), tables: Rc::new(RefCell::new(tables)), now: 1000 * SECOND }
    }

    /// A NIC that is no TAP: its guest speaks IP.
    pub fn nic(&mut self, slot: u8, addresses: &[IpAddr]) {
        let mut tables = self.tables.borrow_mut();
        tables.macs.insert(slot, mac(slot));
        tables.hosts.extend(addresses.iter().map(|address| (*address, (slot, false))));
    }

    /// A NIC behind a TAP.
    pub fn tap(&mut self, slot: u8, addresses: &[IpAddr], bridges: bool) {
        self.nic(slot, addresses);
        self.tables.borrow_mut().taps.insert(slot);
        let counters = Arc::<Counters>::default();
        let neighbours = Neighbours::new(addresses, mac(slot), bridges, Arc::clone(&counters));
        let side = Side { slot, tables: Rc::clone(&self.tables), sent: Vec::new(), events: Vec::new() };
        self.taps.insert(slot, Tap { neighbours, side, counters, bridges });
    }

    /// The guest in `slot` sends a frame. Returns the datagram that is forwarded.
    pub fn frame(&mut self, slot: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let tap = self.taps.get_mut(&slot).unwrap();
        let forwarded = match ethernet::parse(frame, false) {
            Ok(frame) => tap.neighbours.incoming(&frame, &mut tap.side, self.now).map(<[u8]>::to_vec),
            Err(reason) => {
                tap.counters.count(reason);
                None
            }
        };
        self.settle();
        forwarded
    }

    /// Where the frame of a datagram from `source` to `slot`'s guest goes; one that has to wait is kept.
    pub fn datagram(&mut self, slot: u8, datagram: &[u8]) -> Way {
        let tap = self.taps.get_mut(&slot).unwrap();
        let to = vnet_drivers::base::datagram::destination(datagram).map(IpAddr::from).unwrap();
        let to_all = to.is_multicast() || to == IpAddr::from(v4(255)) || to == IpAddr::from(Ipv4Addr::BROADCAST);
        let way = tap.neighbours.outgoing(datagram, to_all, &mut tap.side, self.now);
        if let Way::Resolve(next_hop) = way {
            tap.neighbours.keep(next_hop, Kept { datagram: datagram.to_vec(), word: None, source: mac(9) });
        }
        self.settle();
        way
    }

    /// Lets everybody hear what others announced, and do what is due now.
    pub fn settle(&mut self) {
        let mut news = VecDeque::new();
        loop {
            for (slot, tap) in &mut self.taps {
                tap.neighbours.due(&mut tap.side, self.now);
                news.extend(tap.side.events.drain(..).map(|event| (*slot, event)));
            }
            let Some((from, event)) = news.pop_front() else { return };
            for (_, tap) in self.taps.iter_mut().filter(|(slot, _)| **slot != from) {
                tap.neighbours.hear(event, &mut tap.side, self.now);
            }
        }
    }

    /// Lets time pass, stopping wherever somebody wants to be called.
    pub fn pass(&mut self, nanoseconds: u64) {
        let end = self.now + nanoseconds;
        loop {
            self.settle();
            let next = self.taps.values_mut().filter_map(|tap| tap.neighbours.due(&mut tap.side, self.now)).min();
            match next {
                Some(next) if next <= end => {
                    assert!(next > self.now, "what is due was done");
                    self.now = next;
                }
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }

    pub fn said(&mut self, slot: u8) -> Vec<Said> {
        self.taps.get_mut(&slot).unwrap().said()
    }

    /// What must hold whatever guests have sent: what went out are frames that a station may send, none of them in the name
    /// of the guest that they went to, and what is held is bounded.
    pub fn check(&mut self) {
        for (slot, tap) in &mut self.taps {
            for said in tap.said() {
                let from = match said {
                    Said::ArpRequest { sender_mac, .. } | Said::ArpReply { sender_mac, .. } => sender_mac,
                    Said::Solicitation { from, .. } | Said::Advertisement { from, .. } => from,
                };
                assert_ne!(from, tap.neighbours.mac(), "{slot}: {said:?}");
            }
            let held = tap.neighbours.held();
            assert!(held.learned <= if tap.bridges { LEARNED_BRIDGE } else { LEARNED }, "{held:?}");
            assert!(held.questions <= OPEN && held.waits <= OPEN && held.bytes <= KEPT_BYTES, "{held:?}");
        }
    }

    /// What must hold once all is quiet: nothing waits, and nothing that was learned is left.
    pub fn check_quiet(&mut self) {
        self.pass(700 * SECOND);
        self.check();
        for tap in self.taps.values_mut() {
            while tap.neighbours.resolved().is_some() {}
            assert_eq!(tap.neighbours.held(), Held::default());
        }
        assert!(self.tables.borrow().hosts.values().all(|(_, learned)| !learned));
    }

    pub fn count(&self, slot: u8, reason: Reason) -> u64 {
        self.taps[&slot].count(reason)
    }

    pub fn owner(&self, address: impl Into<IpAddr>) -> Option<u8> {
        self.tables.borrow().hosts.get(&address.into()).map(|(slot, _)| *slot)
    }
}
