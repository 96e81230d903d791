//! The routes themselves, packed behind a table that is kept in a file: what `dump` needs and look-ups never read.
//!
//! Sorted routes differ little from one to the next, so each takes four bytes or five:
//!
//! ```text
//!   list    count4 │ route … │ count6 │ route …                                   numbers are LEB128
//!   route   more 1, (zero) 1, other 1, low 5 │ high, if more │ length u8, if other │ class
//! ```
//!
//! `other` says that the length is not that of the prefix before. `step`, which is 32·high + low, leads from the prefix before, cut to `length` bits, to this one; the first one comes after 0/0.

use super::bits::Bits;
use super::prefix::{Prefix, Route};
use super::rib::Item;
use super::words::{LISTED, LISTING, LISTING_BYTES, word};
use crate::sync::{AtomicU32, Ordering};

/// The list of a table's routes cannot be read: it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list of routes is damaged at byte {at}")]
pub struct ListingError {
    /// Where, from the start of the list.
    pub at: usize,
}

/// The routes behind a table that is kept in a file: IPv4 before IPv6, by address, shorter before longer.
///
/// Ends after the first damage. A table without a list has none, whatever it looks up.
pub struct Listing<'m> {
    words: &'m [AtomicU32],
    start: usize,
    bytes: usize,
    at: usize,
    family: Family,
    left: u128,
    length: u8,
    address4: u32,
    address6: u128,
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    Start,
    V4,
    V6,
    Done,
}

/// Packs routes, which are sorted.
pub(crate) fn pack(routes: impl Iterator<Item = Route>) -> Vec<u8> {
    let (mut v4, mut v6) = (Packer::<u32>::new(), Packer::<u128>::new());
    for Route { prefix, class } in routes {
        match prefix {
            Prefix::V4(address, length) => v4.add(Item { address, length, class }),
            Prefix::V6(address, length) => v6.add(Item { address, length, class }),
        }
    }
    let mut bytes = Vec::with_capacity(v4.bytes.len() + v6.bytes.len() + 16);
    number(&mut bytes, v4.count);
    bytes.append(&mut v4.bytes);
    number(&mut bytes, v6.count);
    bytes.append(&mut v6.bytes);
    bytes
}

/// The routes of one family, packed one after the other.
struct Packer<A> {
    bytes: Vec<u8>,
    count: u128,
    before: Item<A>,
}

impl<A: Bits> Packer<A> {
    fn new() -> Self {
        Self { bytes: Vec::new(), count: 0, before: Item { address: A::ZERO, length: 0, class: 0 } }
    }

    fn add(&mut self, item: Item<A>) {
        let bits = u32::from(item.length);
        let step = item.address.shifted(bits) - self.before.address.shifted(bits);
        let other = item.length != self.before.length;
        self.bytes.push((step & 0x1f) as u8 | u8::from(other) << 5 | u8::from(step >> 5 != 0) << 7);
        if step >> 5 != 0 {
            number(&mut self.bytes, step >> 5);
        }
        if other {
            self.bytes.push(item.length);
        }
        number(&mut self.bytes, u128::from(item.class));
        self.count += 1;
        self.before = item;
    }
}

fn number(bytes: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

impl<'m> Listing<'m> {
    /// The routes of the table in these words.
    #[must_use]
    pub fn of(words: &'m [AtomicU32]) -> Self {
        // Relaxed: a table that is kept in a file changes no more.
        let start = word(words, LISTING, Ordering::Relaxed) as usize;
        let bytes = word(words, LISTING_BYTES, Ordering::Relaxed) as usize;
        let family = if start == 0 { Family::Done } else { Family::Start };
        Self { words, start, bytes, at: 0, family, left: 0, length: 0, address4: 0, address6: 0 }
    }

    /// How many there are, as the table in these words says without a look at them.
    #[must_use]
    pub fn length_of(words: &'m [AtomicU32]) -> usize {
        // Relaxed: as in `of()`.
        word(words, LISTED, Ordering::Relaxed) as usize
    }

    fn byte(&mut self) -> Option<u8> {
        let at = (self.at < self.bytes).then_some(self.at)?;
        // Relaxed: as in `of()`.
        let word = self.words.get(self.start + at / 4)?.load(Ordering::Relaxed);
        self.at += 1;
        Some(word.to_le_bytes()[at % 4])
    }

    fn number(&mut self) -> Option<u128> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn item<A: Bits>(&mut self, before: A) -> Option<Item<A>> {
        let first = self.byte()?;
        let high = if first & 0x80 != 0 { self.number()? } else { 0 };
        let step = high.checked_mul(32)? | u128::from(first & 0x1f);
        if first & 0x20 != 0 {
            self.length = self.byte()?;
        }
        let bits = u32::from(self.length);
        if bits > A::WIDTH {
            return None;
        }
        let address = A::unshifted(before.shifted(bits).checked_add(step)?, bits)?;
        let class = u16::try_from(self.number()?).ok().filter(|&class| class != 0)?;
        Some(Item { address, length: self.length, class })
    }

    fn step(&mut self) -> Option<Option<Route>> {
        while self.left == 0 {
            self.family = match self.family {
                Family::Start => Family::V4,
                Family::V4 => Family::V6,
                Family::V6 | Family::Done => return Some(None),
            };
            self.left = self.number()?;
            self.length = 0;
        }
        self.left -= 1;
        let route = if self.family == Family::V4 {
            let item = self.item(self.address4)?;
            self.address4 = item.address;
            Route { prefix: Prefix::V4(item.address, item.length), class: item.class }
        } else {
            let item = self.item(self.address6)?;
            self.address6 = item.address;
            Route { prefix: Prefix::V6(item.address, item.length), class: item.class }
        };
        Some(Some(route))
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Route, ListingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.family == Family::Done {
            return None;
        }
        match self.step() {
            Some(Some(route)) => Some(Ok(route)),
            Some(None) => {
                self.family = Family::Done;
                None
            }
            None => {
                self.family = Family::Done;
                Some(Err(ListingError { at: self.at }))
            }
        }
    }
}
