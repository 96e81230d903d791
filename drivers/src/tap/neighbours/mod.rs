//! One TAP's view of the network: who is behind it, who asks for whom, and where a datagram's frame goes.
//!
//! # Theory of operation
//!
//! There is no wire. The base carries datagrams by IP address, so MACs mean something only between a driver and its guest,
//! and this is the guest's counterpart there. It speaks for every other NIC of the network, in that NIC's name and with its
//! MAC, and keeps to itself what two guests would otherwise have to tell each other:
//!
//! ```text
//!   guest asks for an address      another NIC has it     answered at once, from the host table
//!                                  its own side has it    silence: who has it hears the question, too
//!                                  nobody has it          the other TAPs' guests are asked; silence if they are silent
//!   guest speaks as an address     that nobody has        learned: entered into the host table, others may be waiting
//!                                  that another NIC has   a conflict: counted, and what it says of neighbours is void;
//!                                                         if the other was found to use it, it is asked whether it still does
//!                                  with another MAC       the guest moved: its row changes, the others are told
//!   datagram for the guest         one guest              to the guest's MAC
//!                                  a bridge               to the MAC of the station; it is asked for, the datagram waits
//! ```
//!
//! In `incoming` the guest speaks, in `outgoing` the LAN speaks to the guest, and here the other TAPs and the clock do.
//!
//! Datagrams are carried whoever they claim to be from, as on any LAN; only what they would teach is bounded. Nothing here
//! grows with what a guest sends: stations, questions, datagrams and bytes that wait, and news to others have limits.

use std::net::IpAddr;
use std::sync::Arc;

use super::arp;
use super::counters::{Counters, Reason};
use super::ethernet::Mac;
use super::ndp;
use super::neighbourhood::{Event, News};

mod incoming;
mod outgoing;
pub mod questions;
mod routers;
pub mod stations;
mod world;

use outgoing::voice;
use questions::{Bucket, Questions, Waits};
use routers::Routers;
use stations::{Asker, Station, Stations, Wants, unspecified};
pub use world::{Kept, Owner, Way, World};

/// Questions a second, and at once, that a guest may have passed on to others.
const PASSED_ON: (u64, u64) = (100, 50);
/// Questions a second, and at once, that are put to a guest; those of a bridge are many more than one station's.
const PUT: (u64, u64) = (1000, 256);
/// Changes of MAC: each is news for the whole network.
const MOVES: (u64, u64) = (1, 4);

/// The neighbours of one TAP.
pub struct Neighbours {
    mac: Mac,
    voice: Mac,
    bridges: bool,
    counters: Arc<Counters>,
    stations: Stations,
    questions: Questions,
    waits: Waits,
    routers: Routers,
    may_pass_on: Bucket,
    may_put: Bucket,
    may_move: Bucket,
    /// The address of the last conflict, and when it was.
    contested: Option<(IpAddr, u64)>,
    next: u64,
}

impl Neighbours {
    /// A TAP whose NIC has the addresses `own` and, in its row, `mac`.
    ///
    /// With `bridges` many stations may be behind it, each with a MAC of its own; `mac` then stands for all of them on the
    /// LAN. Otherwise `mac` is the guest's, until the guest speaks with another.
    #[must_use]
    pub fn new(own: &[IpAddr], mac: Mac, bridges: bool, counters: Arc<Counters>) -> Self {
        let mut voice = mac;
        // Questions that are nobody else's need a MAC that is no station's: the NIC's own in another block of locally
        // administered addresses.
        voice[0] ^= 0x80;
        Self {
            mac,
            voice,
            bridges,
            counters,
            stations: Stations::new(own, bridges),
            questions: Questions::default(),
            waits: Waits::default(),
            routers: Routers::default(),
            may_pass_on: Bucket::new(PASSED_ON.0, PASSED_ON.1),
            may_put: Bucket::new(PUT.0, PUT.1),
            may_move: Bucket::new(MOVES.0, MOVES.1),
            contested: None,
            next: u64::MAX,
        }
    }

