//! Look-ups.

use super::bits::Bits;
use super::words::{
    ARRAY, Anatomy, DIRECT_WORDS, Entry, FIRST, Head, Kind, REUSE, ROOT_WORDS, SLOTS, STRIDE, TOP, USED, VALUES,
    block_words, half, run_of, word,
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
///
/// The class of the prefix of length 0 stands beside the root entry, in a block that is replaced when it changes, and
/// never changes itself. A walk could take the old block and then, in nodes that stay, see changes that came after the
/// new one; so the writer moves `reuse` once the new block is linked and before it changes anything else, and the
/// second look tells.
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
        // One call, and in the last place: what is usual needs no room for what is not.
        self.usual4(address).unwrap_or_else(|| self.steadily(address))
    }

    /// The class of an IPv6 address, given as its two halves; 0 where no prefix has it.
    #[must_use]
    #[inline]
    pub fn look_up6(&self, high: u64, low: u64) -> u16 {
        self.steadily(u128::from(high) << 64 | u128::from(low))
    }

    /// The usual IPv4 look-up: in a large table, and of an address that no prefix longer than /24 is near. Nothing
    /// where it is another one.
    ///
    /// There is no branch between what is decided in the array and what is decided one node further on, nor on whether
    /// there is a route: for random addresses the processor would guess wrong half of the time, and a wrong guess costs
    /// more than a word too many.
    #[inline(always)]
    fn usual4(&self, address: u32) -> Option<u16> {
        // 1. the root
        let head: &Header = self.words.first_chunk()?;
        let before = first_look(head);
        let root = self.root(head, Head::V4)?;
        let array = followed(&root[0]);
        if array.kind() != Kind::Direct {
            return None;
        }
        // 2. the array
        let entry = followed(self.words.get(array.at() + (address >> (32 - TOP)) as usize)?);
        if !entry.is_class_or_direct() {
            return None;
        }
        // 3. the node; or the header, whose words are at hand, where the array has said it all
        let (node, slot) = (entry.if_node(), (address >> (32 - TOP - STRIDE)) as usize % SLOTS);
        // Relaxed: who comes here by acquire finds the node written; a value is all that its word tells.
        let pair = self.words.get((entry.at() & node) + slot / 2)?.load(Ordering::Relaxed);
        // 4. the answer, if nothing was disturbed
        let class = half(pair, slot) & node as u16 | entry.as_class() & !node as u16;
        let class = or_default(root, class);
        (second_look(head) == before).then_some(class)
    }

    /// Any look-up: walks until no freed word was used again meanwhile.
    #[inline(never)]
    fn steadily<A: Bits>(&self, address: A) -> u16 {
        let Some(head) = self.words.first_chunk() else { return 0 };
        let mut class = 0;
        for _ in 0..TURNS {
            let before = first_look(head);
            let Some(root) = self.root(head, A::HEAD) else { return 0 };
            class = or_default(root, self.walk(root, address));
            if second_look(head) == before {
                break;
            }
        }
        class
    }

    /// The root block of a family.
    #[inline(always)]
    fn root(&self, head: &Header, family: Head) -> Option<&'m Root> {
        let at = followed(&head[family.root]).0 as usize;
        self.words.get(at..at + ROOT_WORDS)?.first_chunk()
    }

    #[inline(always)]
    fn walk<A: Bits>(&self, root: &Root, address: A) -> u16 {
        let root = followed(&root[0]);
        if root.kind() == Kind::Direct {
            return self.walk_on(self.entry(root.at() + address.chunk(0, TOP)), address, TOP);
        }
        self.walk_on(root, address, 0)
    }

    /// From an entry that stands at `depth` on. Each turn is six bits further on, so it ends whatever the words say.
    #[inline(always)]
    fn walk_on<A: Bits>(&self, mut entry: Entry, address: A, depth: u32) -> u16 {
        let mut depth = depth;
        loop {
            match entry.kind() {
                Kind::Class => return entry.as_class(),
                _ if depth >= A::WIDTH => return 0,
                Kind::Direct => return self.direct(entry.at(), address.chunk(depth, STRIDE)),
                kind => {
                    let run = run_of(starts_of(self.words, entry.at()), address.chunk(depth, STRIDE));
                    if kind == Kind::Narrow {
                        return self.direct(entry.at() + VALUES, run);
                    }
                    entry = self.entry(entry.at() + VALUES + run);
                }
            }
            depth += STRIDE;
        }
    }

    /// A class out of words with two each.
    #[inline(always)]
    fn direct(&self, at: usize, index: usize) -> u16 {
        // Relaxed: who comes here by acquire finds the node written; a value is all that its word tells.
        half(word(self.words, at + index / 2, Ordering::Relaxed), index)
    }

    #[inline(always)]
    fn entry(&self, at: usize) -> Entry {
        self.words.get(at).map_or(Entry::NONE, followed)
    }

    /// Counts what the table is made of. Not for damaged words: the figures would be as wrong as they are.
    #[must_use]
    pub fn anatomy(&self) -> Anatomy {
        // Relaxed throughout: figures to look at.
        let head = |at| word(self.words, at, Ordering::Relaxed);
        let mut live = u64::from(FIRST);
        for (family, width) in [(Head::V4, 32), (Head::V6, 128)] {
            let root = head(family.root) as usize;
            live += if root == 0 { 0 } else { ROOT_WORDS as u64 } + self.live_words(self.entry(root), 0, width);
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
        let runs = || 1 + starts_of(self.words, entry.at()).count_ones() as usize;
        match entry.kind() {
            Kind::Direct if depth == 0 => ARRAY as u64 + below(entry.at(), ARRAY, TOP),
            _ if depth >= width => 0,
            Kind::Class => 0,
            Kind::Direct => DIRECT_WORDS as u64,
            Kind::Narrow => u64::from(block_words(Kind::Narrow, runs())),
            Kind::Wide => {
                u64::from(block_words(Kind::Wide, runs())) + below(entry.at() + VALUES, runs(), depth + STRIDE)
            }
        }
    }
}

