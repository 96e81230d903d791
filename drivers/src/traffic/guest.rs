//! Drives programs on the NIC of a process, in the caller's thread.

use std::time::Duration;

use crate::driver::BUDGET;
use crate::ring::{Gone, Ring, Slice};
use crate::stack::{App, Stack};

/// Looks at the NIC after which a thread without work sleeps; a sleep costs as much as some tens of microseconds.
const SPINS: u32 = 200;

/// Moves what comes to the NIC through the stack and its programs until `end`, in nanoseconds of `clock`, until no program
/// is left, or until a signal comes. Programs that are over leave `apps`.
///
/// # Errors
///
/// [`Gone`].
pub fn drive(
    ring: &Ring,
    stack: &mut Stack,
    apps: &mut Vec<Box<dyn App>>,
    clock: fn() -> u64,
    end: u64,
) -> Result<(), Gone> {
    let mut idle = 0;
    loop {
        let now = clock();
        // 1 take in what came.
        let mut sender = ring.usable_sender()?;
        let taken = ring.receive(BUDGET, |datagram| {
            stack.receive(datagram, &mut *sender, now);
            true
        })?;
        // 2 let the programs work; what just came was sent before now.
        let now = clock();
        let mut wake: Option<u64> = None;
        for app in apps.iter_mut() {
            wake = [wake, app.visit(stack, &mut *sender, now)].into_iter().flatten().min();
        }
        apps.retain_mut(|app| {
            let done = app.is_done();
            if done {
                app.leave(stack);
            }
            !done
        });
        // 3 send what is due, and make it appear.
        let next = stack.poll(&mut *sender, now);
        sender.ring();
        drop(sender);
        if now >= end || apps.is_empty() {
            return Ok(());
        }
        wake = [wake, next].into_iter().flatten().min();
        if taken > 0 || wake.is_some_and(|wake| wake <= now) {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < SPINS {
            std::hint::spin_loop();
            continue;
        }
        idle = 0;
        let until = wake.unwrap_or(u64::MAX).min(end);
        if ring.wait(Some(Duration::from_nanos(until.saturating_sub(now))))? == Slice::Interrupted {
            return Ok(());
        }
    }
}
