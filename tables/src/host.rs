//! The host table: (network, IP address) → NIC slot. Exact match, one cache line in the common case.
//!
//! # Theory of operation
//!
//! A hash of network and address picks a bucket of one cache line; a full bucket sends the search on to the next. A
//! search ends at the address or at a bucket with an empty entry, so a removed entry becomes empty only where its
//! bucket has another empty one, and otherwise a tombstone that the next insertion fills.
//!
//! An IPv4 entry is one 64-bit word, network, address and slot together: a reader sees the whole of it or nothing.
//!
//! ```text
//!   63        48 47                          16 15        0
//!  │ network    │ IPv4 address                 │ slot      │      0 = empty, network 65,535 = tombstone
//! ```
//!
//! An IPv6 entry is four words. `tag` carries a number that no two insertions share, and the address words change only
//! while it is empty or a tombstone: a reader that finds the same tag before and after reading the address has read
//! the address that belongs to it. A changed tag means that the entry was replaced meanwhile; the reader looks once
//! more, which can only happen as often as the writer writes.
//!
//! ```text
//!   tag: │ network 16 │ slot 16 │ insertion 32 │    high: address >> 64    low: address    (zero)
//! ```

use crate::network::{Address, NetworkId};
use crate::nic::SlotId;
use crate::sync::{AtomicU64, Ordering, fence};

const TOMBSTONE: u64 = 0xffff << 48;

/// Buckets that a search may touch. Beyond it the table counts as full; at half load it is never reached.
const PROBES: usize = 32;

/// Eight IPv4 entries.
#[repr(C, align(64))]
pub struct Bucket4(pub(crate) [AtomicU64; 8]);

/// One IPv6 entry.
#[repr(C, align(32))]
pub struct Entry6 {
    tag: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    zero: AtomicU64,
}

/// Two IPv6 entries.
#[repr(C, align(64))]
pub struct Bucket6(pub(crate) [Entry6; 2]);

/// A search's result: the slot, and the entry to look at again.
///
/// Between the search and the moment when the sender holds the buffer's lock, the NIC may leave and its slot go to
/// another. [`Found::holds`] after reading the slot's generation closes that gap: the writer removes the entry before
/// it gives the slot away.
#[derive(Clone, Copy)]
pub struct Found<'t> {
    /// The slot of the NIC that has the address.
    pub slot: SlotId,
    bucket: usize,
    word: &'t AtomicU64,
    seen: u64,
}

impl Found<'_> {
    /// The bucket in which the entry lies, from 0.
    #[must_use]
    pub fn bucket(&self) -> usize {
        self.bucket
    }

    /// Whether the entry is still the one that the search saw.
    #[must_use]
    #[inline]
    pub fn holds(&self) -> bool {
        // Acquire on what was read before: the generation that the caller read must not be read after this look.
        fence(Ordering::Acquire);
        self.word.load(Ordering::Acquire) == self.seen
    }
}

/// No room: the probe sequence of this address is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A bucket is full, so the search goes on in the next one.
struct Overflown;

/// The host table of a LAN, over mapped buckets. `Copy`: it is two slices.
#[derive(Clone, Copy)]
pub struct HostTable<'t> {
    pub(crate) v4: &'t [Bucket4],
    pub(crate) v6: &'t [Bucket6],
}

#[inline]
fn key4(network: NetworkId, address: u32) -> u64 {
    u64::from(network.0) << 48 | u64::from(address) << 16
}

/// Multiplicative hashing (Knuth, The Art of Computer Programming 6.4): neighbouring addresses spread evenly.
#[inline]
fn spread(key: u64, buckets: usize) -> usize {
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(mixed) * buckets as u128) >> 64) as usize
}

#[inline]
fn start6(network: NetworkId, high: u64, low: u64, buckets: usize) -> usize {
    let key = high.rotate_left(23) ^ low.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ u64::from(network.0) << 47;
    spread(key ^ key >> 29, buckets)
}

