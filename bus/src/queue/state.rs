//! A queue as all who have it see it: whether it still takes items, what it counted, and what the broker does to it.

use vnet_base::lock::Token;
use vnet_base::sync::{Ordering, futex_wake};

use super::layout::{Head, PRIORITIES, Shape};
use super::memory::Memory;

const OPEN: u32 = 0;

/// As which the broker takes locks, to see whether they can be had. No poster has it.
const BROKER: Token = Token(1);

/// Why a queue takes no more items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Ended {
    /// The guest that worked on it has let go of it.
    Closed = 1,
    /// The guest that worked on it left the LAN or died.
    Gone = 2,
    /// The LAN has ended.
    Lan = 3,
    /// Some process wrote into it what nobody writes.
    Damaged = 4,
}

/// A queue, mapped.
pub struct Queue {
    pub(crate) memory: Memory,
}

/// What a queue counted so far. Each is whole; together they may be a moment apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Items posted, by priority.
    pub posted: [u64; PRIORITIES],
    /// Items that the dispatcher took, by priority.
    pub taken: [u64; PRIORITIES],
    /// Items that found no room and were not waited for.
    pub refused: u64,
    /// Times that items were published.
    pub publications: u64,
    /// Publications after which the dispatcher had to be woken.
    pub interrupts: u64,
}

impl Queue {
    /// The queue in this memory.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// How large it is.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.memory.shape()
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head {
        self.memory.head()
    }

    /// Why it takes no more items; `None` while it does.
    #[inline]
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        // Acquire: partners with the exchange in `end()`; nothing but the reason follows from it.
        match self.head().posters.state.load(Ordering::Acquire) {
            OPEN => None,
            1 => Some(Ended::Closed),
            2 => Some(Ended::Gone),
            3 => Some(Ended::Lan),
            _ => Some(Ended::Damaged),
        }
    }

    /// Ends the queue, unless it has ended already, and wakes all posters that wait for room.
    pub fn end(&self, why: Ended) {
        let head = self.head();
        let _ = head.posters.state.compare_exchange(OPEN, why as u32, Ordering::AcqRel, Ordering::Relaxed);
        // A poster that waits puts its wish there before it looks at the state: one of the two sees the other.
        head.worker.room_wanted.swap(0, Ordering::AcqRel);
        futex_wake(&head.worker.room_wanted, i32::MAX);
    }

    /// Who holds the lock.
    #[must_use]
    pub fn owner(&self) -> Option<Token> {
        self.head().posters.lock.owner()
    }

    /// Unlocks in the name of `owner`, which must be dead. What it had published stands, and is to be rung for.
    pub fn bury(&self, owner: Token) -> bool {
        self.head().posters.lock.release_for(owner)
    }

    /// How many items are to be taken before a poster that has `wanted` is woken: not for each place that comes free where
    /// it can use many, and not so late that the dispatcher has nothing to do meanwhile.
    pub(crate) fn room_share(&self, wanted: usize) -> u32 {
        let most = (self.shape().capacity() / 8).max(1) as u32;
        u32::try_from(wanted).map_or(most, |wanted| wanted.clamp(1, most))
    }

    /// Whether nobody holds the lock and nobody can: some process wrote into it what no lock holds.
    pub fn is_jammed(&self) -> bool {
        let lock = &self.head().posters.lock;
        // A poster may get it between the two looks, but not each time.
        (0..100).all(|_| {
            let free = lock.owner().is_some() || lock.try_lock(BROKER);
            if free && lock.owner() == Some(BROKER) {
                lock.unlock();
            }
            !free
        })
    }

    /// What it counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let head = self.head();
        let mut statistics = Statistics {
            refused: head.posters.refused.load(Ordering::Relaxed),
            publications: head.posters.publications.load(Ordering::Relaxed),
            interrupts: head.posters.interrupts.load(Ordering::Relaxed),
            ..Statistics::default()
        };
        for priority in 0..self.shape().priorities() {
            statistics.taken[priority] = head.worker.heads[priority].load(Ordering::Acquire);
            statistics.posted[priority] = head.posters.tails[priority].load(Ordering::Acquire);
        }
        statistics
    }
}
