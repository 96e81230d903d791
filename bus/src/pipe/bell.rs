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
//! what it waits for, or the other finds the bell. `bus/tests/loom_pipe.rs` runs every order. Why the signals are what
//! they are stands in [`super::signal`]; the order in which they are taken, and taken back, stands here.

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
        // Acquire and release: partners with `take_any()` of a side that ends, which is seen here or sees this. For what is
        // published, the caller's read-modify-write that comes next does it.
        self.wanted.swap(position.max(1), Ordering::AcqRel) != 0
    }

    /// Whether the bell is set.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        // Acquire: partners with the release in `take_any()`.
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

    /// Says that this side is done. The caller then takes the other side's bell.
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

/// What a waiting reader found when it had set its bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    /// There is something already.
    Found,
    /// There is nothing: the next thing that comes is signalled.
    Nothing,
    /// There is nothing, the bell is as it was set before, and no token was left that could have woken anybody.
    StillNothing,
    /// The tokens cannot be had: the peer has gone.
    Gone,
}

/// The tokens of a reader's descriptor: how many are in it, or on their way, as far as the reader knows.
#[derive(Debug)]
pub struct Watch {
    owed: u32,
    /// Whether the bell was set before.
    armed: bool,
}

impl Watch {
    /// That of a new pipe, whose maker put the first token there.
    #[must_use]
    pub fn new() -> Self {
        Self { owed: 1, armed: false }
    }

    /// Sets the bell for `position`, so that the descriptor is readable exactly when there is something.
    ///
    /// `look` is the last look, behind `take_place`; `take` takes out as many tokens as it is told, and tells how many
    /// there were.
    ///
    /// # Errors
    ///
    /// Those of `look`.
    pub fn arm<E>(
        &mut self,
        bell: &Bell,
        position: u64,
        look: impl FnOnce() -> Result<bool, E>,
        take: impl FnOnce(u32) -> Option<u32>,
    ) -> Result<Armed, E> {
        let was_set = bell.announce(position);
        if self.armed && !was_set {
            // Whoever took the bell has sent a token, or is about to.
            self.owed = self.owed.saturating_add(1);
        }
        let still = self.armed && was_set && self.owed == 0;
        self.armed = true;
        if look()? {
            // The tokens stay: the descriptor is readable as it should be.
            return Ok(Armed::Found);
        }
        // Only those from before: what comes now is for the bell that was just set.
        if self.owed > 0 {
            let Some(taken) = take(self.owed) else { return Ok(Armed::Gone) };
            self.owed = self.owed.saturating_sub(taken);
        }
        Ok(if still { Armed::StillNothing } else { Armed::Nothing })
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

/// Sets the bell of a writer, so that its descriptor is writable exactly when there is room. Returns whether there is.
///
/// `hold` makes the descriptor unwritable until the peer signals, `look` is the last look, behind `take_place`, and
/// `release` makes the descriptor writable without the peer.
///
/// # Errors
///
/// Those of `look`.
pub fn arm_room<E>(
    bell: &Bell,
    position: u64,
    hold: impl FnOnce(),
    look: impl FnOnce() -> Result<bool, E>,
    release: impl FnOnce(),
) -> Result<bool, E> {
    // A peer that takes the bell before the descriptor is held has made the room before that, and the look behind both
    // finds it; one that takes it later takes away what holds the descriptor.
    hold();
    bell.announce(position);
    let found = look()?;
    if found {
        release();
    }
    Ok(found)
}
