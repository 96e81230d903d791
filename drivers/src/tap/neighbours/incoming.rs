//! Frames from the guest: what they ask, what they tell, and who speaks in them.

use std::net::IpAddr;

use super::super::arp::{self, Operation};
use super::super::counters::Reason;
use super::super::ethernet::{Frame, Mac, Payload};
use super::super::ndp::{self, Advertisement, Message, Solicitation};
use super::super::neighbourhood::{Event, News};
use super::stations::{Asker, RETRY, is_learnable, unspecified};
use super::{Neighbours, Owner, World, addresses};

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

impl Neighbours {
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
                let asker = answer.destination.into();
                answer.solicited
                    && !asked
                    && matches!(world.owner(asker), Owner::Other(_))
                    && !world.speaks_ethernet(asker)
            }
        }
    }

    /// The guest asks who has `target`.
    fn question(&mut self, target: IpAddr, asker: Asker, speaker: Speaker, world: &mut dyn World, now: u64) {
        let is_probe = asker.address.is_unspecified();
        if !is_probe && !is_learnable(asker.address) {
            // An answer would go to a group: RFC 1122 section 3.2.1.3, RFC 4291 section 2.7.
            return self.counters.count(Reason::Malformed);
        }
        if !is_learnable(target) {
            return self.counters.count(Reason::Unanswered);
        }
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
    pub(super) fn answer(&mut self, target: IpAddr, mac: Mac, asker: Asker, world: &mut dyn World, now: u64) {
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
        let mut news = None;
        match world.owner(address) {
            Owner::Own => {}
            Owner::Nobody => {
                news = self.learn(address, world, now);
                if news.is_none() {
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
        let one_mac = self.station(address, world, now).own && !self.bridges;
        let answers = match mac {
            Some(mac) if one_mac => {
                self.guest_speaks_with(mac, world, now);
                false
            }
            _ => self.station_speaks_with(address, mac, sign, now),
        };
        if let Some(news) = news.or(answers.then_some(News::Found)) {
            world.announce(Event::Told { address, mac: self.mac, news });
        }
        Speaker::Ours
    }

    /// Enters an address that nobody has. Returns what that is to others.
    fn learn(&mut self, address: IpAddr, world: &mut dyn World, now: u64) -> Option<News> {
        if !self.stations.contains(address) && !self.stations.has_room() || !world.learn(address) {
            return None;
        }
        self.stations.remove(address);
        self.stations.checked(address, || false, now);
        self.counters.count(Reason::Learned);
        // Others may still know the MAC of who had it.
        let contested = self.contested.take_if(|(last, at)| *last == address && now.saturating_sub(*at) < CONTESTED);
        Some(if contested.is_some() { News::Moved } else { News::Found })
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
    /// Returns whether that answers a question.
    fn station_speaks_with(&mut self, address: IpAddr, mac: Option<Mac>, sign: Sign, now: u64) -> bool {
        let Some(station) = self.stations.get(address) else { return false };
        let known = match (station.mac, mac) {
            (None, mac) => mac,
            (Some(_), Some(mac)) if sign == Sign::Claim => Some(mac),
            (Some(old), Some(mac)) if old != mac => {
                // Whose is it? The station will be asked: nothing that was said here counts as heard from it.
                return false;
            }
            (known, _) => known,
        };
        station.mac = known;
        station.hear(now);
        self.next = self.next.min(station.deadline());
        known.is_some_and(|mac| self.questions.answer(address, mac))
    }
}
