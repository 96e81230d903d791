//! Routes → nodes: builds what is not linked yet, and notes what is to be linked and unlinked.

use super::bits::Bits;
use super::reader::starts_of;
use super::rib::{Item, Rib};
use super::space::{Block, NoRoom, Space};
use super::words::{
    ARRAY, DIRECT_WORDS, Entry, Head, Kind, ROOT_WORDS, SLOTS, STEP, STRIDE, TOP, VALUES, block_words, half, run_of,
};
use crate::sync::{AtomicU32, Ordering};

/// What one change of the table does: done wholly by the writer's `publish()`, or undone by its `discard()`.
#[derive(Default)]
pub(crate) struct Edit {
    /// Blocks written, to be linked by `flips`.
    pub(crate) built: Vec<Block>,
    /// Blocks that the flips unlink.
    pub(crate) unlinked: Vec<Block>,
    /// Words to change, and what into.
    pub(crate) flips: Vec<(usize, u32)>,
    /// Whether a root block is among what the flips link.
    pub(crate) another_root: bool,
}

/// The route that changed: the addresses under it have `class` where no longer prefix says otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Change<A> {
    pub(crate) address: A,
    pub(crate) length: u32,
    pub(crate) class: u16,
}

/// Builds nodes in free words.
pub(crate) struct Shaper<'w, 'm> {
    pub(crate) memory: &'m [AtomicU32],
    pub(crate) space: &'w mut Space,
    pub(crate) edit: &'w mut Edit,
    /// Whether the family's root is an array.
    pub(crate) large: bool,
}

impl Shaper<'_, '_> {
    /// Links another root block, or none for a family without routes.
    pub(crate) fn link_root(&mut self, head: Head, entry: Entry, default: u16) -> Result<(), NoRoom> {
        // Relaxed: only the writer writes.
        let old = self.memory[head.root].load(Ordering::Relaxed);
        let mut new = 0;
        if entry != Entry::NONE || default != 0 {
            (new, _) = self.take(ROOT_WORDS as u32)?;
            let block = [entry.0, u32::from(default), 0, 0];
            for (word, value) in self.memory[new as usize..].iter().zip(block) {
                // Relaxed: not linked yet; `publish()` orders it.
                word.store(value, Ordering::Relaxed);
            }
        }
        if old != 0 {
            self.edit.unlinked.push(Block { at: old, words: ROOT_WORDS as u32 });
        }
        self.edit.another_root |= old != new;
        self.flip(head.root, old, new);
        Ok(())
    }

    /// A root for all routes but that of length 0, sorted.
    pub(crate) fn root<A: Bits>(&mut self, items: &[Item<A>]) -> Result<Entry, NoRoom> {
        let items = if items.first().is_some_and(|item| item.length == 0) { &items[1..] } else { items };
        if !self.large {
            return self.tree(items, 0, 0);
        }
        let mut entries = vec![Entry::NONE; ARRAY];
        self.spread(&mut entries, 0, items, 0, TOP)?;
        let (at, untouched) = self.take(ARRAY as u32)?;
        for (word, entry) in self.memory[at as usize..][..ARRAY].iter().zip(&entries) {
            // A page that was never written stays unwritten where there is nothing to write.
            if !untouched || *entry != Entry::NONE {
                // Relaxed: not linked yet; `publish()` orders it.
                word.store(entry.0, Ordering::Relaxed);
            }
        }
        Ok(Entry::node(Kind::Direct, at))
    }

    /// An entry for the addresses whose first `depth` bits are given: `items` are the routes inside, sorted and all
    /// longer, `class` is that of the longest route around them.
    fn tree<A: Bits>(&mut self, items: &[Item<A>], depth: u32, class: u16) -> Result<Entry, NoRoom> {
        if items.is_empty() {
            return Ok(Entry::class(class));
        }
        let mut slots = [Entry::class(class); SLOTS];
        self.spread(&mut slots, 0, items, depth, STRIDE)?;
        self.node::<A>(&slots, depth, Entry::NONE)
    }

