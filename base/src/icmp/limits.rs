//! How many ICMP errors a router sends.

use vnet_tables::Address;

use super::error::Trouble;

/// The token buckets of the routers in whose names a sender answers; memory is bounded.
#[derive(Default)]
pub struct Limits {}

impl Limits {
    /// Whether router `router` may send an error about `trouble` to `to` at `now`, in nanoseconds; a yes is taken off.
    ///
    /// `prefix` is the length in bits of the route back (IPv6 gives wider ones more), 128 where it is not known.
    pub fn allow(&mut self, _router: u16, _to: Address, _prefix: u8, _trouble: Trouble, _now: u64) -> bool {
        true
    }
}
