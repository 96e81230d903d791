//! The clocks that workers and senders are given. The only place of this crate that reads one for datagrams.

use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Nanoseconds since the machine started; for intervals.
#[must_use]
pub fn monotonic() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds since 1970 (UTC); for captures.
#[must_use]
pub fn wall() -> u64 {
    read(ClockId::Realtime)
}
