//! The routing segment: what paths are made of, in a memory file of its own.
//!
//! ```text
//!  0          ┌──────────────────────────────────────────────┐
//!             │ Roots: where each section begins             │ one page
//!  4096       ├──────────────────────────────────────────────┤
//!             │ plan, two halves that take turns             │ who comes after whom (`vnet_tables::plan`)
//!             ├──────────────────────────────────────────────┤
//!             │ filters, two halves that take turns          │ programs (`crate::filter`)
//!             ├──────────────────────────────────────────────┤
//!             │ routes, changed in place                     │ longest prefix match (`vnet_tables::lpm`)
//!             └──────────────────────────────────────────────┘ BYTES, of address space; memory only where written
//! ```
//!
//! A section may instead lie in an *image*, a file that the base has mapped and that guests map beside this one: a root
//! says which of the two. Each section has an image of its own, because they come from different things: the routes of
//! one file of prefixes serve any number of plans. All that is in a section is words of 32 bits, at places that count from its beginning, so it
//! means the same wherever it is mapped.
//!
//! # Theory of operation
//!
//! Only the base can write, and readers take no lock. A half is written while its root leads to the other one, and read
//! after the root was seen to lead to it. A reader that dawdles may find its half being written anew, two changes later;
//! so every word is an atomic, every number that was read is bounded before it is used, and whoever composed something
//! compares the header's `routing` word from before with that from after: it differs if anything was written meanwhile.

use core::mem::{offset_of, size_of};

use vnet_tables::image::Kind;
use vnet_tables::layout::PAGE;

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The parts of the routing segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Who comes after whom.
    Plan = 0,
    /// Programs that decide what may pass.
    Filters = 1,
    /// The route table.
    Routes = 2,
}

impl Section {
    /// Every section.
    pub const ALL: [Self; 3] = [Self::Plan, Self::Filters, Self::Routes];

    /// What it is called; images have the same names for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plan => Kind::Plan.name(),
            Self::Filters => Kind::Filters.name(),
            Self::Routes => Kind::Routes.name(),
        }
    }
}

/// Bytes of address space of each half of the plan.
const PLAN_HALF: u64 = 192 << 20;
/// Bytes of address space of each half of the filters.
const FILTERS_HALF: u64 = 16 << 20;
/// Bytes of address space of the route table.
const ROUTES: u64 = 128 << 20;

const PLAN_AT: u64 = PAGE;
const FILTERS_AT: u64 = PLAN_AT + 2 * PLAN_HALF;
const ROUTES_AT: u64 = FILTERS_AT + 2 * FILTERS_HALF;

/// Size of the routing segment, in bytes.
pub const BYTES: u64 = ROUTES_AT + ROUTES;

/// Where a section lies now.
///
/// ```text
///   63      62              32 31            0
///  │ image │ first page       │ words          │      0 = the section is empty
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root(u64);

const IMAGE: u64 = 1 << 63;

impl Root {
    /// A section of `words` words that begins `at` bytes into the segment or, with `image`, into the image.
    ///
    /// # Panics
    ///
    /// Where `at` is not the beginning of a page, or a number has no place.
    #[must_use]
    pub fn new(image: bool, at: u64, words: usize) -> Self {
        let page = at / PAGE;
        assert!(
            at.is_multiple_of(PAGE) && page < 1 << 31 && words as u64 <= u64::from(u32::MAX),
            "a section begins on a page"
        );
        Self(u64::from(image) << 63 | page << 32 | words as u64)
    }

    /// Whether it lies in the image.
    #[must_use]
    pub fn in_image(self) -> bool {
        self.0 & IMAGE != 0
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub fn at(self) -> u64 {
        ((self.0 & !IMAGE) >> 32) * PAGE
    }

    /// How many words it has.
    #[must_use]
    pub fn words(self) -> usize {
        self.0 as u32 as usize
    }
}

/// The first page of the routing segment.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Roots {
    sections: [AtomicU64; 8],
}

impl Roots {
    /// Where a section lies now.
    #[must_use]
    #[inline]
    pub fn root(&self, section: Section) -> Root {
        // Acquire: partners with the release in `set()`; who sees the root sees the words behind it.
        Root(self.sections[section as usize].load(Ordering::Acquire))
    }

    pub(crate) fn set(&self, section: Section, root: Root) {
        // Release: the words were written before.
        self.sections[section as usize].store(root.0, Ordering::Release);
    }
}

/// Where a section that is replaced whole is written next: the half that its root does not lead to.
#[must_use]
pub(crate) fn next_half(section: Section, now: Root) -> Option<(u64, u64)> {
    let (first, half) = match section {
        Section::Plan => (PLAN_AT, PLAN_HALF),
        Section::Filters => (FILTERS_AT, FILTERS_HALF),
        Section::Routes => return None,
    };
    let second = !now.in_image() && now.words() != 0 && now.at() == first;
    Some((if second { first + half } else { first }, half))
}

/// Where the route table may grow: its beginning and its bytes.
pub(crate) const ROUTES_PLACE: (u64, u64) = (ROUTES_AT, ROUTES);

/// Copies words into a half that nobody is led to.
pub(crate) fn fill(place: &[AtomicU32], words: &[u32]) {
    // Release: a reader that still goes through this half and meets one of the words below sees, by its acquire fence,
    // that the version has moved on since it began. Partners with the fence in `still()`.
    fence(Ordering::Release);
    for (place, word) in place.iter().zip(words) {
        place.store(*word, Ordering::Relaxed);
    }
}

/// Whether nothing was written since `version` was read from the header: what was read meanwhile is of one piece.
#[inline]
pub(crate) fn still(routing: impl FnOnce() -> u32, version: u32) -> bool {
    // Acquire: the words were read before the version is looked at again. Partners with the fence in `fill()`.
    fence(Ordering::Acquire);
    routing() == version
}

const _: () = {
    assert!(size_of::<Roots>() as u64 <= PAGE);
    assert!(offset_of!(Roots, sections) == 0);
    assert!(BYTES / PAGE < 1 << 31);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_says_what_it_was_made_of() {
        let root = Root::new(true, 7 * PAGE, 123_456);
        assert_eq!((root.in_image(), root.at(), root.words()), (true, 7 * PAGE, 123_456));
        let root = Root::new(false, BYTES, u32::MAX as usize);
        assert_eq!((root.in_image(), root.at(), root.words()), (false, BYTES, u32::MAX as usize));
    }

    #[test]
    fn the_halves_of_a_section_take_turns() {
        for section in [Section::Plan, Section::Filters] {
            let (first, bytes) = next_half(section, Root::default()).unwrap();
            let (second, _) = next_half(section, Root::new(false, first, 1)).unwrap();
            assert_eq!(second, first + bytes);
            assert_eq!(next_half(section, Root::new(false, second, 1)), Some((first, bytes)));
            assert_eq!(next_half(section, Root::new(true, first, 1)), Some((first, bytes)), "an image is no half");
        }
        assert_eq!(next_half(Section::Routes, Root::default()), None);
    }
}
