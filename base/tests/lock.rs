//! The lock of an input buffer among threads that come late, do not come back, or are buried.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vnet_base::lock::{OwnerLock, Token};

#[test]
fn an_owner_that_was_put_off_for_a_moment_is_waited_for_by_those_who_could_do_without() {
    let lock = OwnerLock::default();
    for _ in 0..20 {
        let held = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                assert!(lock.lock(Token(1)));
                held.store(true, Ordering::Release);
                // Far longer than anybody spins, as long as a scheduler may put a thread off.
                std::thread::sleep(Duration::from_millis(3));
                lock.unlock();
            });
            while !held.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            assert!(lock.lock_soon(Token(2)));
            assert_eq!(lock.owner(), Some(Token(2)));
            lock.unlock();
        });
    }
}

#[test]
fn an_owner_that_does_not_come_back_is_waited_for_once_by_all_together() {
    let lock = OwnerLock::default();
    assert!(lock.lock(Token(1)));
    assert!(!lock.lock_soon(Token(2)));
    // If each of these waited as the first did, they would take 20 s.
    let started = Instant::now();
    assert!((0..1000).all(|other| !lock.lock_soon(Token(3 + other))));
    assert!(started.elapsed() < Duration::from_secs(5));
    // Who needs the lock waits for it still, and the dead are known and buried as ever.
    assert!(!lock.lock(Token(2)));
    assert_eq!(lock.owner(), Some(Token(1)));
    assert!(!lock.release_for(Token(2)));
    assert!(lock.release_for(Token(1)));
    assert!(lock.lock_soon(Token(2)));
    assert_eq!(lock.owner(), Some(Token(2)));
}
