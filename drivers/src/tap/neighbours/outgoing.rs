//! Datagrams to the guest: where their frames go, and the questions that it takes to find out.

use std::net::IpAddr;

use super::super::arp;
use super::super::counters::Reason;
use super::super::ethernet::{BROADCAST, Mac, group_mac};
use super::super::ndp;
use super::stations::{Asker, unspecified};
use super::{Kept, Neighbours, Owner, Way, World, addresses};

impl Neighbours {
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

    pub(super) fn count_displaced(&mut self) {
        self.counters.add(Reason::Displaced, std::mem::take(&mut self.questions.displaced));
    }

    /// A datagram that was kept and can go now, with the MAC that it goes to; the oldest first.
    #[inline]
    pub fn resolved(&mut self) -> Option<(Mac, Kept)> {
        self.questions.resolved()
    }

    /// Puts a question to one station, or to all.
    pub(super) fn put(&self, target: IpAddr, station: Option<Mac>, asker: Asker, world: &mut dyn World) {
        // A guest that has given the address up would send an error to who is nobody: it does not about a group's.
        let station = station.filter(|_| asker.mac != self.voice);
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
}

/// In whose name to ask where nobody's will do: a probe's sender, who leaves no trace with IPv4 (RFC 5227 section 2.1), and
/// with IPv6, where a probe would make the station doubt its address, a link-local address of ours.
pub(super) fn voice(mac: Mac, about: IpAddr) -> Asker {
    let address = match about {
        IpAddr::V4(_) => unspecified(about),
        IpAddr::V6(_) => ndp::link_local(mac).into(),
    };
    Asker { address, mac }
}
