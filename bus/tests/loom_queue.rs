//! Work queues under loom: every order of the atomic operations that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p vnet-bus --release --test loom_queue`.
#![cfg(loom)]

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use vnet_base::lock::Token;
use vnet_bus::queue::{Desk, Ended, Memory, Poster, Queue, Refused, Shape, Spin, Waited, Worker};

const LONG: Duration = Duration::from_secs(60);

fn queue(capacity: u32, priorities: u32) -> Arc<Queue> {
    Arc::new(Queue::new(Memory::model(Shape::new(capacity, 8, priorities).expect("inside the bounds"))))
}

fn poster(queue: &Arc<Queue>, desk: &Arc<Desk>, me: u32) -> Poster {
    Poster::new(Arc::clone(queue), Arc::clone(desk), Token(me))
}

fn worker(desk: &Arc<Desk>, queues: &[&Arc<Queue>]) -> Worker {
    let mut worker = Worker::new(Arc::clone(desk));
    worker.set_spin(Spin::Never);
    for queue in queues {
        worker.serve(Arc::clone(queue));
    }
    worker
}

/// Posts numbers one publication, up to where there is no room.
fn post(poster: &Poster, priority: usize, numbers: &[u64]) -> usize {
    let items: Vec<[u8; 8]> = numbers.iter().map(|number| number.to_ne_bytes()).collect();
    let items: Vec<&[u8]> = items.iter().map(<[u8; 8]>::as_slice).collect();
    poster.post(priority, &items).0
}

fn take(worker: &mut Worker) -> Option<u64> {
    let found = worker.find().expect("nobody scribbles in a model")?;
    let mut number = 0;
    let copy = |item: &[u8]| {
        number = u64::from_ne_bytes(item.try_into().expect("8 bytes"));
        true
    };
    assert_eq!(worker.take(&found, 1, copy), Ok(1));
    Some(number)
}

/// The next item; sleeps until there is one. The futex of the model has no timeout: a lost wake-up is a deadlock, which
/// loom reports.
fn next(worker: &mut Worker, desk: &Desk) -> u64 {
    loop {
        if let Some(number) = take(worker) {
            return number;
        }
        if worker.prepare_sleep() == Ok(Waited::Asleep) {
            let _ = desk.sleep(None);
        }
    }
}

#[test]
fn items_published_together_appear_together_and_in_order() {
    loom::model(|| {
        let (queue, desk) = (queue(2, 1), Arc::new(Desk::model()));
        let mut worker = worker(&desk, &[&queue]);
        let poster = poster(&queue, &desk, 2);
        let posting = thread::spawn(move || assert_eq!(post(&poster, 0, &[11, 12]), 2));
        if let Some(first) = take(&mut worker) {
            assert_eq!(first, 11);
            assert_eq!(take(&mut worker), Some(12));
        }
        posting.join().unwrap();
    });
}

#[test]
fn two_posters_lose_mix_and_double_nothing() {
    loom::model(|| {
        let (queue, desk) = (queue(2, 1), Arc::new(Desk::model()));
        let posting = [2, 3].map(|me| {
            let poster = poster(&queue, &desk, me);
            thread::spawn(move || post(&poster, 0, &[u64::from(me)]))
        });
        let posted: usize = posting.into_iter().map(|thread| thread.join().unwrap()).sum();
        let mut worker = worker(&desk, &[&queue]);
        let mut taken: Vec<u64> = std::iter::from_fn(|| take(&mut worker)).collect();
        taken.sort_unstable();
        assert_eq!(taken.len(), posted);
        assert!(taken == [2, 3] || taken.len() < 2);
    });
}

#[test]
fn a_sleeping_worker_is_woken_or_finds_the_items_of_two_posters_to_one_queue() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (queue, desk) = (queue(2, 1), Arc::new(Desk::model()));
        let mut worker = worker(&desk, &[&queue]);
        let posting = [2, 3].map(|me| {
            let poster = poster(&queue, &desk, me);
            // Who waits for the lock in vain is refused, in a model where time does not pass.
            thread::spawn(move || post(&poster, 0, &[u64::from(me)]))
        });
        let first = next(&mut worker, &desk);
        let posted: usize = posting.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(first == 2 || first == 3);
        assert_eq!(take(&mut worker), (posted == 2).then_some(5 - first));
    });
}

#[test]
fn a_sleeping_worker_is_woken_or_finds_the_items_of_two_queues() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (one, other, desk) = (queue(1, 1), queue(1, 1), Arc::new(Desk::model()));
        let mut worker = worker(&desk, &[&one, &other]);
        let posting = [(&one, 2), (&other, 3)].map(|(queue, me)| {
            let poster = poster(queue, &desk, me);
            thread::spawn(move || assert_eq!(post(&poster, 0, &[u64::from(me)]), 1))
        });
        let both = [next(&mut worker, &desk), next(&mut worker, &desk)];
        assert!(both == [2, 3] || both == [3, 2]);
        for thread in posting {
            thread.join().unwrap();
        }
        // Two items, and at most as many times that it said that it sleeps.
        assert!(one.statistics().interrupts + other.statistics().interrupts <= 2);
    });
}

#[test]
fn room_that_was_given_back_is_written_over_without_a_race() {
    loom::model(|| {
        let (queue, desk) = (queue(1, 1), Arc::new(Desk::model()));
        let mut worker = worker(&desk, &[&queue]);
        let poster = poster(&queue, &desk, 2);
        assert_eq!(post(&poster, 0, &[1]), 1);
        // It lies where the first one lay: loom reports a race if it is written while that may still be read.
        let posting = thread::spawn(move || post(&poster, 0, &[2]));
        assert_eq!(take(&mut worker), Some(1));
        let posted = posting.join().unwrap();
        assert_eq!(take(&mut worker), (posted == 1).then_some(2));
    });
}

#[test]
fn a_poster_that_waits_for_room_is_woken_or_finds_it() {
    loom::model(|| {
        let (queue, desk) = (queue(1, 1), Arc::new(Desk::model()));
        let mut worker = worker(&desk, &[&queue]);
        let poster = poster(&queue, &desk, 2);
        assert_eq!(post(&poster, 0, &[1]), 1);
        let posting = thread::spawn(move || {
            while poster.try_post(0, &2u64.to_ne_bytes()) == Err(Refused::Full) {
                let _ = poster.wait_for_room(0, 1, LONG);
            }
        });
        assert_eq!(take(&mut worker), Some(1));
        posting.join().unwrap();
        assert_eq!(take(&mut worker), Some(2));
    });
}

#[test]
fn a_poster_that_waits_for_room_learns_of_the_end() {
    loom::model(|| {
        let (queue, desk) = (queue(1, 1), Arc::new(Desk::model()));
        let poster = poster(&queue, &desk, 2);
        assert_eq!(post(&poster, 0, &[1]), 1);
        let posting = thread::spawn(move || {
            loop {
                match poster.try_post(0, &2u64.to_ne_bytes()) {
                    Err(Refused::Full) => {
                        let _ = poster.wait_for_room(0, 1, LONG);
                    }
                    other => return other,
                }
            }
        });
        queue.end(Ended::Gone);
        assert_eq!(posting.join().unwrap(), Err(Refused::Ended(Ended::Gone)));
    });
}