impl<'t> HostTable<'t> {
    /// The NIC that has `address` on `network`.
    #[must_use]
    pub fn find(&self, network: NetworkId, address: Address) -> Option<Found<'t>> {
        match address {
            Address::V4(address) => self.find4(network, address),
            Address::V6(high, low) => self.find6(network, high, low),
        }
    }

    /// Where a search for `address` begins, and how many buckets its table has.
    #[must_use]
    pub fn home(&self, network: NetworkId, address: Address) -> (usize, usize) {
        match address {
            Address::V4(address) => (spread(key4(network, address), self.v4.len()), self.v4.len()),
            Address::V6(high, low) => (start6(network, high, low, self.v6.len()), self.v6.len()),
        }
    }

    /// The NIC that has an IPv4 address.
    #[must_use]
    #[inline(always)]
    pub fn find4(&self, network: NetworkId, address: u32) -> Option<Found<'t>> {
        let key = key4(network, address);
        let start = spread(key, self.v4.len());
        match self.find4_in(start, key) {
            Ok(found) => found,
            Err(Overflown) => self.find4_beyond(start, key),
        }
    }

    /// The entry in this bucket; or that it is nowhere; or that the search goes on.
    #[inline(always)]
    fn find4_in(&self, bucket: usize, key: u64) -> Result<Option<Found<'t>>, Overflown> {
        let mut vacant = false;
        for word in &self.v4[bucket].0 {
            // Acquire: partners with the release in `insert()`; who sees the entry sees the NIC row behind it.
            let seen = word.load(Ordering::Acquire);
            if seen & !0xffff == key {
                return Ok(Some(Found { slot: SlotId(seen as u16), bucket, word, seen }));
            }
            vacant |= seen == 0;
        }
        if vacant { Ok(None) } else { Err(Overflown) }
    }

    #[cold]
    fn find4_beyond(&self, start: usize, key: u64) -> Option<Found<'t>> {
        let buckets = (1..PROBES).map(|probe| (start + probe) & (self.v4.len() - 1));
        let mut results = buckets.map(|bucket| self.find4_in(bucket, key));
        results.find_map(Result::ok).flatten()
    }

    /// The NIC that has an IPv6 address, given as its two halves.
    #[must_use]
    #[inline]
    pub fn find6(&self, network: NetworkId, high: u64, low: u64) -> Option<Found<'t>> {
        let start = start6(network, high, low, self.v6.len());
        for probe in 0..PROBES {
            let bucket = (start + probe) & (self.v6.len() - 1);
            let mut vacant = false;
            for entry in &self.v6[bucket].0 {
                loop {
                    // Acquire: partners with the release of the tag in `insert()`.
                    let seen = entry.tag.load(Ordering::Acquire);
                    vacant |= seen == 0;
                    if seen == 0 || (seen >> 48) as u16 != network.0 {
                        break;
                    }
                    let matches =
                        entry.high.load(Ordering::Relaxed) == high && entry.low.load(Ordering::Relaxed) == low;
                    // The address words must have been read before the second look at the tag.
                    fence(Ordering::Acquire);
                    if entry.tag.load(Ordering::Relaxed) != seen {
                        continue;
                    }
                    if matches {
                        return Some(Found { slot: SlotId((seen >> 32) as u16), bucket, word: &entry.tag, seen });
                    }
                    break;
                }
            }
            if vacant {
                return None;
            }
        }
        None
    }

    /// Enters or moves an address. `insertion` must never have been used before in this table.
    pub(crate) fn insert(
        &self,
        network: NetworkId,
        address: Address,
        slot: SlotId,
        insertion: u32,
    ) -> Result<(), Full> {
        match address {
            Address::V4(address) => {
                let key = key4(network, address);
                let entry = key | u64::from(slot.0);
                if let Some(found) = self.find4(network, address) {
                    found.word.store(entry, Ordering::Release);
                    return Ok(());
                }
                let start = spread(key, self.v4.len());
                let mut words = (0..PROBES).flat_map(|probe| &self.v4[(start + probe) & (self.v4.len() - 1)].0);
                let word = words.find(|word| is_vacant(word.load(Ordering::Relaxed))).ok_or(Full)?;
                // Release: partners with the acquire in `find4()`.
                word.store(entry, Ordering::Release);
                Ok(())
            }
            Address::V6(high, low) => {
                let tag = u64::from(network.0) << 48 | u64::from(slot.0) << 32 | u64::from(insertion);
                if let Some(found) = self.find6(network, high, low) {
                    found.word.store(tag, Ordering::Release);
                    return Ok(());
                }
                let start = start6(network, high, low, self.v6.len());
                let mut entries = (0..PROBES).flat_map(|probe| &self.v6[(start + probe) & (self.v6.len() - 1)].0);
                let entry = entries.find(|entry| is_vacant(entry.tag.load(Ordering::Relaxed))).ok_or(Full)?;
                // A reader that still compares under the old tag must see that tag gone once it sees a new address
                // word: the fence orders the emptied tag before the words, and partners with the fence in `find6()`.
                entry.tag.store(TOMBSTONE, Ordering::Relaxed);
                fence(Ordering::Release);
                entry.high.store(high, Ordering::Relaxed);
                entry.low.store(low, Ordering::Relaxed);
                // Release: partners with the acquire in `find6()`.
                entry.tag.store(tag, Ordering::Release);
                Ok(())
            }
        }
    }

    /// Takes an address out; does nothing where it is not in.
    pub(crate) fn remove(&self, network: NetworkId, address: Address) {
        let Some(found) = self.find(network, address) else { return };
        let beside_an_empty_one = match address {
            Address::V4(_) => self.v4[found.bucket].0.iter().any(|word| word.load(Ordering::Relaxed) == 0),
            Address::V6(..) => self.v6[found.bucket].0.iter().any(|entry| entry.tag.load(Ordering::Relaxed) == 0),
        };
        // Release: whoever sees the address gone sees all that the writer did before.
        found.word.store(if beside_an_empty_one { 0 } else { TOMBSTONE }, Ordering::Release);
    }
}

fn is_vacant(word: u64) -> bool {
    word == 0 || word == TOMBSTONE
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::size_of;
    assert!(size_of::<Bucket4>() == 64);
    assert!(size_of::<Bucket6>() == 64);
};
