//! How many ICMP errors a router sends: RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f), with Linux's numbers.
//!
//! ```text
//!   all errors of a router   1,000 a second, 50 at once            icmp_msgs_per_sec, icmp_msgs_burst
//!   to one IPv4 address      1 a second, 6 at once                 icmp_ratelimit
//!   to one IPv6 address      10 a second, 6 at once                ipv6 icmp ratelimit
//!   about routes, IPv4       from the same bucket, first: 5 at once, and again one each     error_burst, error_cost
//! ```
//!
//! An error that says that there is no route for IPv4, or that it forbids, is paid twice from the bucket of its address,
//! once by the route's own limit and once as an ICMP error: two at once, and where more are asked for than one in two
//! seconds the first limit keeps the second from ever being met. That is what the kernel does, and the tests measure.
//!
//! Path MTU discovery is not limited, nor are answers to questions. Linux takes a random number of 0 to 2 for each from
//! the bucket of all, so that nobody can count by it whom else a router answers; here it is the 1 that this comes to.

use std::collections::HashMap;

use vnet_tables::Address;

use super::error::Trouble;

/// A second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// What an IPv4 error costs, and what is between two of them: `icmp_ratelimit`.
const COST4: u64 = SECOND;
/// As [`COST4`], of IPv6.
const COST6: u64 = SECOND / 10;
/// How many errors fill a bucket: `XRLIM_BURST_FACTOR`.
const BURST: u64 = 6;
/// What a bucket may hold when an error about a route asks, and what that takes: `error_burst`, `error_cost`.
const ROUTE_BURST: u64 = 5 * SECOND;
const ROUTE_COST: u64 = SECOND;

/// All errors of a router: so many a second and so many at once, refilled no more often than this.
const PER_SECOND: u64 = 1_000;
const AT_ONCE: u64 = 50;
const REFILL: u64 = SECOND / 50;

/// Most addresses that are remembered. One that is forgotten starts with a full bucket, as one does that was not told
/// anything for six seconds.
const MOST: usize = 4_096;

/// A router, whether the address is of IPv4, and its bits.
type Key = (u16, bool, u128);

fn key(router: u16, to: Address) -> Key {
    match to {
        Address::V4(bits) => (router, true, bits.into()),
        Address::V6(high, low) => (router, false, u128::from(high) << 64 | u128::from(low)),
    }
}

/// A bucket of one router and one address, in nanoseconds of waiting.
#[derive(Clone, Copy, Debug)]
struct Peer {
    tokens: u64,
    last: u64,
}

impl Peer {
    /// Takes `cost` where it is there, of what came together since, up to `burst`.
    fn take(&mut self, cost: u64, burst: u64, now: u64) -> bool {
        self.tokens = self.tokens.saturating_add(now.saturating_sub(self.last)).min(burst);
        self.last = now.max(self.last);
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }
}

/// What is left of all of a router's errors.
#[derive(Clone, Copy, Debug)]
struct All {
    credit: u64,
    stamp: u64,
}

impl All {
    fn allows(&mut self, now: u64) -> bool {
        if self.credit > 0 {
            return true;
        }
        let waited = now.saturating_sub(self.stamp).min(SECOND);
        if waited < REFILL {
            return false;
        }
        self.credit = (PER_SECOND * waited / SECOND).min(AT_ONCE);
        self.stamp = now;
        true
    }
}

/// The token buckets of the routers in whose names a sender answers; its memory is bounded.
#[derive(Debug, Default)]
pub struct Limits {
    peers: HashMap<Key, Peer>,
    all: HashMap<u16, All>,
}

impl Limits {
    /// Whether router `router` may send an error about `trouble` to `to` at `now`, in nanoseconds; a yes is taken off.
    pub fn allow(&mut self, router: u16, to: Address, trouble: Trouble, now: u64) -> bool {
        if matches!(trouble, Trouble::TooBig(_)) {
            return true;
        }
        let four = matches!(to, Address::V4(_));
        let route = matches!(trouble, Trouble::NetUnreachable | Trouble::UnreachableRoute | Trouble::Prohibited);
        if four && route && !self.peer(router, to, now).take(ROUTE_COST, ROUTE_BURST, now) {
            return false;
        }
        let all = self.all.entry(router).or_insert(All { credit: AT_ONCE, stamp: now });
        if !all.allows(now) {
            return false;
        }
        let cost = if four { COST4 } else { COST6 };
        let allowed = self.peer(router, to, now).take(cost, BURST * cost, now);
        if allowed && let Some(all) = self.all.get_mut(&router) {
            all.credit -= 1;
        }
        allowed
    }

    fn peer(&mut self, router: u16, to: Address, now: u64) -> &mut Peer {
        let key = key(router, to);
        if self.peers.len() >= MOST && !self.peers.contains_key(&key) {
            self.forget(now);
        }
        // A bucket of one's own, as full as can be.
        self.peers.entry(key).or_insert(Peer { tokens: BURST * COST4, last: now })
    }

