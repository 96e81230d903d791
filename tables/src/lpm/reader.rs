//! Look-ups.

use core::hint::select_unpredictable;

use super::bits::Bits;
use super::words::{
    ARRAY, Anatomy, EMPTY_NODE, Entry, FIRST, Head, Kind, REUSE, STRIDE, TOP, USED, VALUES, block_words, run_of, word,
};
use crate::sync::{AtomicU32, Ordering, fence};

/// How often a look-up starts over before it keeps what it has. Twice in a row never happens but by design: the words
/// that come free between two moves of `reuse` take the writer many times as long as a look-up.
pub const TURNS: usize = 64;

/// A route table, as its readers see it: the words of a segment or of a mapped file. `Copy`: it is a slice.
///
/// # Orders
///
/// *Forward*: the word that leads to a node is read with acquire and written with release, so who comes to a node
/// finds what was written there before. *Back*: `reuse` is read with acquire before a walk. If it shows the writer's
/// n-th move, it shows all that the writer did before that move, the taking out of the links to the words that the move
/// set free among it: the walk cannot get to them by an old link. `reuse` is read again behind an acquire fence. If
/// the walk read any word that was written after move n + 1, that fence pairs with the release fence between the
/// move and the writing, and the second look sees the move. So equal looks mean that no word of the walk was written
/// for another node meanwhile.
#[derive(Clone, Copy)]
pub struct RouteTable<'m> {
    words: &'m [AtomicU32],
}

impl<'m> RouteTable<'m> {
    /// The table in these words. All zero is an empty one; damaged ones give wrong answers and nothing worse.
    #[must_use]
    pub fn new(words: &'m [AtomicU32]) -> Self {
        // Room for the header and the empty node makes them plain reads; anything smaller is an empty table.
        Self { words: if words.len() < FIRST as usize { &[] } else { words } }
    }

    /// The class of an IPv4 address; 0 where no prefix has it.
    #[must_use]
    #[inline]
    pub fn look_up4(&self, address: u32) -> u16 {
        self.steadily(Head::V4, |table| table.walk4(address))
    }

    /// The class of an IPv6 address, given as its two halves; 0 where no prefix has it.
    #[must_use]
    #[inline]
    pub fn look_up6(&self, high: u64, low: u64) -> u16 {
        self.steadily(Head::V6, |table| table.walk(u128::from(high) << 64 | u128::from(low)))
    }

    /// Walks until no freed word was used again meanwhile.
    #[inline(always)]
    fn steadily(&self, head: Head, walk: impl Fn(&Self) -> u16) -> u16 {
        let mut class = 0;
        for _ in 0..TURNS {
            // Acquire, and the fence below: "Orders" above.
            let before = word(self.words, REUSE, Ordering::Acquire);
            class = walk(self);
            // A word of its own that says all there is to know: nothing else hangs on its order.
            let default = word(self.words, head.default, Ordering::Relaxed) as u16;
            class = select_unpredictable(class == 0, default, class);
            fence(Ordering::Acquire);
            if word(self.words, REUSE, Ordering::Relaxed) == before {
                break;
            }
        }
        class
    }

    /// The usual IPv4 walk, without a branch between what is decided in the array and what is decided one node
    /// further on: for random addresses the processor would guess wrong half of the time, and a wrong guess costs
    /// more than looking into an empty node.
    #[inline(always)]
    fn walk4(&self, address: u32) -> u16 {
        let root = self.entry(Head::V4.root);
        if root.kind() != Kind::Array {
            return self.walk_on(root, address, 0);
        }
        // 1. the array
        let entry = self.entry(root.at() + (address >> (32 - TOP)) as usize);
        if entry.0 >= 2 << 30 {
            return self.walk_on(entry, address, TOP);
        }
        // 2. the node, or the empty one
        let at = select_unpredictable(entry.0 >> 30 == 0, EMPTY_NODE, entry.at());
        let class = self.narrow(at, (address >> (32 - TOP - STRIDE)) as usize & 63);
        // 3. the answer
        select_unpredictable(entry.0 >> 30 == 0, entry.as_class(), class)
    }