/// The words before the first node.
type Header = [AtomicU32; FIRST as usize];
/// A root block.
type Root = [AtomicU32; ROOT_WORDS];

/// How often freed words were used again before a walk.
#[inline(always)]
fn first_look(head: &Header) -> u32 {
    // Acquire: see "Orders" at `RouteTable`.
    head[REUSE].load(Ordering::Acquire)
}

/// How often they were after it.
#[inline(always)]
fn second_look(head: &Header) -> u32 {
    // The fence orders all that the walk read before this look; see "Orders" at `RouteTable`.
    fence(Ordering::Acquire);
    head[REUSE].load(Ordering::Relaxed)
}

/// The class that a walk came to, or that of the prefix of length 0.
#[inline(always)]
fn or_default(root: &Root, class: u16) -> u16 {
    // The word behind the default is zero. An index, because half of all random addresses have no longer route: the
    // processor would guess a branch wrong as often, and the compiler makes branches of all else.
    // Relaxed: written before the block was linked, and never again.
    class | root[1 + usize::from(class != 0)].load(Ordering::Relaxed) as u16
}

/// An entry that is to be followed.
#[inline(always)]
fn followed(word: &AtomicU32) -> Entry {
    // Acquire: partners with the release in `RouteWriter::publish()`.
    Entry(word.load(Ordering::Acquire))
}

/// The bitmap of a node.
#[inline(always)]
pub(crate) fn starts_of(words: &[AtomicU32], at: usize) -> u64 {
    // Relaxed: who comes here by acquire finds them written, and they do not change while the node is linked.
    let low = word(words, at, Ordering::Relaxed);
    let high = word(words, at + 1, Ordering::Relaxed);
    u64::from(high) << 32 | u64::from(low)
}
