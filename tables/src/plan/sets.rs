//! Sets of next hops of equal cost, each held once.

/// Finds again the sets that lie at the end of a plan's words.
///
/// A hash table of positions: it costs a copy of numbers to clone, and what it compares are the words themselves.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    /// Where the sets start among the words.
    at: usize,
    /// Positions from there plus one, 0 for none; a power of two of them, half of them free.
    table: Vec<u32>,
    count: usize,
}

impl Sets {
    /// No sets yet: they will lie from `at` on.
    pub(super) fn new(at: usize) -> Self {
        Self { at, table: vec![0; 64], count: 0 }
    }

    /// The same sets where `at` is another.
    pub(super) fn moved(&self, at: usize) -> Self {
        Self { at, ..self.clone() }
    }

    /// The position, from the start of the sets, of the one with these members; it is appended if it is new.
    pub(super) fn place(&mut self, members: &[(u32, u32)], words: &mut Vec<u32>) -> u32 {
        if 2 * (self.count + 1) > self.table.len() {
            self.widen(words);
        }
        let mut slot = hash(members.iter().flat_map(|&(out, into)| [out, into])) & (self.table.len() - 1);
        while self.table[slot] != 0 {
            let position = self.table[slot] - 1;
            if same(members, &words[self.at + position as usize..]) {
                return position;
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
        let position = (words.len() - self.at) as u32;
        words.push(members.len() as u32);
        words.extend(members.iter().flat_map(|&(out, into)| [out, into]));
        self.table[slot] = position + 1;
        self.count += 1;
        position
    }

    fn widen(&mut self, words: &[u32]) {
        let old = core::mem::take(&mut self.table);
        self.table = vec![0; 4 * old.len()];
        for position in old.into_iter().filter(|position| *position != 0) {
            let from = self.at + position as usize - 1;
            let members = &words[from + 1..][..2 * words[from] as usize];
            let mut slot = hash(members.iter().copied()) & (self.table.len() - 1);
            while self.table[slot] != 0 {
                slot = (slot + 1) & (self.table.len() - 1);
            }
            self.table[slot] = position;
        }
    }
}

fn same(members: &[(u32, u32)], set: &[u32]) -> bool {
    set[0] as usize == members.len() && set[1..].chunks_exact(2).zip(members).all(|(a, b)| a == [b.0, b.1])
}

fn hash(words: impl Iterator<Item = u32>) -> usize {
    let mixed =
        words.fold(0u64, |sum, word| (sum.rotate_left(5) ^ u64::from(word)).wrapping_mul(0x517c_c1b7_2722_0a95));
    (mixed >> 32) as usize
}
