//! The bus: memory that guests share on purpose, beside the LAN.
//!
//! ```text
//!   region   memory files that guests map by handle, and the page frames behind them
//!   pipe     an ordered, lossless, flow-controlled byte stream between two guests
//!   queue    work items for a dispatcher, which is interrupted only where it is idle
//!   forks    whether this is a forked child (unsafe)
//! ```
//!
//! No code here knows names, access lists or Python. Whatever it reads in shared memory may be nonsense, because a peer can
//! write there; it is bounded before it is used, so that a peer can break its own pipe or queue and nothing else.
#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod forks;
pub mod pipe;
pub mod queue;
#[cfg(not(loom))]
pub mod region;
