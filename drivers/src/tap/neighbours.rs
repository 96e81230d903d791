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
//! Datagrams are carried whoever they claim to be from, as on any LAN; only what they would teach is bounded. Nothing here
//! grows with what a guest sends: stations, questions, datagrams and bytes that wait, and news to others have limits.

use std::net::IpAddr;
use std::sync::Arc;

use super::arp::{self, Operation};
use super::counters::{Counters, Reason};
use super::ethernet::{BROADCAST, Frame, Mac, Payload, group_mac};
use super::ndp::{self, Advertisement, Message, Solicitation};
use super::neighbourhood::{Event, News};
use super::questions::{Bucket, Questions, Waits};
use super::routers::Routers;
use super::stations::{Asker, RETRY, Stations, Wants, is_learnable, unspecified};

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

/// Questions a second, and at once, that a guest may have passed on to others.
const PASSED_ON: (u64, u64) = (100, 50);
/// Questions a second, and at once, that are put to a guest; those of a bridge are many more than one station's.
const PUT: (u64, u64) = (1000, 256);
/// Changes of MAC: each is news for the whole network.
const MOVES: (u64, u64) = (1, 4);

/// How long after a conflict whoever has the address then has taken it over, in nanoseconds.
const CONTESTED: u64 = 10_000_000_000;

/// How much of what was known an utterance may change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A datagram from the address: its frame may have come through a router.
    Datagram,
    /// An advertisement without the override flag: RFC 4861 section 7.2.5.
    Hint,
    /// ARP, or neighbour discovery otherwise.
    Claim,
}

