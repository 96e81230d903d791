//! Which neighbours are routers, so that what is said in their name says so.
//!
//! An advertisement for a router without the router flag makes a host drop its default route through it (RFC 4861 section
//! 7.2.5). A guest has such a route only from a router advertisement, and that has passed through its driver.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// Routers that are remembered for one guest.
pub const ROUTERS: usize = 16;

/// The routers that a guest was told of, each with when its time as one ends.
#[derive(Default)]
pub(super) struct Routers(BTreeMap<Ipv6Addr, u64>);

impl Routers {
    /// `router` told the guest to be one for `lifetime` seconds.
    #[cold]
    pub fn heard(&mut self, router: Ipv6Addr, lifetime: u16, now: u64) {
        if lifetime == 0 {
            self.0.remove(&router);
            return;
        }
        if !self.0.contains_key(&router)
            && self.0.len() >= ROUTERS
            && let Some((&first, _)) = self.0.iter().min_by_key(|(_, until)| **until)
        {
            self.0.remove(&first);
        }
        self.0.insert(router, now.saturating_add(u64::from(lifetime) * 1_000_000_000));
    }

    /// Whether the guest was told that `address` is one.
    pub fn contains(&self, address: Ipv6Addr, now: u64) -> bool {
        self.0.get(&address).is_some_and(|&until| now < until)
    }
}