    /// Lays `items` over slots that tell `bits` bits from `depth` on apart; the first of the slots has number `first`.
    ///
    /// Routes come before what they contain, so a slot's class is settled when the first route inside of it comes.
    fn spread<A: Bits>(
        &mut self,
        slots: &mut [Entry],
        first: usize,
        items: &[Item<A>],
        depth: u32,
        bits: u32,
    ) -> Result<(), NoRoom> {
        let end = depth + bits;
        let mut rest = items;
        while let Some(item) = rest.first() {
            let slot = item.address.chunk(depth, bits) - first;
            let length = u32::from(item.length);
            if length <= end {
                slots[slot..][..1 << (end - length)].fill(Entry::class(item.class));
                rest = &rest[1..];
            } else {
                let inside = rest.partition_point(|item| item.address.chunk(depth, bits) - first == slot);
                slots[slot] = self.tree(&rest[..inside], end, slots[slot].as_class())?;
                rest = &rest[inside..];
            }
        }
        Ok(())
    }

    /// The entry that takes the place of `entry`, which stands at `depth`, after a change inside of it. `inside` are
    /// the routes within the changed one.
    pub(crate) fn revised<A: Bits>(
        &mut self,
        entry: Entry,
        depth: u32,
        change: Change<A>,
        inside: &[Item<A>],
    ) -> Result<Entry, NoRoom> {
        if depth == 0 && entry.kind() == Kind::Direct {
            self.revise_array(entry, change, inside)?;
            return Ok(entry);
        }
        let mut slots = self.slots_of(entry);
        let end = depth + STRIDE;
        let slot = change.address.chunk(depth, STRIDE);
        if change.length > end {
            slots[slot] = self.revised(slots[slot], end, change, inside)?;
        } else {
            let changed = &mut slots[slot..][..1 << (end - change.length)];
            for entry in changed.iter() {
                self.unlink_all(*entry, end);
            }
            changed.fill(Entry::class(change.class));
            self.spread(changed, slot, inside, depth, STRIDE)?;
        }
        self.node::<A>(&slots, depth, entry)
    }

    fn revise_array<A: Bits>(&mut self, array: Entry, change: Change<A>, inside: &[Item<A>]) -> Result<(), NoRoom> {
        let slot = change.address.chunk(0, TOP);
        if change.length > TOP {
            let word = array.at() + slot;
            let old = self.entry(word);
            let new = self.revised(old, TOP, change, inside)?;
            self.flip(word, old.0, new.0);
            return Ok(());
        }
        let mut slots = vec![Entry::class(change.class); 1 << (TOP - change.length)];
        self.spread(&mut slots, slot, inside, 0, TOP)?;
        for (index, new) in slots.iter().enumerate() {
            let word = array.at() + slot + index;
            let old = self.entry(word);
            self.unlink_all(old, TOP);
            self.flip(word, old.0, new.0);
        }
        Ok(())
    }

    /// An entry for these slots at `depth`: a class where all are the same, `old` itself where it has the same runs,
    /// else a new node. What `old` led to and the slots do not has been unlinked already.
    fn node<A: Bits>(&mut self, slots: &[Entry; SLOTS], depth: u32, old: Entry) -> Result<Entry, NoRoom> {
        let mut starts = 0u64;
        let mut wide = slots[0].is_node();
        for slot in 1..SLOTS {
            // Two nodes are never the same, so a node is a run of its own.
            starts |= u64::from(slots[slot] != slots[slot - 1]) << slot;
            wide |= slots[slot].is_node();
        }
        if starts == 0 && !wide {
            self.unlink(old, depth);
            return Ok(slots[0]);
        }
        let kind = match wide {
            true => Kind::Wide,
            false if A::DIRECT && self.large && depth == TOP => Kind::Direct,
            false => Kind::Narrow,
        };
        let mut node = [0u32; VALUES + SLOTS];
        let count = write_node(&mut node, slots, starts, kind);
        let same_runs = old.kind() == kind && (kind == Kind::Direct || starts_of(self.memory, old.at()) == starts);
        if same_runs {
            for (index, &value) in node[..count].iter().enumerate() {
                let word = old.at() + index;
                // Relaxed: nobody else writes.
                self.flip(word, self.memory[word].load(Ordering::Relaxed), value);
            }
            return Ok(old);
        }
        let (at, _) = self.take((count as u32).next_multiple_of(STEP))?;
        for (word, &value) in self.memory[at as usize..].iter().zip(&node[..count]) {
            // Relaxed: not linked yet; `publish()` orders it.
            word.store(value, Ordering::Relaxed);
        }
        self.unlink(old, depth);
        Ok(Entry::node(kind, at))
    }

