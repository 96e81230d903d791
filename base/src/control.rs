//! Control blocks, counters and worker blocks: what lies in the buffers segment beside the rings.
//!
//! ```text
//!  Control, 1 KiB for each NIC; each group has a cache line pair of its own, so that no two writers share one
//!     0  ┌ senders    lock u32 │ generation u32 │ tail u64 │ head_seen u64 │ rx counters u64 ×4   written under the lock
//!   128  ├ receiver   head u64 │ space_wanted u32                           written by the receiver (and who waits)
//!   256  ├ doorbell   idle u32                                              written only to sleep and to wake
//!   384  ├ owner      verdicts u64 ×16 │ bytes, rung, saved u64             written by the NIC's own guest
//!   640  ├ base       the same                                              written by the base in the NIC's name
//!   896  └ handed     datagrams, bytes, dropped u64                         handed to the guest by its worker
//!
//!  WorkerBlock, 16 KiB for each base worker
//!     0  ┌ sleeping u32                                                     the worker's doorbell
//!   128  ├ summary  u64 ×16: bit w of word s says that word s×64+w of `ready` has a bit set
//!   256  └ ready    u64 ×1024: bit b of word w says that slot w×64+b has work
//! ```

use crate::lock::OwnerLock;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::verdict::{VERDICTS, Verdict};

/// What senders share, written under the lock but for the lock itself.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Senders {
    /// Around reserve, copy, publish; see [`crate::buffer`].
    pub lock: OwnerLock,
    /// Which NIC's buffer this is; differs from the tables' when the slot changed hands.
    pub generation: AtomicU32,
    /// Position where the next record goes.
    pub tail: AtomicU64,
    /// The receiver's `head` when a sender last looked.
    pub head_seen: AtomicU64,
    /// Datagrams put into the buffer.
    pub rx_datagrams: AtomicU64,
    /// Bytes put into the buffer, headers of the ring not counted.
    pub rx_bytes: AtomicU64,
    /// Datagrams refused because the buffer was full.
    pub rx_dropped: AtomicU64,
    /// Slot 0's only: datagrams that senders noted and the captures missed. Added to without the lock.
    pub missed: AtomicU64,
}

/// What the receiver publishes.
#[repr(C, align(128))]
#[derive(Default)]
pub struct ReceiverLine {
    /// Position up to which the receiver is done.
    pub head: AtomicU64,
    /// A sender sleeps until there is room: 1. Senders wait on this word.
    pub space_wanted: AtomicU32,
}

/// The receiver's doorbell, see [`crate::doorbell`].
#[repr(C, align(128))]
#[derive(Default)]
pub struct Bell {
    /// 0 busy, 1 asleep on this word, 2 left to its base worker.
    pub idle: AtomicU32,
}

/// What one sender did. Each block has one writer at a time.
#[repr(C, align(128))]
#[derive(Default)]
pub struct TxCounters {
    /// Datagrams by verdict.
    pub verdicts: [AtomicU64; VERDICTS],
    /// Bytes of the delivered ones.
    pub bytes: AtomicU64,
    /// Batches after which the receiver had to be woken.
    pub rung: AtomicU64,
    /// Batches after which it was busy and was left alone.
    pub saved: AtomicU64,
}

impl TxCounters {
    /// Counts `count` datagrams under `verdict`.
    #[inline]
    pub fn count(&self, verdict: Verdict, count: u64) {
        add(&self.verdicts[verdict as usize], count);
    }
}

/// Adds to a counter that only the caller writes. Others read it whole, because a word is.
#[inline]
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// What its base worker handed to a guest's own kernel without a stop in the input buffer. That worker alone writes it.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Handed {
    /// Datagrams that the guest's kernel took.
    pub datagrams: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Datagrams that it did not take.
    pub dropped: AtomicU64,
}

/// The control block of one NIC.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Control {
    /// Written under the lock.
    pub senders: Senders,
    /// Written by the receiver.
    pub receiver: ReceiverLine,
    /// Written to sleep and to wake.
    pub bell: Bell,
    /// What the NIC's guest sent.
    pub owner: TxCounters,
    /// What the base sent in the NIC's name.
    pub base: TxCounters,
    /// What its base worker handed to its guest.
    pub handed: Handed,
}

