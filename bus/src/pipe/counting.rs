//! What an end counts.

use vnet_base::sync::{AtomicU64, Ordering};

/// What an end has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes written; of messages, without what holds them apart.
    pub written: u64,
    /// Bytes read, likewise.
    pub read: u64,
    /// Calls that wrote something.
    pub writes: u64,
    /// Calls that read something.
    pub reads: u64,
    /// Times that the peer was interrupted, because it slept.
    pub rung: u64,
    /// Times that it was not, because it was busy.
    pub saved: u64,
    /// Times that this end slept.
    pub slept: u64,
}

/// One counter. Whoever adds has the turn, so that adding need not be one step.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub fn add(&self, count: u64) {
        // Relaxed: nothing follows from a counter.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one direction.
#[derive(Default)]
pub(super) struct Side {
    pub bytes: Count,
    pub calls: Count,
    pub rung: Count,
    pub saved: Count,
    pub slept: Count,
}

/// The counters of an end, which outlive it.
#[derive(Default)]
pub struct Tally {
    pub(super) sent: Side,
    pub(super) received: Side,
}

impl Tally {
    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (sent, received) = (&self.sent, &self.received);
        Counters {
            written: sent.bytes.get(),
            read: received.bytes.get(),
            writes: sent.calls.get(),
            reads: received.calls.get(),
            rung: sent.rung.get() + received.rung.get(),
            saved: sent.saved.get() + received.saved.get(),
            slept: sent.slept.get() + received.slept.get(),
        }
    }
}
