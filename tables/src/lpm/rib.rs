//! The routes themselves, in order: what the writer knows and the nodes do not tell any more.

use core::ops::Bound;
use std::collections::BTreeMap;

use super::bits::Bits;

/// A prefix of one family with its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item<A> {
    pub(crate) address: A,
    pub(crate) length: u8,
    pub(crate) class: u16,
}

/// All prefixes of one family, sorted by address and then by length: whatever contains a prefix comes before it.
#[derive(Default)]
pub(crate) struct Rib<A>(BTreeMap<(A, u8), u16>);

impl<A: Bits> Rib<A> {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// From items in any order; of two with the same prefix the later one counts.
    pub(crate) fn from_items(items: &[Item<A>]) -> Self {
        Self(items.iter().map(|item| ((item.address, item.length), item.class)).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, address: A, length: u8) -> Option<u16> {
        self.0.get(&(address, length)).copied()
    }

    /// Enters a prefix, or with class 0 takes it out; returns the class that it had.
    pub(crate) fn set(&mut self, address: A, length: u8, class: u16) -> u16 {
        let key = (address, length);
        if class == 0 { self.0.remove(&key) } else { self.0.insert(key, class) }.unwrap_or(0)
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = Item<A>> {
        self.0.iter().map(|(&(address, length), &class)| Item { address, length, class })
    }

    /// The items behind a prefix.
    pub(crate) fn items_after(&self, address: A, length: u8) -> impl Iterator<Item = Item<A>> {
        let behind = (Bound::Excluded((address, length)), Bound::Unbounded);
        self.0.range(behind).map(|(&(address, length), &class)| Item { address, length, class })
    }

    /// Puts all prefixes inside of this one and longer than it into `items`.
    pub(crate) fn inside(&self, address: A, length: u8, items: &mut Vec<Item<A>>) {
        items.clear();
        // The same address with more bits, up to the last address: an address inside that is not the first one has a
        // bit set behind `length`, so its prefix is longer.
        let range = (address, length + 1)..=(address.filled(u32::from(length)), u8::MAX);
        items.extend(self.0.range(range).map(|(&(address, length), &class)| Item { address, length, class }));
    }

    /// The longest prefix of at most `reach` bits that has the address.
    pub(crate) fn longest(&self, address: A, reach: u32) -> Option<Item<A>> {
        let mut reach = reach;
        loop {
            let key = (address.masked(reach), reach as u8);
            let (&(found, length), &class) = self.0.range(..=key).next_back()?;
            if found == address.masked(u32::from(length)) && u32::from(length) <= reach {
                return Some(Item { address: found, length, class });
            }
            // A prefix that has the address comes at or before `found`, hence has `found` too: it is no longer than
            // what the two share. That is less than `reach`, or `found` would have come after `key`.
            reach = found.common(address);
        }
    }
}