/// What a NIC sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent, by verdict.
    pub verdicts: [u64; VERDICTS],
    /// Bytes sent and delivered.
    pub tx_bytes: u64,
    /// Datagrams put into the input buffer.
    pub rx_datagrams: u64,
    /// Bytes put into the input buffer.
    pub rx_bytes: u64,
    /// Datagrams that found the input buffer full.
    pub rx_dropped: u64,
    /// Batches after which a receiver had to be woken.
    pub rung: u64,
    /// Batches after which the receiver was busy and was left alone.
    pub saved: u64,
}

impl Control {
    /// The counters as they stand; each is whole, together they may be a batch apart.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let both = |pick: fn(&TxCounters) -> &AtomicU64| read(pick(&self.owner)).wrapping_add(read(pick(&self.base)));
        let mut verdicts = [0; VERDICTS];
        for (index, count) in verdicts.iter_mut().enumerate() {
            *count = read(&self.owner.verdicts[index]).wrapping_add(read(&self.base.verdicts[index]));
        }
        Counters {
            verdicts,
            tx_bytes: both(|side| &side.bytes),
            rx_datagrams: read(&self.senders.rx_datagrams).wrapping_add(read(&self.handed.datagrams)),
            rx_bytes: read(&self.senders.rx_bytes).wrapping_add(read(&self.handed.bytes)),
            rx_dropped: read(&self.senders.rx_dropped).wrapping_add(read(&self.handed.dropped)),
            rung: both(|side| &side.rung),
            saved: both(|side| &side.saved),
        }
    }

    /// Starts all counters from zero, for a new NIC in the slot.
    pub(crate) fn clear_counters(&self) {
        let senders = &self.senders;
        let of_side = |side: &TxCounters| {
            side.verdicts
                .iter()
                .chain([&side.bytes, &side.rung, &side.saved])
                .for_each(|c| c.store(0, Ordering::Relaxed));
        };
        of_side(&self.owner);
        of_side(&self.base);
        let handed = [&self.handed.datagrams, &self.handed.bytes, &self.handed.dropped];
        for counter in [&senders.rx_datagrams, &senders.rx_bytes, &senders.rx_dropped].into_iter().chain(handed) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Words of `WorkerBlock::ready`.
pub const READY_WORDS: usize = if cfg!(loom) { 64 } else { 1024 };

/// Which of the NICs that a base worker serves have work.
#[repr(C, align(128))]
pub struct WorkerBlock {
    /// 1 while the worker sleeps on this word, 2 while it sleeps on descriptors.
    pub sleeping: AtomicU32,
    #[cfg(not(loom))]
    gap: [AtomicU32; 31],
    /// Which words of `ready` may have bits.
    pub summary: [AtomicU64; READY_WORDS / 64],
    /// Which slots have work.
    pub ready: [AtomicU64; READY_WORDS],
}

#[cfg(loom)]
impl WorkerBlock {
    pub(crate) fn model() -> Self {
        Self {
            sleeping: AtomicU32::new(0),
            summary: core::array::from_fn(|_| AtomicU64::new(0)),
            ready: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(offset_of!(Senders, generation) == 4);
    assert!(offset_of!(Senders, tail) == 8);
    assert!(offset_of!(Senders, rx_dropped) == 40);
    assert!(offset_of!(Senders, missed) == 48);
    assert!(offset_of!(Control, receiver) == 128);
    assert!(offset_of!(ReceiverLine, space_wanted) == 8);
    assert!(offset_of!(Control, bell) == 256);
    assert!(offset_of!(Control, owner) == 384);
    assert!(offset_of!(Control, base) == 640);
    assert!(offset_of!(Control, handed) == 896);
    assert!(offset_of!(TxCounters, bytes) == 128);
    assert!(size_of::<Control>() as u64 <= vnet_tables::layout::CONTROL_BYTES);
    assert!(offset_of!(WorkerBlock, summary) == 128);
    assert!(offset_of!(WorkerBlock, ready) == 256);
    assert!(size_of::<WorkerBlock>() as u64 <= vnet_tables::layout::WORKER_BYTES);
};
