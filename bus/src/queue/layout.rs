//! What lies in a queue's memory file and on a guest's desk, drawn.
//!
//! ```text
//!  Queue, one memory file, of a size that follows from its Shape; each group has a cache line pair of its own
//!     0  ┌ posters  lock u32 │ state u32 │ tails u64 ×8 │ publications, refused, interrupts u64    by posters, under the lock
//!   128  ├ worker   heads u64 ×8 │ room_wanted u32                                               by the dispatcher
//!  4096  ├ ring of priority 0
//!        ├ ring of priority 1 …                                                               each a whole number of pages
//!
//!  ring: slots, a power of two of them, `stride` bytes each
//!     0  ┌ length u64                                                                          bytes of the item
//!     8  └ the item, padded to 8 bytes
//!
//!  Desk, one page for each guest that works on queues
//!     0  └ bell     idle u32: 0 busy, 1 asleep on this word, 2 waits for its descriptor
//! ```
//!
//! `tails[p]` and `heads[p]` count items that were ever posted with priority `p` and taken. Item number `n` lies in slot
//! `n % slots`. The shape is not in the memory: whoever maps a queue has it from the broker, where no peer can change it.

use vnet_base::control::Bell;
use vnet_base::lock::OwnerLock;
use vnet_base::sync::{AtomicU32, AtomicU64};

/// Most priorities that a queue has.
pub const PRIORITIES: usize = if cfg!(loom) { 2 } else { 8 };

/// Most items of each priority.
pub const LARGEST_CAPACITY: u32 = 1 << 24;

/// Most bytes of an item. What is larger is a region, and the item its handle.
pub const LARGEST_ITEM: u32 = 1 << 24;

/// Bytes before the first ring, and what rings are rounded to.
pub const PAGE: u64 = 4096;

/// Bytes of a slot before the item.
pub(crate) const HEADER_BYTES: u64 = 8;

/// What posters share.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Posters {
    /// Around look, copy, publish; see [`crate::queue`].
    pub(crate) lock: OwnerLock,
    /// Whether the queue takes items; see [`Ended`](super::Ended).
    pub(crate) state: AtomicU32,
    /// Items ever posted, by priority. Storing one is what publishes items.
    pub(crate) tails: [AtomicU64; PRIORITIES],
    /// Times that items were published.
    pub(crate) publications: AtomicU64,
    /// Items that found no room. Added to without the lock.
    pub(crate) refused: AtomicU64,
    /// Publications after which the dispatcher had to be woken. Added to without the lock.
    pub(crate) interrupts: AtomicU64,
}

/// What the dispatcher publishes.
#[repr(C, align(128))]
#[derive(Default)]
pub struct WorkerLine {
    /// Items ever taken, by priority.
    pub(crate) heads: [AtomicU64; PRIORITIES],
    /// Posters sleep on this word until so many items were taken; 0 while none does.
    pub(crate) room_wanted: AtomicU32,
}

/// The head of a queue's memory file.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Head {
    pub(crate) posters: Posters,
    pub(crate) worker: WorkerLine,
}

/// A guest's desk: what tells whether it is busy, the same for all queues that it works on.
#[repr(C, align(128))]
#[derive(Default)]
pub struct DeskPage {
    /// The LAN's doorbell.
    pub(crate) bell: Bell,
}

/// How large a queue is. Everybody who maps it has the same from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    capacity: u32,
    item_bytes: u32,
    priorities: u32,
}

/// A queue cannot be as large as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Items of each priority.
    #[error("a queue holds 1 to {LARGEST_CAPACITY} items of each priority, not {0}")]
    Capacity(u32),
    /// Bytes of an item.
    #[error(
        "an item of a queue has at most 1 to {LARGEST_ITEM} bytes, not {0}; what is larger goes into a region, and its handle into the queue"
    )]
    Item(u32),
    /// Number of priorities.
    #[error("a queue has 1 to {PRIORITIES} priorities, not {0}")]
    Priorities(u32),
}

impl Shape {
    /// A queue for `capacity` items of up to `item_bytes` bytes in each of `priorities` priorities.
    ///
    /// # Errors
    ///
    /// [`ShapeError`].
    pub fn new(capacity: u32, item_bytes: u32, priorities: u32) -> Result<Self, ShapeError> {
        if !(1..=LARGEST_CAPACITY).contains(&capacity) {
            return Err(ShapeError::Capacity(capacity));
        }
        if !(1..=LARGEST_ITEM).contains(&item_bytes) {
            return Err(ShapeError::Item(item_bytes));
        }
        if !(1..=PRIORITIES as u32).contains(&priorities) {
            return Err(ShapeError::Priorities(priorities));
        }
        Ok(Self { capacity, item_bytes, priorities })
    }

    /// Items of each priority that the queue holds.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> u64 {
        u64::from(self.capacity)
    }

    /// Most bytes of an item.
    #[inline]
    #[must_use]
    pub fn item_bytes(&self) -> usize {
        self.item_bytes as usize
    }

    /// How many priorities there are; the largest number is the most urgent.
    #[inline]
    #[must_use]
    pub fn priorities(&self) -> usize {
        self.priorities as usize
    }

    /// Bytes from one slot to the next.
    #[inline]
    pub(crate) fn stride(&self) -> u64 {
        HEADER_BYTES + u64::from(self.item_bytes).next_multiple_of(8)
    }

    /// What a count of items is cut to, to have its slot.
    #[inline]
    pub(crate) fn slot_mask(&self) -> u64 {
        self.capacity().next_power_of_two() - 1
    }

    /// Bytes of a ring's area: a power of two, as areas are. Of what lies behind the last slot no page is ever touched.
    pub(crate) fn ring_bytes(&self) -> u64 {
        let bytes = (self.slot_mask() + 1) * self.stride();
        if cfg!(loom) { bytes.next_power_of_two() } else { bytes.next_power_of_two().max(PAGE) }
    }

    /// Bytes of the memory file. It is sparse: a page takes memory once an item was written to it.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        PAGE + self.ring_bytes() * u64::from(self.priorities)
    }

    /// Bytes that the queue takes when it has been full.
    #[must_use]
    pub fn full_bytes(&self) -> u64 {
        PAGE + (self.slot_mask() + 1) * self.stride() * u64::from(self.priorities)
    }

    /// Where in the memory file a ring begins.
    pub(crate) fn ring_at(&self, priority: usize) -> u64 {
        PAGE + self.ring_bytes() * priority as u64
    }
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(offset_of!(Posters, state) == 4);
    assert!(offset_of!(Posters, tails) == 8);
    assert!(offset_of!(Posters, publications) == 72);
    assert!(offset_of!(Posters, interrupts) == 88);
    assert!(offset_of!(Head, worker) == 128);
    assert!(offset_of!(WorkerLine, room_wanted) == 64);
    assert!(size_of::<Head>() == 256);
    assert!(size_of::<DeskPage>() as u64 <= PAGE);
    assert!(PAGE.is_multiple_of(128));
};
