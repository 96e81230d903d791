//! Work queues: items that many guests post for one, whose dispatcher is interrupted only where it is idle.
//!
//! # Theory of operation
//!
//! A queue is a memory file with a ring of slots for each priority; the guest that works on it has a desk, another memory
//! file, with one doorbell for all its queues.
//!
//! ```text
//!   poster                                              dispatcher (Worker)
//!   1 lock      OwnerLock of the queue                  1 look    tails, the most urgent priority first
//!   2 room?     tail - head < capacity                  2 take    items in their slots, or copied
//!   3 copy      items into the slots behind the tail    3 free    heads.swap; wake posters that wait for room
//!   4 publish   tails[priority].store: all appear       4 again   until nothing is found; it is busy all the time
//!   5 unlock                                            5 idle    bell ← asleep; pass every lock; look once more; sleep
//!   6 ring      only if the desk says that it is idle
//! ```
//!
//! This is US 7,181,744: the poster looks whether the target is busy. If it is, the item is left for the dispatcher to find
//! when its present item ends, and nobody is interrupted; if it is idle, it is interrupted once, whichever of its queues
//! the item is in.
//!
//! # Memory ordering
//!
//! - The store of a tail is a release, and the dispatcher loads it with acquire: items and their lengths are there.
//! - The dispatcher moves a head with a release (swap) after it has read the items; a poster loads it with acquire before
//!   it writes over them.
//! - The lock orders posters among each other: items of one poster and priority keep their order.
//! - A dispatcher that goes idle and a poster that publishes pass the same lock, one after the other: the dispatcher finds
//!   the item or the poster finds it idle; see [`OwnerLock::pass_through`](vnet_base::lock::OwnerLock::pass_through). With
//!   several queues there is one such pair for each, and the one bell serves all, because it says idle before the first.
//! - A poster that waits for room and a dispatcher that makes some both change the head's word, and likewise `room_wanted`
//!   and whoever ends the queue: one of the two sees the other.
//!
//! # Crash argument
//!
//! Nothing but the store of a tail makes items appear, all of a publication together. A poster that dies before it has
//! written behind the tail: nothing. One that dies after it has posted whole; what is left to do is to unlock in its name
//! ([`Queue::bury`], by the broker) and to ring. While the lock is a dead owner's, others wait for it under 100 ms, by the
//! lock's own bound. A dispatcher that dies ends its queues: the broker says so in `state` and wakes who waits for room.
//!
//! # What a peer can break
//!
//! Everybody who maps a queue can write anywhere in it. Lengths, heads and tails are bounded whenever they are read; those
//! that no protocol gives end the queue as damaged. Who waits does so in slices and looks again. So a peer can break this
//! queue, and delay by a slice a dispatcher on whose bell it lies; it can do nothing to other queues or processes.

mod desk;
mod layout;
mod memory;
#[cfg(not(loom))]
mod play;
mod post;
mod state;
mod work;

pub use desk::Desk;
#[cfg(not(loom))]
pub use desk::{Life, eventfd};
pub use layout::{LARGEST_CAPACITY, LARGEST_ITEM, PAGE, PRIORITIES, Shape, ShapeError};
pub use memory::{DeskMemory, Memory};
#[cfg(not(loom))]
pub use play::play;
pub use post::{Poster, Refused};
pub use state::{Ended, Queue, Statistics};
pub use work::{Found, Spin, Waited, Worker};

/// Some process wrote what no poster and no dispatcher writes: the queue is not to be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;