    /// What an entry says of each of its slots.
    fn slots_of(&self, entry: Entry) -> [Entry; SLOTS] {
        if !entry.is_node() {
            return [entry; SLOTS];
        }
        let direct = entry.kind() == Kind::Direct;
        let (starts, values) =
            if direct { (!0, entry.at()) } else { (starts_of(self.memory, entry.at()), entry.at() + VALUES) };
        core::array::from_fn(|slot| {
            let run = if direct { slot } else { run_of(starts, slot) };
            if entry.kind() == Kind::Wide {
                return self.entry(values + run);
            }
            Entry::class(half(self.entry(values + run / 2).0, run))
        })
    }

    fn entry(&self, at: usize) -> Entry {
        // Relaxed: only the writer writes.
        Entry(self.memory[at].load(Ordering::Relaxed))
    }

    fn take(&mut self, words: u32) -> Result<(u32, bool), NoRoom> {
        let (at, untouched) = self.space.take(self.memory, words)?;
        self.edit.built.push(Block { at, words });
        Ok((at, untouched))
    }

    pub(crate) fn flip(&mut self, word: usize, old: u32, new: u32) {
        if old != new {
            self.edit.flips.push((word, new));
        }
    }

    /// Notes that the block of this entry at `depth` goes, and not what lies below it.
    fn unlink(&mut self, entry: Entry, depth: u32) {
        let words = match entry.kind() {
            Kind::Class => return,
            Kind::Direct if depth == 0 => ARRAY as u32,
            Kind::Direct => DIRECT_WORDS as u32,
            kind => block_words(kind, 1 + starts_of(self.memory, entry.at()).count_ones() as usize),
        };
        self.edit.unlinked.push(Block { at: entry.at() as u32, words });
    }

    /// Notes that all goes that this entry at `depth` leads to.
    pub(crate) fn unlink_all(&mut self, entry: Entry, depth: u32) {
        let (first, count, below) = match entry.kind() {
            Kind::Class => return,
            Kind::Direct if depth == 0 => (entry.at(), ARRAY, TOP),
            Kind::Narrow | Kind::Direct => (0, 0, 0),
            Kind::Wide => {
                let runs = 1 + starts_of(self.memory, entry.at()).count_ones() as usize;
                (entry.at() + VALUES, runs, depth + STRIDE)
            }
        };
        for at in first..first + count {
            self.unlink_all(self.entry(at), below);
        }
        self.unlink(entry, depth);
    }
}

/// The words of a node; returns how many.
fn write_node(node: &mut [u32; VALUES + SLOTS], slots: &[Entry; SLOTS], starts: u64, kind: Kind) -> usize {
    let bitmap = if kind == Kind::Direct { 0 } else { VALUES };
    node[..bitmap].copy_from_slice(&[starts as u32, (starts >> 32) as u32][..bitmap]);
    let mut runs = 0;
    for (slot, entry) in slots.iter().enumerate() {
        if kind != Kind::Direct && slot > 0 && starts >> slot & 1 == 0 {
            continue;
        }
        if kind == Kind::Wide {
            node[bitmap + runs] = entry.0;
        } else {
            node[bitmap + runs / 2] |= u32::from(entry.as_class()) << (runs % 2 * 16);
        }
        runs += 1;
    }
    bitmap + if kind == Kind::Wide { runs } else { runs.div_ceil(2) }
}

/// All routes that a change in `rib` at this prefix leaves to be laid out anew, and the class around them.
pub(crate) fn change_of<A: Bits>(rib: &Rib<A>, address: A, length: u8, inside: &mut Vec<Item<A>>) -> Change<A> {
    rib.inside(address, length, inside);
    // The route of length 0 is no part of the tree.
    let around = rib.longest(address, u32::from(length)).filter(|item| item.length > 0);
    Change { address, length: u32::from(length), class: around.map_or(0, |item| item.class) }
}
