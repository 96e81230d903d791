//! What lies where in the words of a route table.
//!
//! ```text
//!  word
//!  0    ┌────────────────────────────────────────────────────────────────────────────┐
//!       │ (zero) ×4: the root block of an empty table                                │ what each look-up reads
//!       │ 4 reuse │ 5 root block, IPv4 │ 6 root block, IPv6 │ (zero) ×25             │
//!  32   ├────────────────────────────────────────────────────────────────────────────┤
//!       │ 32 used │ 33 count4 │ 34 count6 │ (zero) ×13                             │ what changes with each update
//!       │ in a file: 35 listing at │ 36 its bytes │ 37 listed │ 38 around at │ 39 taken│
//!  48   ├────────────────────────────────────────────────────────────────────────────┤
//!       │ arrays, nodes, free blocks, in steps of four words …                       │
//!  used ├────────────────────────────────────────────────────────────────────────────┤
//!       │ never touched; in a file: the listing, and what is around the own prefixes │
//!       └────────────────────────────────────────────────────────────────────────────┘
//!
//!  entry    │ kind 2 │ word offset 30 │      kind 0: │ 0 │ (zero) 14 │ class 16 │
//!
//!  narrow   │ starts 0…31 │ starts 32…63 │ class 16, class 16 │ …       run r: bits 16·(r mod 2) of word 2 + r/2
//!  wide     │ starts 0…31 │ starts 32…63 │ entry │ entry │ …            run r: word 2 + r
//!  direct   │ class 16, class 16 │ … 32 words                           slot s: bits 16·(s mod 2) of word s/2
//!  array    │ entry of bits 0…17 = 0 │ … = 1 │ … 2^18 words             where a direct entry at the root leads
//!  root     │ entry │ class of the prefix of length 0 │ (zero) │ (zero)
//! ```
//!
//! Bit `s` of `starts` is set where slot `s` begins a run; slot 0 always does, and its bit is clear. Words that are
//! all zero are an empty table.

use crate::sync::{AtomicU32, Ordering};

/// Words that a table needs before it holds a route.
pub const LEAST_WORDS: usize = 4096;

/// The number that moves before freed words are used again.
pub(crate) const REUSE: usize = 4;
/// Words of the table that have ever been used, the listing not among them.
pub(crate) const USED: usize = 32;
/// Where the listing starts, in words; 0 where there is none.
pub(crate) const LISTING: usize = 35;
/// Bytes of the listing.
pub(crate) const LISTING_BYTES: usize = 36;
/// How many routes the listing has.
pub(crate) const LISTED: usize = 37;
/// Where it is told what covers the routers' own prefixes, in words; 0 where it is not.
pub(crate) const AROUND: usize = 38;
/// How many routes the table was made of, those that were said twice counted twice.
pub(crate) const TAKEN: usize = 39;
/// The first word that nodes may have.
pub(crate) const FIRST: u32 = 48;

/// Bits of an address that a node tells apart.
pub(crate) const STRIDE: u32 = 6;
/// Slots of a node.
pub(crate) const SLOTS: usize = 1 << STRIDE;
/// Bits of an address that an array tells apart: three nodes' worth.
pub(crate) const TOP: u32 = 3 * STRIDE;
/// Entries of an array.
pub(crate) const ARRAY: usize = 1 << TOP;
/// Words of a node before its values.
pub(crate) const VALUES: usize = 2;
/// Words of a direct node.
pub(crate) const DIRECT_WORDS: usize = SLOTS / 2;
/// Blocks are multiples of this many words.
pub(crate) const STEP: u32 = 4;
/// Words of a cache line.
pub(crate) const LINE: u32 = 16;
/// Word offsets are below this.
pub(crate) const MOST_WORDS: usize = 1 << 30;

/// Words of a root block.
pub(crate) const ROOT_WORDS: usize = 4;

/// The header words of one family.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    /// Where the root block lies.
    pub(crate) root: usize,
    /// How many routes there are.
    pub(crate) count: usize,
}

impl Head {
    pub(crate) const V4: Self = Self { root: 5, count: 33 };
    pub(crate) const V6: Self = Self { root: 6, count: 34 };
}

/// What an entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Class = 0,
    Narrow = 1,
    Wide = 2,
    /// Without a bitmap: at the root an array, below it a node of classes.
    Direct = 3,
}

/// A class, or where to go on; see the module's drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn class(class: u16) -> Self {
        Self(class as u32)
    }

    pub(crate) const fn node(kind: Kind, at: u32) -> Self {
        Self((kind as u32) << 30 | at)
    }

    #[inline(always)]
    pub(crate) const fn kind(self) -> Kind {
        match self.0 >> 30 {
            0 => Kind::Class,
            1 => Kind::Narrow,
            2 => Kind::Wide,
            _ => Kind::Direct,
        }
    }

    /// The word offset of a node or an array.
    #[inline(always)]
    pub(crate) const fn at(self) -> usize {
        (self.0 & 0x3fff_ffff) as usize
    }

    /// The class, of an entry that is one.
    #[inline(always)]
    pub(crate) const fn as_class(self) -> u16 {
        self.0 as u16
    }

    /// Whether it is a class or a direct node, asked with one addition.
    #[inline(always)]
    pub(crate) const fn is_class_or_direct(self) -> bool {
        self.0.wrapping_add(1 << 30) < 2 << 30
    }

    /// All ones for a direct node and zero for a class: a choice between the two by arithmetic, which the compiler
    /// makes no branch of.
    #[inline(always)]
    pub(crate) const fn if_node(self) -> usize {
        (self.0 as i32 >> 31) as usize
    }

    pub(crate) fn is_node(self) -> bool {
        self.kind() != Kind::Class
    }
}

/// Which run of a node a slot belongs to.
#[inline(always)]
pub(crate) fn run_of(starts: u64, slot: usize) -> usize {
    // The slots behind this one are shifted out.
    (starts << (!slot & 63)).count_ones() as usize
}

/// The class in one half of a word of a narrow or direct node.
#[inline(always)]
pub(crate) fn half(pair: u32, index: usize) -> u16 {
    (pair >> (index % 2 * 16)) as u16
}

/// Words of the block of a node with this many runs.
pub(crate) fn block_words(kind: Kind, runs: usize) -> u32 {
    let values = if kind == Kind::Narrow { runs.div_ceil(2) } else { runs };
    ((VALUES + values) as u32).next_multiple_of(STEP)
}

/// A word, or 0 outside of the table: an index out of damaged words leads nowhere.
#[inline(always)]
pub(crate) fn word(words: &[AtomicU32], at: usize, order: Ordering) -> u32 {
    words.get(at).map_or(0, |word| word.load(order))
}

/// What a table is made of, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// IPv4 routes.
    pub routes4: u32,
    /// IPv6 routes.
    pub routes6: u32,
    /// Bytes that look-ups can touch: header, arrays and nodes.
    pub bytes: u64,
    /// Bytes from the start to the last block ever used, free blocks among them.
    pub extent: u64,
    /// How often freed words were given back for use.
    pub reuses: u32,
}
