//! What a program on a stack and whoever waits for it have in common.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vnet_base::sync::{AtomicBool, Ordering};

/// A report that grows while its program runs, and whether the program is over.
pub struct Share<T> {
    report: Mutex<(T, bool)>,
    over: Condvar,
    stop: AtomicBool,
}

impl<T> Share<T> {
    /// A report to start with.
    pub fn new(report: T) -> Arc<Self> {
        Arc::new(Self { report: Mutex::new((report, false)), over: Condvar::new(), stop: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, (T, bool)> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the report, or changes it.
    pub fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.lock().0)
    }

    /// The program is over.
    pub fn finish(&self) {
        self.lock().1 = true;
        self.over.notify_all();
    }

    /// Whether the program is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().1
    }

    /// Waits until the program is over; false when the time is before.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let (guard, _) = self
            .over
            .wait_timeout_while(self.lock(), timeout, |(_, over)| !*over)
            .unwrap_or_else(PoisonError::into_inner);
        guard.1
    }

    /// Asks the program to end at its next visit.
    pub fn stop(&self) {
        // Relaxed: the flag is all there is to see.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the program was asked to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why a program is over that nobody asked to end.
pub const LEFT: &str = "the guest left the LAN";

/// How soon a program looks again at a connection that is being opened: that nobody got its first segment comes to light
/// when it is sent, and nothing comes in by which the program would be visited. In nanoseconds.
pub const LOOK: u64 = 1_000_000;
