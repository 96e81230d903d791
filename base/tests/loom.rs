//! The input buffer and the doorbell under loom: every order of the atomic operations that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p vnet-base --release --test loom`.
#![cfg(loom)]

use loom::thread;
use vnet_base::buffer::{InputBuffer, Refused};
use vnet_base::control::Control;
use vnet_base::doorbell::Listener;
use vnet_base::lock::Token;
use vnet_base::model::{Reader, ring_of, worker_block};
use vnet_base::sync::Alarm;

/// A ring for two records of 8 bytes and the word behind them.
const SMALL: u64 = 64;

fn control() -> &'static Control {
    // Leaked for one execution of the model; loom needs no more of it than the program does.
    Box::leak(Box::default())
}

fn send(buffer: &InputBuffer, me: u32, datagrams: &[u64]) -> usize {
    let mut batch = buffer.batch();
    let mut sent = 0;
    if batch.open(0, Token(me)).is_ok() {
        // Up to the first that finds no room: the receiver may make some meanwhile.
        sent =
            datagrams.iter().take_while(|datagram| batch.push(&[], &datagram.to_ne_bytes(), me as u16, None)).count();
        batch.publish();
        batch.bell().ring(Listener::Guest);
    }
    sent
}

#[test]
fn a_batch_appears_whole_and_in_order() {
    loom::model(|| {
        let buffer = ring_of(control(), SMALL);
        let theirs = buffer.clone();
        let sender = thread::spawn(move || assert_eq!(send(&theirs, 2, &[11, 12]), 2));
        let mut reader = Reader::new(buffer);
        if let Some(first) = reader.take() {
            assert_eq!(first, 11);
            // The second was written before the first one's header was published.
            assert_eq!(reader.take(), Some(12));
        }
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_lose_and_mix_nothing() {
    loom::model(|| {
        let buffer = ring_of(control(), SMALL);
        let senders = [2, 3].map(|me| {
            let theirs = buffer.clone();
            thread::spawn(move || send(&theirs, me, &[u64::from(me) * 10]))
        });
        let mut sent = 0;
        for sender in senders {
            sent += sender.join().unwrap();
        }
        let mut reader = Reader::new(buffer);
        let mut taken: Vec<u64> = std::iter::from_fn(|| reader.take()).collect();
        taken.sort_unstable();
        assert_eq!(taken.len(), sent);
        assert!(taken == [20, 30] || taken.len() < 2);
    });
}

#[test]
fn senders_that_could_do_without_the_lock_wait_for_an_owner_that_comes_back() {
    loom::model(|| {
        let buffer = ring_of(control(), SMALL);
        let senders = [2, 3].map(|me| {
            let theirs = buffer.clone();
            thread::spawn(move || {
                let mut batch = theirs.batch();
                batch.open_soon(0, Token(me)).expect("the other gives the lock back");
                assert!(batch.push(&[], &u64::from(me).to_ne_bytes(), me as u16, None));
            })
        });
        for sender in senders {
            sender.join().unwrap();
        }
        let mut reader = Reader::new(buffer);
        let mut taken: Vec<u64> = std::iter::from_fn(|| reader.take()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [2, 3]);
    });
}

#[test]
fn room_that_the_receiver_gave_back_is_written_over_without_a_race() {
    loom::model(|| {
        let buffer = ring_of(control(), SMALL);
        assert_eq!(send(&buffer, 2, &[1, 2, 3]), 3);
        let theirs = buffer.clone();
        // The second of these lies where the first of those lay: loom reports a race if it is written while the receiver
        // may still read there.
        let sender = thread::spawn(move || send(&theirs, 2, &[4, 5]));
        let mut reader = Reader::new(buffer);
        assert_eq!(reader.take(), Some(1));
        assert_eq!(reader.take(), Some(2));
        reader.publish();
        assert_eq!(reader.take(), Some(3));
        let sent = sender.join().unwrap();
        assert_eq!(reader.take(), (sent >= 1).then_some(4));
        assert_eq!(reader.take(), (sent == 2).then_some(5));
    });
}

#[test]
fn a_sleeping_receiver_is_woken_or_finds_the_datagram() {
    // The futex of the model has no timeout: a lost wake-up is a deadlock, which loom reports.
    loom::model(|| {
        let buffer = ring_of(control(), SMALL);
        let theirs = buffer.clone();
        let sender = thread::spawn(move || assert_eq!(send(&theirs, 2, &[7]), 1));
        let mut reader = Reader::new(buffer);
        let datagram = loop {
            if let Some(datagram) = reader.take() {
                break datagram;
            }
            reader.sleep_unless_there_is_one();
        };
        assert_eq!(datagram, 7);
        sender.join().unwrap();
    });
}

#[test]
fn a_receiver_that_rewinds_before_it_sleeps_loses_nothing() {
    loom::model(|| {
        let buffer = ring_of(control(), SMALL);
        assert_eq!(send(&buffer, 2, &[1]), 1);
        let mut reader = Reader::new(buffer.clone());
        assert_eq!(reader.take(), Some(1));
        let sender = thread::spawn(move || assert_eq!(send(&buffer, 2, &[2]), 1));
        reader.rewind(Token(9));
        let datagram = loop {
            if let Some(datagram) = reader.take() {
                break datagram;
            }
            reader.sleep_unless_there_is_one();
        };
        assert_eq!(datagram, 2);
        sender.join().unwrap();
    });
}

#[test]
fn a_worker_that_goes_to_sleep_hears_of_every_slot() {
    loom::model(|| {
        let block = worker_block();
        let announcer = thread::spawn(move || block.announce(3, Alarm::default()));
        let mut visited = false;
        while !visited {
            block.take(|slot| visited |= slot == 3);
            if !visited {
                block.sleep(4, None, || true);
            }
        }
        announcer.join().unwrap();
    });
}

#[test]
fn a_dead_owner_is_buried_and_what_it_published_stands() {
    loom::model(|| {
        let buffer = ring_of(control(), SMALL);
        let mut dying = buffer.batch();
        assert!(dying.open(0, Token(5)).is_ok());
        assert!(dying.push(&[], &1u64.to_ne_bytes(), 5, None));
        // It dies before it published: nothing was written.
        std::mem::forget(dying);
        let base = buffer.clone();
        let burial = thread::spawn(move || assert!(base.bury(Token(5))));
        let other = buffer.clone();
        let sender = thread::spawn(move || {
            let mut batch = other.batch();
            match batch.open(0, Token(6)) {
                Ok(()) => {
                    assert!(batch.push(&[], &2u64.to_ne_bytes(), 6, None));
                    1
                }
                Err(refused) => {
                    assert_eq!(refused, Refused::Locked);
                    0
                }
            }
        });
        let sent = sender.join().unwrap();
        burial.join().unwrap();
        let mut reader = Reader::new(buffer);
        assert_eq!(reader.take(), (sent == 1).then_some(2));
        assert_eq!(reader.take(), None);
    });
}
