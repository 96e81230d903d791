//! The bell of a side that waits: how the other learns that it is to be woken, and from which position on.
//!
//! ```text
//!   waits                                       rings
//!   wanted ← position   (announce)              write, publish       (RMW on its position)
//!   take_place          (RMW on that position)  look at wanted; take it back (RMW); signal
//!   look once more, sleep
//! ```
//!
//! Whichever of the two operations on the position comes second sees what stands above the first: the waiter finds
//! what it waits for, or the other finds the bell. `bus/tests/loom_pipe.rs` runs every order. What is signalled, and
//! that each signal is taken once, is the business of [`super::signal`].

use vnet_base::sync::{AtomicU32, AtomicU64, Ordering};

/// The bell of one side of a way, and whether that side is done.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Bell {
    /// The position that the side waits for; 0 when it does not. Positions that are waited for are never 0.
    pub(super) wanted: AtomicU64,
    /// Whether the side writes, or reads, no more.
    pub(super) no_more: AtomicU32,
}

impl Bell {
    /// Says that the other side is to signal when its position gets to `position`. Returns whether the bell was set.
    ///
    /// The caller looks once more afterwards, behind [`vnet_base::sync::take_place`] on the position.
    #[inline]
    pub fn announce(&self, position: u64) -> bool {
        // Acquire: partners with the release in `take()`. The release that the other side needs is that of the
        // read-modify-write which the caller does next.
        self.wanted.swap(position.max(1), Ordering::AcqRel) != 0
    }

    /// Whether the bell is set.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        // Acquire: partners with the release in `take()`.
        self.wanted.load(Ordering::Acquire) != 0
    }

    /// Takes the bell back if it waits for no more than `position`: the caller, and nobody else, then signals.
    #[inline]
    #[must_use]
    pub fn take(&self, position: u64) -> bool {
        // Relaxed: the read-modify-write that published `position` ordered this look behind it.
        let wanted = self.wanted.load(Ordering::Relaxed);
        wanted != 0 && position.wrapping_sub(wanted) < 1 << 63 && self.take_any()
    }

    /// Takes the bell back whatever it waits for.
    #[inline]
    #[must_use]
    pub fn take_any(&self) -> bool {
        // Release: whoever finds the bell taken sees what was published. Of two that ring only one signals.
        self.wanted.swap(0, Ordering::AcqRel) != 0
    }

    /// Says that this side is done. The caller then passes its own position, as behind a publication.
    pub fn end(&self) {
        // Release: whoever sees this sees the last position.
        self.no_more.store(1, Ordering::Release);
    }

    /// Whether the side has said that it is done.
    #[inline]
    #[must_use]
    pub fn ended(&self) -> bool {
        // Acquire: partners with `end()`.
        self.no_more.load(Ordering::Acquire) != 0
    }
}