    /// The NIC's MAC, as its row should have it.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Whether every datagram to one address goes to [`Neighbours::mac`], so that none needs [`Neighbours::outgoing`] but
    /// those to groups.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.bridges && (self.stations.learned() == 0 || self.stations.all_have(self.mac))
    }

    /// Takes in what another TAP of the network, or the base, has to say.
    pub fn hear(&mut self, event: Event, world: &mut dyn World, now: u64) {
        match event {
            Event::Asked { target, asker, mac } => self.asked(target, Asker { address: asker, mac }, world, now),
            Event::Told { address, news, .. } => {
                // The tables know it better than news that may be late.
                if let Owner::Other(mac) = world.owner(address) {
                    self.told(address, mac, news, world, now);
                }
            }
        }
    }

    /// The station that has an address of which the tables say that it is this NIC's.
    fn station(&mut self, address: IpAddr, world: &dyn World, now: u64) -> &mut Station {
        // The base may have given it to the NIC meanwhile.
        self.stations.checked(address, || !world.is_learned(address), now)
    }

    fn asked(&mut self, target: IpAddr, asker: Asker, world: &mut dyn World, now: u64) {
        match world.owner(target) {
            Owner::Own => {
                let voice = voice(self.voice, target);
                if self.station(target, world, now).doubt(now, voice) {
                    self.next = now;
                    self.questions.put(target, None, now);
                    self.count_displaced();
                } else {
                    world.announce(Event::Told { address: target, mac: self.mac, news: News::Found });
                }
            }
            Owner::Nobody => {
                if !self.may_put.take(now) {
                    return self.counters.count(Reason::RateLimited);
                }
                let name =
                    if target.is_ipv4() == asker.address.is_ipv4() { asker.address } else { unspecified(target) };
                // Not repeated here: who wants to know asks again.
                self.next = self.next.min(self.questions.put(target, None, now));
                self.count_displaced();
                self.put(target, None, Asker { address: name, mac: asker.mac }, world);
            }
            Owner::Other(_) | Owner::OffLink => {}
        }
    }

    /// Another NIC has `address`, with `mac`.
    fn told(&mut self, address: IpAddr, mac: Mac, news: News, world: &mut dyn World, now: u64) {
        self.stations.remove(address);
        self.counters.add(Reason::Elsewhere, self.questions.give_up(address) as u64);
        for asker in self.waits.answer(address) {
            self.answer(address, mac, asker, world, now);
        }
        if news == News::Moved {
            match address {
                IpAddr::V4(address) => world.transmit(&arp::announcement(mac, address)),
                IpAddr::V6(address) => {
                    let is_router = self.routers.contains(address, now);
                    // RFC 4861 section 7.2.6.
                    world.transmit(&ndp::advertisement(None, mac, address, is_router));
                }
            }
        }
    }

    /// Does what is due: questions that are repeated or given up, MACs that want confirming, addresses that were not heard
    /// for long. Returns when it wants to be called again; `None`: not before another call. It costs nothing before that.
    #[inline]
    pub fn due(&mut self, world: &mut dyn World, now: u64) -> Option<u64> {
        if now >= self.next {
            self.do_due(world, now);
        }
        (self.next != u64::MAX).then_some(self.next)
    }

    #[cold]
    fn do_due(&mut self, world: &mut dyn World, now: u64) {
        let mut actions = Wants::default();
        let mut repeated = Vec::new();
        let mac = self.voice;
        let stations = self.stations.due(now, |about| voice(mac, about), &mut actions);
        let (lost, questions) = self.questions.due(now, |address, asker| repeated.push((address, None, asker)));
        let (unanswered, waits) = self.waits.due(now);
        self.counters.add(Reason::Unresolved, lost);
        self.counters.add(Reason::Unanswered, unanswered);
        self.counters.add(Reason::Forgotten, actions.forgotten.len() as u64);
        for address in actions.forgotten {
            world.forget(address);
        }
        for address in actions.released {
            // Who wants it may have said so once only (RFC 5227 section 2.3), and is heard now that it is free. Not from nobody:
            // to who is still making sure that it is, another's probe means that it is not.
            let voice = voice(mac, address);
            let asker = self.stations.own_like(address).map_or(voice, |own| Asker { address: own, mac: self.mac });
            world.announce(Event::Asked { target: address, asker: asker.address, mac: asker.mac });
        }
        for (address, station, asker) in actions.questions.into_iter().chain(repeated) {
            self.put(address, station, asker, world);
        }
        self.next = stations.min(questions).min(waits);
    }

    /// What is held at the moment, for tests that bound it: addresses, questions of either side, datagrams, their bytes.
    #[must_use]
    pub fn held(&self) -> Held {
        let (open, datagrams, bytes) = self.questions.held();
        Held { learned: self.stations.learned(), questions: open, waits: self.waits.len(), datagrams, bytes }
    }
}

/// See [`Neighbours::held`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Addresses that were learned.
    pub learned: usize,
    /// Questions put to the guest's side.
    pub questions: usize,
    /// Questions of the guest's side that others may answer.
    pub waits: usize,
    /// Datagrams that wait for a MAC.
    pub datagrams: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Source and destination of a datagram with a whole fixed header.
#[inline]
fn addresses(datagram: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match datagram.first()? >> 4 {
        4 => {
            let at = |at: usize| Some(IpAddr::from(*datagram.get(at..)?.first_chunk::<4>()?));
            Some((at(12)?, at(16)?))
        }
        6 => {
            let at = |at: usize| Some(IpAddr::from(*datagram.get(at..)?.first_chunk::<16>()?));
            Some((at(8)?, at(24)?))
        }
        _ => None,
    }
}