/// Whose an address is that was heard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Ours,
    /// Another NIC has it.
    Theirs(Mac),
    /// It has no place in the tables.
    Nobodys,
}

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
        !self.bridges && self.stations.learned() == 0
    }

    /// Takes in what a frame of the guest says of neighbours, and returns the datagram to forward, if there is one.
    ///
    /// ARP, neighbour solicitations and advertisements are consumed. Whatever befalls the frame is counted here. `now` is in
    /// nanoseconds of the worker's clock, here and below.
    #[inline]
    pub fn incoming<'f>(&mut self, frame: &Frame<'f>, world: &mut dyn World, now: u64) -> Option<&'f [u8]> {
        match frame.payload {
            Payload::Arp(packet) => {
                self.arp(packet, world, now);
                None
            }
            Payload::Ip(datagram) => match ndp::parse(datagram) {
                Ok(None) => self.datagram(frame, datagram, world, now),
                Ok(Some(Message::Solicitation(question))) => {
                    self.solicitation(frame.source, &question, world, now);
                    None
                }
                Ok(Some(Message::Advertisement(answer))) => {
                    self.advertisement(frame.source, &answer, world, now).then_some(datagram)
                }
                Err(reason) => {
                    self.counters.count(reason);
                    None
                }
            },
        }
    }

    fn datagram<'f>(
        &mut self,
        frame: &Frame<'_>,
        datagram: &'f [u8],
        world: &mut dyn World,
        now: u64,
    ) -> Option<&'f [u8]> {
        let Some((source, destination)) = addresses(datagram) else { return Some(datagram) };
        // A bridge floods frames to stations that it does not know yet, and a guest may speak to itself.
        if self.stations.contains(destination) && world.owner(destination) == Owner::Own {
            self.counters.count(Reason::OtherHost);
            return None;
        }
        match self.heard(source, Some(frame.source), Sign::Datagram, world, now) {
            Speaker::Theirs(mac) if self.is_loop(mac, frame.source) => None,
            Speaker::Theirs(_) => {
                self.conflict(source, world, now);
                Some(datagram)
            }
            _ => Some(datagram),
        }
    }

    /// The guest uses an address that another NIC has. Should that NIC only have been heard with it, and be silent now, the
    /// address is free.
    fn conflict(&mut self, address: IpAddr, world: &mut dyn World, now: u64) {
        self.counters.count(Reason::Conflict);
        if self.contested.is_some_and(|(last, at)| last == address && now.saturating_sub(at) < RETRY) {
            return;
        }
        self.contested = Some((address, now));
        if self.may_pass_on.take(now) {
            world.announce(Event::Asked { target: address, asker: unspecified(address), mac: self.mac });
        }
    }

    /// Whether what another NIC's address says comes with that NIC's MAC: then it is a frame of ours that came back.
    fn is_loop(&self, owner: Mac, from: Mac) -> bool {
        let is_loop = self.bridges && owner == from;
        if is_loop {
            self.counters.count(Reason::Looped);
        }
        is_loop
    }

    fn arp(&mut self, packet: &[u8], world: &mut dyn World, now: u64) {
        let packet = match arp::parse(packet) {
            Ok(packet) => packet,
            Err(reason) => return self.counters.count(reason),
        };
        let sender = packet.sender.into();
        let speaker = self.heard(sender, Some(packet.sender_mac), Sign::Claim, world, now);
        if let Speaker::Theirs(mac) = speaker {
            if self.is_loop(mac, packet.sender_mac) {
                return;
            }
            self.conflict(sender, world, now);
        }
        if packet.sender == packet.target && !matches!(speaker, Speaker::Theirs(_)) {
            return self.announced(sender, speaker, world, now);
        }
        if packet.operation == Operation::Request {
            let asker = Asker { address: sender, mac: packet.sender_mac };
            self.question(packet.target.into(), asker, speaker, world, now);
        }
    }

    /// The guest tells everybody that it has `address` (RFC 5227 section 2.3, RFC 4861 section 7.2.6), so everybody hears it.
    fn announced(&mut self, address: IpAddr, speaker: Speaker, world: &mut dyn World, now: u64) {
        if speaker != Speaker::Ours {
            return;
        }
        if self.may_pass_on.take(now) {
            world.announce(Event::Told { address, mac: self.mac, news: News::Moved });
        } else {
            self.counters.count(Reason::RateLimited);
        }
    }

    fn solicitation(&mut self, from: Mac, question: &Solicitation, world: &mut dyn World, now: u64) {
        let sender = question.source.into();
        // RFC 4861 section 7.2.3: without a MAC in it a question says nothing of the asker's.
        let sign = if question.link.is_some() { Sign::Claim } else { Sign::Datagram };
        let mac = question.link.unwrap_or(from);
        let speaker = self.heard(sender, Some(mac), sign, world, now);
        if let Speaker::Theirs(owner) = speaker {
            if self.is_loop(owner, from) {
                return;
            }
            self.conflict(sender, world, now);
        }
        self.question(question.target.into(), Asker { address: sender, mac }, speaker, world, now);
    }

    /// Returns whether the datagram is to be forwarded: it answers a question that the LAN carried as a datagram, from a
    /// guest that speaks IP and no Ethernet.
    fn advertisement(&mut self, from: Mac, answer: &Advertisement, world: &mut dyn World, now: u64) -> bool {
        let target = IpAddr::from(answer.target);
        let asked = self.questions.contains(target);
        let sign = if answer.overrides { Sign::Claim } else { Sign::Hint };
        match self.heard(target, answer.link, sign, world, now) {
            Speaker::Theirs(owner) => {
                if !self.is_loop(owner, answer.link.unwrap_or(from)) {
                    self.conflict(target, world, now);
                }
                false
            }
            Speaker::Nobodys => false,
            Speaker::Ours if answer.destination.is_multicast() => {
                // One that answers a question has been told to who asked.
                if !asked {
                    self.announced(target, Speaker::Ours, world, now);
                }
                false
            }
            Speaker::Ours => {
                answer.solicited && !asked && matches!(world.owner(answer.destination.into()), Owner::Other(_))
            }
        }
    }

    /// The guest asks who has `target`.
    fn question(&mut self, target: IpAddr, asker: Asker, speaker: Speaker, world: &mut dyn World, now: u64) {
        if !is_learnable(target) {
            return self.counters.count(Reason::Unanswered);
        }
        let is_probe = asker.address.is_unspecified();
        match world.owner(target) {
            // Who makes sure that an address is free gets no answer from memory, where there is but memory.
            Owner::Other(_) if is_probe && world.is_learned(target) => self.pass_on(target, asker, speaker, world, now),
            // RFC 826, RFC 4861 section 7.2.4; RFC 5227 section 2.1.1 and RFC 4862 section 5.4.3 where it is a probe.
            Owner::Other(mac) => self.answer(target, mac, asker, world, now),
            Owner::Own | Owner::OffLink => self.counters.count(Reason::Unanswered),
            Owner::Nobody => self.pass_on(target, asker, speaker, world, now),
        }
    }

    fn pass_on(&mut self, target: IpAddr, asker: Asker, speaker: Speaker, world: &mut dyn World, now: u64) {
        if self.waits.joins(target, asker, now) {
            return self.counters.count(Reason::PassedOn);
        }
        if !self.may_pass_on.take(now) {
            return self.counters.count(Reason::RateLimited);
        }
        let (until, displaced) = self.waits.pass_on(target, asker, now);
        self.next = self.next.min(until);
        self.counters.add(Reason::Unanswered, displaced);
        self.counters.count(Reason::PassedOn);
        // Others learn from questions, so one in a name that is not the guest's goes on without it.
        let name = if speaker == Speaker::Ours { asker.address } else { unspecified(target) };
        world.announce(Event::Asked { target, asker: name, mac: self.mac });
    }

    /// Tells an asker behind this TAP that `mac` has `target`.
    fn answer(&mut self, target: IpAddr, mac: Mac, asker: Asker, world: &mut dyn World, now: u64) {
        match (target, asker.address) {
            (IpAddr::V4(target), IpAddr::V4(address)) => {
                world.transmit(&arp::reply(asker.mac, address, mac, target));
                self.counters.count(Reason::ArpAnswered);
            }
            (IpAddr::V6(target), IpAddr::V6(address)) => {
                let asker = (!address.is_unspecified()).then_some((asker.mac, address));
                world.transmit(&ndp::advertisement(asker, mac, target, self.routers.contains(target, now)));
                self.counters.count(Reason::NdpAnswered);
            }
            // Askers ask for addresses of their own family.
            _ => {}
        }
    }

    /// An address has spoken behind this TAP.
    #[inline]
    fn heard(&mut self, address: IpAddr, mac: Option<Mac>, sign: Sign, world: &mut dyn World, now: u64) -> Speaker {
        let own_mac = self.mac;
        let bridges = self.bridges;
        if let Some(station) = self.stations.get(address)
            && station.is_settled(now)
            && (station.mac == mac || !bridges && station.mac.is_none() && mac == Some(own_mac))
        {
            station.hear(now);
            return Speaker::Ours;
        }
        self.heard_anew(address, mac, sign, world, now)
    }

    #[cold]
    fn heard_anew(
        &mut self,
        address: IpAddr,
        mac: Option<Mac>,
        sign: Sign,
        world: &mut dyn World,
        now: u64,
    ) -> Speaker {
        if !is_learnable(address) {
            return Speaker::Nobodys;
        }
        match world.owner(address) {
            Owner::Own => {}
            Owner::Nobody => {
                if !self.learn(address, world, now) {
                    self.stations.remove(address);
                    self.counters.count(Reason::NotLearned);
                    return Speaker::Nobodys;
                }
            }
            Owner::Other(mac) => {
                self.stations.remove(address);
                return Speaker::Theirs(mac);
            }
            Owner::OffLink => {
                self.stations.remove(address);
                return Speaker::Nobodys;
            }
        }
        let follows = !self.bridges && self.stations.enter(address, now).own;
        match mac {
            Some(mac) if follows => self.guest_speaks_with(mac, world, now),
            _ => self.station_speaks_with(address, mac, sign, world, now),
        }
        Speaker::Ours
    }

    fn learn(&mut self, address: IpAddr, world: &mut dyn World, now: u64) -> bool {
        let known = self.stations.contains(address);
        let learned = (known || self.stations.has_room(address)) && world.learn(address);
        if learned {
            self.counters.count(Reason::Learned);
            // Others may still know the MAC of who had it.
            let contested =
                self.contested.take_if(|(last, at)| *last == address && now.saturating_sub(*at) < CONTESTED);
            let news = if contested.is_some() { News::Moved } else { News::Found };
            world.announce(Event::Told { address, mac: self.mac, news });
        }
        learned
    }

    /// One of the addresses of a guest that has one MAC was heard with `mac`.
    fn guest_speaks_with(&mut self, mac: Mac, world: &mut dyn World, now: u64) {
        if mac == self.mac {
            return;
        }
        if !self.may_move.take(now) {
            return self.counters.count(Reason::RateLimited);
        }
        if !world.guest_moved(mac) {
            return self.counters.count(Reason::Conflict);
        }
        self.counters.count(Reason::GuestMoved);
        self.stations.follow(self.mac, mac);
        self.mac = mac;
        for address in self.stations.addresses() {
            world.announce(Event::Told { address, mac, news: News::Moved });
        }
    }

    /// A station, one of many or one that was learned, was heard: what is known of its MAC changes as far as `sign` may.
    fn station_speaks_with(&mut self, address: IpAddr, mac: Option<Mac>, sign: Sign, world: &mut dyn World, now: u64) {
        let Some(station) = self.stations.get(address) else { return };
        let known = match (station.mac, mac) {
            (None, mac) => mac,
            (Some(_), Some(mac)) if sign == Sign::Claim => Some(mac),
            (Some(old), Some(mac)) if old != mac => {
                // Whose is it? The next datagram has the station asked: nothing that it said counts as heard.
                return;
            }
            (known, _) => known,
        };
        station.mac = known;
        station.hear(now);
        self.next = self.next.min(station.deadline());
        if let Some(mac) = known
            && self.questions.answer(address, mac)
        {
            world.announce(Event::Told { address, mac: self.mac, news: News::Found });
        }
    }

    /// Where the frame of a datagram to the guest goes; `to_all` says that its destination is a broadcast or multicast
    /// address.
    ///
    /// What is handed to the guest past this must go to one address, with [`Neighbours::is_plain`].
    #[inline]
    pub fn outgoing(&mut self, datagram: &[u8], to_all: bool, world: &mut dyn World, now: u64) -> Way {
        if let Some((router, lifetime)) = ndp::router(datagram) {
            self.routers.heard(router, lifetime, now);
        }
        if !to_all && self.is_plain() {
            return Way::To(self.mac);
        }
        let Some((source, destination)) = addresses(datagram) else { return self.nowhere(Reason::Malformed) };
        if to_all {
            return Way::To(group_mac(destination).unwrap_or(BROADCAST));
        }
        if !self.bridges {
            let station = self.stations.get(destination).and_then(|station| station.mac);
            return Way::To(station.unwrap_or(self.mac));
        }
        self.way_to_station(source, destination, world, now)
    }

    fn way_to_station(&mut self, source: IpAddr, destination: IpAddr, world: &mut dyn World, now: u64) -> Way {
        let mut next_hop = destination;
        if !self.stations.contains(destination) {
            match world.owner(destination) {
                Owner::Nobody | Owner::Own => {}
                Owner::Other(_) => return self.nowhere(Reason::Elsewhere),
                // The NIC leads there: what has its own address takes it on.
                Owner::OffLink => match self.stations.own_like(destination) {
                    Some(own) => next_hop = own,
                    None => return self.nowhere(Reason::Unresolved),
                },
            }
        }
        let voice = voice(self.voice, next_hop);
        // It is asked for in the sender's name, if that is a neighbour: what hears the question learns the sender's MAC, too.
        let asker = |world: &dyn World| match world.owner(source) {
            Owner::Other(mac) if source.is_ipv4() == next_hop.is_ipv4() => Asker { address: source, mac },
            _ => voice,
        };
        if let Some(station) = self.stations.get(next_hop)
            && let Some(mac) = station.mac
        {
            if station.use_mac(now, || asker(world)) {
                self.next = now;
            }
            return Way::To(mac);
        }
        if !self.questions.is_repeated(next_hop) {
            if !self.may_put.take(now) {
                return self.nowhere(Reason::RateLimited);
            }
            let asker = asker(world);
            self.next = self.next.min(self.questions.put(next_hop, Some(asker), now));
            self.put(next_hop, None, asker, world);
            self.count_displaced();
        }
        Way::Resolve(next_hop)
    }

    fn nowhere(&self, reason: Reason) -> Way {
        self.counters.count(reason);
        Way::Nowhere(reason)
    }

    /// Keeps a datagram until the MAC of `next_hop` is known, which [`Neighbours::outgoing`] has just said to resolve.
    pub fn keep(&mut self, next_hop: IpAddr, kept: Kept) {
        if !self.questions.keep(next_hop, kept) {
            self.counters.count(Reason::Unresolved);
        }
        self.count_displaced();
    }

    fn count_displaced(&mut self) {
        self.counters.add(Reason::Displaced, std::mem::take(&mut self.questions.displaced));
    }

    /// A datagram that was kept and can go now, with the MAC that it goes to; the oldest first.
    #[inline]
    pub fn resolved(&mut self) -> Option<(Mac, Kept)> {
        self.questions.resolved()
    }

    /// Puts a question to one station, or to all.
    fn put(&self, target: IpAddr, station: Option<Mac>, asker: Asker, world: &mut dyn World) {
        match (target, asker.address) {
            (IpAddr::V4(target), IpAddr::V4(address)) => {
                world.transmit(&arp::request(station.unwrap_or(BROADCAST), asker.mac, address, target));
            }
            (IpAddr::V6(target), IpAddr::V6(address)) if address.is_unspecified() => {
                world.transmit(&ndp::probe(asker.mac, target));
            }
            (IpAddr::V6(target), IpAddr::V6(address)) => {
                world.transmit(&ndp::solicitation(station, asker.mac, address, target));
            }
            _ => return,
        }
        self.counters.count(Reason::Asked);
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

    fn asked(&mut self, target: IpAddr, asker: Asker, world: &mut dyn World, now: u64) {
        match world.owner(target) {
            Owner::Own => {
                let voice = voice(self.voice, target);
                if self.stations.enter(target, now).doubt(now, voice) {
                    self.next = now;
                    self.questions.put(target, None, now);
                    self.count_displaced();
                } else {
                    world.announce(Event::Told { address: target, mac: self.mac, news: News::Found });
                }
            }
            Owner::Nobody if is_learnable(target) => {
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
            _ => {}
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
        let mut wants = Wants::default();
        let mut repeated = Vec::new();
        let mac = self.voice;
        let stations = self.stations.due(now, |about| voice(mac, about), &mut wants);
        let (lost, questions) = self.questions.due(now, |address, asker| repeated.push((address, None, asker)));
        let (unanswered, waits) = self.waits.due(now);
        self.counters.add(Reason::Unresolved, lost);
        self.counters.add(Reason::Unanswered, unanswered);
        self.counters.add(Reason::Forgotten, wants.forgotten.len() as u64);
        for address in wants.forgotten {
            world.forget(address);
        }
        for (address, station, asker) in wants.questions.into_iter().chain(repeated) {
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

/// In whose name to ask where nobody's will do: a probe's sender, who leaves no trace with IPv4 (RFC 5227 section 2.1), and
/// with IPv6, where a probe would make the station doubt its address, a link-local address of ours.
fn voice(mac: Mac, about: IpAddr) -> Asker {
    let address = match about {
        IpAddr::V4(_) => unspecified(about),
        IpAddr::V6(_) => ndp::link_local(mac).into(),
    };
    Asker { address, mac }
}
