//! The measuring loops of `vnet bench`: ours, and the bare references beside them.
//!
//! ```text
//!   arena    a memory file that both processes map: gates, cache lines, the bare ring; huge pages (unsafe)
//!   bare     the references: single-producer rings that only copy, cache-line and futex ping-pong
//!   ours     the same work over a LAN
//!   pipes    the same work over a pipe
//!   queues   the same work over work queues
//!   routes   look-ups in the route table, beside a plain DIR-24-8 array
//!   sockets  the same work over datagram sockets, and over a Unix stream socket
//!   tap      TAP devices for `tap_loop`, the bare loop between two of them (unsafe)
//! ```
//!
//! Two processes, each pinned, call the two halves of a measurement with the same numbers; a gate in the arena starts them
//! together. Every loop is bounded in count and by a deadline, so a peer that died ends the measurement.
#![deny(unsafe_code)]

pub mod arena;
pub mod bare;
pub mod ours;
pub mod pipes;
pub mod queues;
pub mod routes;
pub mod sockets;
pub mod tap;

use std::time::{Duration, Instant};

use vnet_base::sync::{AtomicU64, Ordering};

/// Datagrams between two publications.
pub const BATCH: u64 = 32;

/// A measurement that takes longer has lost its peer.
const LIMIT: Duration = Duration::from_secs(30);

/// The peer did not do its part in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLost;

/// Looks at the clock now and then, so that loops stay loops, and at whether the peer is known to have died.
pub struct Deadline<'a> {
    end: Instant,
    turns: u32,
    lost: &'a AtomicU64,
}

impl<'a> Deadline<'a> {
    /// A deadline that starts now; `lost` is set once the peer has died.
    #[must_use]
    pub(crate) fn new(lost: &'a AtomicU64) -> Self {
        Self { end: Instant::now() + LIMIT, turns: 0, lost }
    }

    /// One turn of an unproductive loop.
    ///
    /// # Errors
    ///
    /// [`PeerLost`].
    #[inline]
    pub fn turn(&mut self) -> Result<(), PeerLost> {
        self.turns = self.turns.wrapping_add(1);
        // Relaxed: nothing but the end of the measurement follows from it.
        if self.lost.load(Ordering::Relaxed) != 0 {
            return Err(PeerLost);
        }
        if self.turns.is_multiple_of(1 << 20) && Instant::now() > self.end {
            return Err(PeerLost);
        }
        std::hint::spin_loop();
        Ok(())
    }
}

/// An IPv4 datagram of `size` bytes to `destination`, 20 at least; the rest counts up.
#[must_use]
pub fn datagram(size: usize, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size.max(20)).map(|index| index as u8).collect();
    bytes[..20].fill(0);
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(size as u16).to_be_bytes());
    bytes[8] = 64;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&source);
    bytes[16..20].copy_from_slice(&destination);
    bytes
}