    /// Makes room: forgets those whose buckets are full again, or else the half that has asked least lately.
    fn forget(&mut self, now: u64) {
        self.peers.retain(|(_, four, _), peer| {
            let full = BURST * if *four { COST4 } else { COST6 };
            peer.tokens.saturating_add(now.saturating_sub(peer.last)) < full
        });
        if self.peers.len() > MOST / 2 {
            let mut lasts: Vec<u64> = self.peers.values().map(|peer| peer.last).collect();
            let middle = *lasts.select_nth_unstable(MOST / 2).1;
            // All of the same instant go together, so that no order of the map decides which.
            self.peers.retain(|_, peer| peer.last > middle);
        }
    }

    /// Addresses that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether no address is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that has just been set going counts, too.
    const NOW: u64 = 5;
    const V4: Address = Address::V4(0x0a00_0001);
    const V6: Address = Address::V6(0xfd00 << 48, 1);

    fn burst(limits: &mut Limits, to: Address, trouble: Trouble, now: u64) -> usize {
        (0..40).filter(|_| limits.allow(1, to, trouble, now)).count()
    }

    #[test]
    fn six_at_once_and_then_one_in_each_interval() {
        for (to, interval) in [(V4, COST4), (V6, COST6)] {
            let mut limits = Limits::default();
            assert_eq!(burst(&mut limits, to, Trouble::TimeExceeded, NOW), 6);
            assert_eq!(burst(&mut limits, to, Trouble::PortUnreachable, NOW + interval - 1), 0);
            assert_eq!(burst(&mut limits, to, Trouble::TimeExceeded, NOW + interval), 1);
            assert_eq!(burst(&mut limits, to, Trouble::TimeExceeded, NOW + 60 * interval), 6);
        }
    }

    #[test]
    fn errors_about_routes_of_ipv4_are_paid_twice() {
        let mut limits = Limits::default();
        assert_eq!(burst(&mut limits, V4, Trouble::NetUnreachable, NOW), 2);
        // What is left is kept from the errors that cost once by none of that.
        assert_eq!(burst(&mut Limits::default(), V6, Trouble::NetUnreachable, NOW), 6);
        let mut limits = Limits::default();
        assert!((0..2).all(|_| limits.allow(1, V4, Trouble::Prohibited, NOW)));
        assert_eq!(burst(&mut limits, V4, Trouble::TimeExceeded, NOW), 1);
    }

    #[test]
    fn who_asks_for_routes_too_often_hears_no_more_until_it_waits() {
        let mut limits = Limits::default();
        let step = SECOND / 10;
        let answered =
            (0..100).filter(|turn| limits.allow(1, V4, Trouble::UnreachableRoute, NOW + turn * step)).count();
        assert_eq!(answered, 2);
        assert!(limits.allow(1, V4, Trouble::UnreachableRoute, NOW + 100 * step + 2 * SECOND));
    }

    #[test]
    fn what_path_mtu_discovery_needs_is_never_limited() {
        let mut limits = Limits::default();
        for to in [V4, V6] {
            assert_eq!(burst(&mut limits, to, Trouble::TooBig(1_400), NOW), 40);
        }
        assert!(limits.is_empty());
    }

    #[test]
    fn addresses_and_routers_have_buckets_of_their_own() {
        let mut limits = Limits::default();
        for router in 0..5 {
            for host in 0..5 {
                let allowed = (0..9).filter(|_| limits.allow(router, Address::V4(host), Trouble::TimeExceeded, NOW));
                assert_eq!(allowed.count(), 6, "router {router} to {host}");
            }
        }
    }

    #[test]
    fn a_router_sends_fifty_to_all_at_once_and_a_thousand_a_second() {
        let mut limits = Limits::default();
        let mut hosts = 0..;
        let mut all = |now| {
            (0..400).filter(|_| limits.allow(7, Address::V4(hosts.next().unwrap()), Trouble::TimeExceeded, now)).count()
        };
        assert_eq!(all(NOW), 50);
        assert_eq!(all(NOW + REFILL - 1), 0);
        assert_eq!((1..=50).map(|turn| all(NOW + turn * REFILL)).sum::<usize>(), 1_000);
    }

    #[test]
    fn memory_is_bounded_whoever_asks() {
        let mut limits = Limits::default();
        for host in 0..100_000u32 {
            // Far enough from one another that the limit for all is not met.
            limits.allow(1, Address::V4(host), Trouble::TimeExceeded, NOW + u64::from(host) * 1_000_100);
            assert!(limits.len() <= MOST);
        }
        for host in 0..10_000u32 {
            limits.allow(host as u16, Address::V4(host), Trouble::NetUnreachable, NOW);
            assert!(limits.len() <= MOST);
        }
    }
}