    #[inline(always)]
    fn walk<A: Bits>(&self, address: A) -> u16 {
        let root = self.entry(A::HEAD.root);
        if root.kind() == Kind::Array {
            return self.walk_on(self.entry(root.at() + address.chunk(0, TOP)), address, TOP);
        }
        self.walk_on(root, address, 0)
    }

    /// From an entry that stands at `depth` on. Each turn is six bits further on, so it ends whatever the words say.
    #[inline]
    fn walk_on<A: Bits>(&self, mut entry: Entry, address: A, depth: u32) -> u16 {
        let mut depth = depth;
        loop {
            match entry.kind() {
                Kind::Class => return entry.as_class(),
                _ if depth >= A::WIDTH => return 0,
                Kind::Narrow => return self.narrow(entry.at(), address.chunk(depth, STRIDE)),
                Kind::Wide => {
                    let run = run_of(self.starts(entry.at()), address.chunk(depth, STRIDE));
                    entry = self.entry(entry.at() + VALUES + run);
                }
                Kind::Array => return 0,
            }
            depth += STRIDE;
        }
    }

    /// The class in a slot of a narrow node.
    #[inline(always)]
    fn narrow(&self, at: usize, slot: usize) -> u16 {
        let run = run_of(self.starts(at), slot);
        // Relaxed: where there are runs, they were written before the entry that led here; see "Orders".
        let pair = word(self.words, at + VALUES + run / 2, Ordering::Relaxed);
        (pair >> (run % 2 * 16)) as u16
    }

    #[inline(always)]
    fn starts(&self, at: usize) -> u64 {
        starts_of(self.words, at)
    }

    #[inline(always)]
    fn entry(&self, at: usize) -> Entry {
        // Acquire: partners with the release in `RouteWriter::publish()`.
        Entry(word(self.words, at, Ordering::Acquire))
    }

    /// Counts what the table is made of. Not for damaged words: the figures would be as wrong as they are.
    #[must_use]
    pub fn anatomy(&self) -> Anatomy {
        // Relaxed throughout: figures to look at.
        let head = |at| word(self.words, at, Ordering::Relaxed);
        let mut live = u64::from(FIRST);
        for (family, width) in [(Head::V4, 32), (Head::V6, 128)] {
            live += self.live_words(self.entry(family.root), 0, width);
        }
        Anatomy {
            routes4: head(Head::V4.count),
            routes6: head(Head::V6.count),
            bytes: live * 4,
            extent: u64::from(head(USED)) * 4,
            reuses: head(REUSE),
        }
    }

    fn live_words(&self, entry: Entry, depth: u32, width: u32) -> u64 {
        let below = |at: usize, count: usize, depth| {
            (at..at + count).map(|at| self.live_words(self.entry(at), depth, width)).sum::<u64>()
        };
        let runs = || 1 + self.starts(entry.at()).count_ones() as usize;
        match entry.kind() {
            Kind::Array if depth == 0 => ARRAY as u64 + below(entry.at(), ARRAY, TOP),
            _ if depth >= width => 0,
            Kind::Class | Kind::Array => 0,
            Kind::Narrow => u64::from(block_words(Kind::Narrow, runs())),
            Kind::Wide => {
                u64::from(block_words(Kind::Wide, runs())) + below(entry.at() + VALUES, runs(), depth + STRIDE)
            }
        }
    }
}

/// The bitmap of a node.
#[inline(always)]
pub(crate) fn starts_of(words: &[AtomicU32], at: usize) -> u64 {
    // Relaxed: who comes here by acquire finds them written, and they do not change while the node is linked.
    let low = word(words, at, Ordering::Relaxed);
    let high = word(words, at + 1, Ordering::Relaxed);
    u64::from(high) << 32 | u64::from(low)
}
