//! Pipes: an ordered, lossless, flow-controlled byte stream each way, in memory that two guests share.
//!
//! ```text
//!   layout   the memory file, drawn (unsafe: maps it)
//!   ring     the writer's and the reader's side of one way
//!   bell     who waits, and from which position on
//!   signal   the descriptors: waking the peer, learning of its death, what a program polls
//!   message  boundaries of messages, where the pipe keeps them
//!   end      one end: what threads share, and how it ends         ── start here
//!   reading  its reading side
//!   writing  its writing side
//!   counting what it counts
//!   turn     threads of one process that share an end
//!   seats    what forked children must not keep (unsafe)
//! ```
//!
//! # Theory of operation
//!
//! The bytes go from the writer's buffer into a ring and from there into the reader's: two copies, no system call while
//! both sides are busy. Who finds nothing to do looks for a while (as long as that has lately paid off), then sets a bell
//! in the shared memory and sleeps in `poll`; the peer makes its one system call only for a bell that is set. Nobody else
//! takes part: the process that made the pipe may have ended long ago.
//!
//! What a peer can do to us by writing into the shared memory or into the sockets: make [`Failure::Nonsense`] of its own
//! pipe, let us sleep until our time is over, wake us for nothing, or give us bytes other than those it wrote.

pub mod bell;
#[cfg(not(loom))]
mod counting;
#[cfg(not(loom))]
mod end;
pub mod layout;
#[cfg(not(loom))]
mod message;
#[cfg(not(loom))]
mod reading;
pub mod ring;
#[cfg(not(loom))]
mod seats;
#[cfg(not(loom))]
pub mod signal;
#[cfg(not(loom))]
mod turn;
#[cfg(not(loom))]
mod writing;

#[cfg(not(loom))]
pub use counting::{Counters, Tally};
#[cfg(not(loom))]
pub use end::{End, Failure, Files, Wait, make};
#[cfg(not(loom))]
pub use message::Progress;
