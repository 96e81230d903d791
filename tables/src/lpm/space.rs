//! Which words are free, and from when on they may be used again.

use std::collections::BTreeMap;

use super::words::{FIRST, LINE, MOST_WORDS, REUSE, STEP, USED};
use crate::sync::{AtomicU32, Ordering, fence};

/// Words that rest before they are used again: few enough that a small table stays in a few pages, enough for a
/// look-up beside 100,000 updates a second to meet a move of `reuse` once in a million times.
pub(crate) const REST: u32 = 4096;

/// A run of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block {
    pub(crate) at: u32,
    pub(crate) words: u32,
}

/// No room for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// The blocks of a table, kept in the writer's own memory.
pub(crate) struct Space {
    /// Free blocks by size, in words.
    free: BTreeMap<u32, Vec<u32>>,
    /// Unlinked, but readers may still be inside.
    resting: Vec<Block>,
    resting_words: u32,
    rest: u32,
    /// One past the last word ever used.
    used: u32,
    end: u32,
}

impl Space {
    pub(crate) fn new(words: usize, rest: u32) -> Self {
        let end = words.min(MOST_WORDS) as u32;
        Self { free: BTreeMap::new(), resting: Vec::new(), resting_words: 0, rest, used: FIRST, end }
    }

    /// A block of this many words, and whether it was never used, so that all of it is zero.
    pub(crate) fn take(&mut self, memory: &[AtomicU32], words: u32) -> Result<(u32, bool), NoRoom> {
        if let Some(at) = self.free.get_mut(&words).and_then(Vec::pop) {
            return Ok((at, false));
        }
        if let Some(at) = self.cut(words) {
            return Ok((at, false));
        }
        if let Some(at) = self.fresh(memory, words) {
            return Ok((at, true));
        }
        self.give_back(memory);
        self.join();
        self.free.get_mut(&words).and_then(Vec::pop).or_else(|| self.cut(words)).map(|at| (at, false)).ok_or(NoRoom)
    }

    /// From a larger free block.
    fn cut(&mut self, words: u32) -> Option<u32> {
        // Arrays are left whole for the next array.
        let (&size, _) = self.free.range(words + STEP..).find(|(_, blocks)| !blocks.is_empty())?;
        let at = self.free.get_mut(&size)?.pop()?;
        self.put(Block { at: at + words, words: size - words });
        Some(at)
    }

    /// Behind all that was ever used; a block that fits a cache line does not lie across two.
    fn fresh(&mut self, memory: &[AtomicU32], words: u32) -> Option<u32> {
        let in_line = self.used % LINE;
        let skip = if words <= LINE && in_line + words > LINE { LINE - in_line } else { 0 };
        let at = self.used + skip;
        let used = at.checked_add(words).filter(|&used| used <= self.end)?;
        if skip > 0 {
            self.put(Block { at: self.used, words: skip });
        }
        self.used = used;
        // Relaxed: readers do not need it; who copies the table is the writer itself.
        memory[USED].store(used, Ordering::Relaxed);
        Some(at)
    }

    /// A block that no reader can have seen.
    pub(crate) fn put(&mut self, block: Block) {
        self.free.entry(block.words).or_default().push(block.at);
    }

    /// A block that is linked no more.
    pub(crate) fn lay_to_rest(&mut self, block: Block) {
        self.resting.push(block);
        self.resting_words = self.resting_words.saturating_add(block.words);
    }

    /// Gives what rests free once it is enough.
    pub(crate) fn settle(&mut self, memory: &[AtomicU32]) {
        if self.resting_words > self.rest {
            self.give_back(memory);
        }
    }

    /// Moves `reuse`, after which what rested may be written.
    pub(crate) fn give_back(&mut self, memory: &[AtomicU32]) {
        // Release: partners with the first look of `RouteTable::steadily()`; who sees the move sees every link to
        // these words gone. The counter wraps after 2^32 moves, each of them a thousand updates: a reader would have
        // to stand still in one look-up for a year of nothing but updates.
        let moves = memory[REUSE].load(Ordering::Relaxed).wrapping_add(1);
        memory[REUSE].store(moves, Ordering::Release);
        // Orders the move before all that will be written into these words; partners with the fence before the
        // second look: who sees a word of the new use sees the move.
        fence(Ordering::Release);
        for block in core::mem::take(&mut self.resting) {
            self.put(block);
        }
        self.resting_words = 0;
    }

    /// Makes one block of free neighbours. Only when room is short: it looks at all free blocks.
    fn join(&mut self) {
        let mut blocks: Vec<Block> = core::mem::take(&mut self.free)
            .into_iter()
            .flat_map(|(words, places)| places.into_iter().map(move |at| Block { at, words }))
            .collect();
        blocks.sort_unstable();
        let mut joined: Vec<Block> = Vec::with_capacity(blocks.len());
        for block in blocks {
            match joined.last_mut() {
                Some(last) if last.at + last.words == block.at => last.words += block.words,
                _ => joined.push(block),
            }
        }
        joined.into_iter().for_each(|block| self.put(block));
    }
}
