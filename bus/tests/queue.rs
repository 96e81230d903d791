//! Work queues against plain deques, under many threads, and at the hands of somebody who writes anywhere in them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vnet_base::lock::Token;
use vnet_base::map::memory_file;
use vnet_bus::queue::{
    Desk, DeskMemory, Ended, Memory, PAGE, Poster, Queue, Refused, Shape, Spin, Waited, Worker, play,
};

struct Made {
    file: OwnedFd,
    queue: Arc<Queue>,
    desk: Arc<Desk>,
}

fn desk() -> Arc<Desk> {
    let file = memory_file("vnet:test", PAGE).expect("a memory file");
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd");
    Arc::new(Desk::new(DeskMemory::map(&file).expect("it maps"), event))
}

fn make_at(desk: &Arc<Desk>, capacity: u32, item_bytes: u32, priorities: u32) -> Made {
    let shape = Shape::new(capacity, item_bytes, priorities).expect("inside the bounds");
    let file = memory_file("vnet:test", shape.file_bytes()).expect("a memory file");
    let queue = Arc::new(Queue::new(Memory::map(&file, shape).expect("it maps")));
    Made { file, queue, desk: Arc::clone(desk) }
}

fn make(capacity: u32, item_bytes: u32, priorities: u32) -> Made {
    make_at(&desk(), capacity, item_bytes, priorities)
}

impl Made {
    fn poster(&self, me: u32) -> Poster {
        Poster::new(Arc::clone(&self.queue), Arc::clone(&self.desk), Token(me))
    }

    fn worker(&self) -> Worker {
        let mut worker = Worker::new(Arc::clone(&self.desk));
        worker.serve(Arc::clone(&self.queue));
        worker
    }

    /// As some process that has the file.
    fn scribble(&self, at: u64, bytes: &[u8]) {
        rustix::io::pwrite(&self.file, bytes, at).expect("it is writable");
    }
}

fn take(worker: &mut Worker, most: u64) -> Option<(u32, usize, Vec<Vec<u8>>)> {
    let found = worker.find().expect("it is whole")?;
    let mut items = Vec::new();
    let copy = |item: &[u8]| {
        items.push(item.to_vec());
        true
    };
    worker.take(&found, most, copy).expect("it is whole");
    Some((found.number, found.priority, items))
}

#[derive(Clone, Debug)]
enum Act {
    Post { priority: usize, items: Vec<Vec<u8>> },
    Take { most: u64 },
    Hold,
    Sleep,
    Rest,
}

fn act(priorities: usize, item_bytes: usize) -> impl Strategy<Value = Act> {
    let item = proptest::collection::vec(any::<u8>(), 0..=item_bytes);
    let items = proptest::collection::vec(item, 1..6);
    prop_oneof![
        4 => (0..priorities, items).prop_map(|(priority, items)| Act::Post { priority, items }),
        3 => (1..5u64).prop_map(|most| Act::Take { most }),
        1 => Just(Act::Hold),
        1 => Just(Act::Sleep),
        1 => Just(Act::Rest),
    ]
}

fn plays() -> impl Strategy<Value = (u32, u32, u32, Vec<Act>)> {
    (1..9u32, 1..40u32, 1..=8u32).prop_flat_map(|(capacity, item_bytes, priorities)| {
        let acts = proptest::collection::vec(act(priorities as usize, item_bytes as usize), 0..80);
        (Just(capacity), Just(item_bytes), Just(priorities), acts)
    })
}

/// Whether the dispatcher's descriptor is readable, as the kernel says.
fn readable(desk: &Desk) -> bool {
    let descriptor = desk.descriptor();
    let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") == 1
}

proptest! {
    #[test]
    fn a_queue_is_a_bounded_deque_for_each_priority((capacity, item_bytes, priorities, acts) in plays()) {
        let made = make(capacity, item_bytes, priorities);
        let poster = made.poster(5);
        let mut worker = made.worker();
        worker.set_spin(Spin::Never);
        worker.poll_descriptor();
        let mut model = vec![VecDeque::new(); priorities as usize];
        let mut taken = vec![0; priorities as usize];
        for act in acts {
            match act {
                Act::Post { priority, items } => {
                    let room = capacity as usize - model[priority].len();
                    let slices: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
                    let fits = room.min(items.len());
                    let refused = (fits < items.len()).then_some(Refused::Full);
                    prop_assert_eq!(poster.post(priority, &slices), (fits, refused));
                    model[priority].extend(items.into_iter().take(fits));
                }
                Act::Take { most } => {
                    let expected = model.iter_mut().enumerate().rev().find(|(_, items)| !items.is_empty());
                    let expected = expected.map(|(priority, items)| {
                        let count = items.len().min(most as usize);
                        taken[priority] += count as u64;
                        (1, priority, items.drain(..count).collect::<Vec<_>>())
                    });
                    prop_assert_eq!(take(&mut worker, most), expected);
                }
                Act::Hold => {
                    let found = worker.find().expect("it is whole");
                    let expected = model.iter_mut().enumerate().rev().find(|(_, items)| !items.is_empty());
                    prop_assert_eq!(found.is_some(), expected.is_some());
                    if let (Some(found), Some((priority, items))) = (found, expected) {
                        let (at, length) = worker.hold(&found).expect("it is whole");
                        let mut held = vec![0; length];
                        rustix::io::pread(&made.file, &mut held, at).expect("it is readable");
                        prop_assert_eq!(&Some(held), &items.pop_front());
                        worker.done(found.number, found.priority);
                        taken[priority] += 1;
                    }
                }
                Act::Sleep => {
                    let waited = worker.wait(true).expect("it is whole");
                    let empty = model.iter().all(VecDeque::is_empty);
                    prop_assert_eq!(waited, if empty { Waited::Asleep } else { Waited::Ready });
                    prop_assert_eq!(made.desk.is_idle(), empty);
                }
                Act::Rest => {
                    worker.rest();
                    prop_assert_eq!(readable(&made.desk), model.iter().any(|items| !items.is_empty()));
                }
            }
            let statistics = made.queue.statistics();
            prop_assert_eq!(&statistics.taken[..priorities as usize], &taken[..]);
            let posted: Vec<u64> = model.iter().zip(&taken).map(|(items, taken)| items.len() as u64 + taken).collect();
            prop_assert_eq!(&statistics.posted[..priorities as usize], &posted[..]);
            prop_assert_eq!(worker.backlog(), model.iter().map(|items| items.len() as u64).sum::<u64>());
        }
    }

    #[test]
    fn whatever_a_peer_writes_nothing_panics_or_hangs(script in proptest::collection::vec(any::<u8>(), 0..2000)) {
        play(&script);
    }
}

#[test]
fn a_busy_worker_is_not_interrupted_and_an_idle_one_once() {
    let made = make(64, 16, 1);
    let poster = made.poster(5);
    let mut worker = made.worker();
    worker.set_spin(Spin::Never);
    // Nobody has said that it waits.
    poster.try_post(0, b"before").expect("there is room");
    assert_eq!(made.queue.statistics().interrupts, 0);
    assert!(take(&mut worker, 9).is_some());
    assert_eq!(worker.wait(true), Ok(Waited::Asleep));
    for _ in 0..20 {
        poster.try_post(0, b"item").expect("there is room");
    }
    assert_eq!(made.queue.statistics().interrupts, 1);
    // Its handler runs: it is busy until it has found nothing.
    assert!(take(&mut worker, 1).is_some());
    for _ in 0..20 {
        poster.try_post(0, b"item").expect("there is room");
    }
    let statistics = made.queue.statistics();
    assert_eq!((statistics.interrupts, statistics.publications), (1, 41));
}

#[test]
fn one_bell_serves_several_queues_with_one_interrupt() {
    let desk = desk();
    let made = [make_at(&desk, 4, 16, 2), make_at(&desk, 4, 16, 3), make_at(&desk, 4, 16, 1)];
    let mut worker = Worker::new(Arc::clone(&desk));
    worker.set_spin(Spin::Never);
    let numbers: Vec<u32> = made.iter().map(|each| worker.serve(Arc::clone(&each.queue))).collect();
    assert_eq!(worker.wait(true), Ok(Waited::Asleep));
    for (each, item) in made.iter().zip([b"a", b"b", b"c"]) {
        each.poster(5).try_post(0, item).expect("there is room");
    }
    made[1].poster(6).try_post(2, b"urgent").expect("there is room");
    assert_eq!(made.iter().map(|each| each.queue.statistics().interrupts).sum::<u64>(), 1);
    // The most urgent of all queues first; of the same priority each queue in turn, beginning behind the last one.
    let order: Vec<_> = std::iter::from_fn(|| take(&mut worker, 1)).collect();
    let expected = [(1, 2, "urgent"), (2, 0, "c"), (0, 0, "a"), (1, 0, "b")];
    let expected: Vec<_> = expected
        .iter()
        .map(|(index, priority, item)| (numbers[*index], *priority, vec![item.as_bytes().to_vec()]))
        .collect();
    assert_eq!(order, expected);
}

#[test]
fn items_of_many_threads_all_come_once_and_in_each_ones_order() {
    const EACH: u64 = 20_000;
    let desk = desk();
    let made = [make_at(&desk, 128, 16, 2), make_at(&desk, 3, 16, 2)];
    std::thread::scope(|scope| {
        for me in 0..4u64 {
            for (which, each) in made.iter().enumerate() {
                let poster = each.poster(10 + me as u32 + 4 * which as u32);
                scope.spawn(move || {
                    let items: Vec<[u8; 16]> = (0..EACH).map(|n| u128::from(n << 8 | me).to_le_bytes()).collect();
                    let mut rest: Vec<&[u8]> = items.iter().map(<[u8; 16]>::as_slice).collect();
                    while !rest.is_empty() {
                        let some = rest.len().min(50);
                        let (taken, refused) = poster.post((me % 2) as usize, &rest[..some]);
                        rest.drain(..taken);
                        if refused == Some(Refused::Full) {
                            // A wake-up that is lost makes this test last minutes.
                            let _ = poster.wait_for_room((me % 2) as usize, rest.len(), Duration::from_secs(60));
                        }
                    }
                });
            }
        }
        let mut worker = Worker::new(Arc::clone(&desk));
        let numbers: Vec<u32> = made.iter().map(|each| worker.serve(Arc::clone(&each.queue))).collect();
        let mut next = [[0u64; 4]; 2];
        let mut left = 8 * EACH;
        while left > 0 {
            while let Some((number, priority, items)) = take(&mut worker, 32) {
                for item in items {
                    let item = u128::from_le_bytes(item.try_into().expect("16 bytes")) as u64;
                    let (n, me) = (item >> 8, (item & 255) as usize);
                    assert_eq!(me % 2, priority);
                    let next = &mut next[usize::from(number == numbers[1])][me];
                    assert_eq!(n, *next);
                    *next += 1;
                    left -= 1;
                }
            }
            if left > 0 && worker.wait(true) == Ok(Waited::Asleep) {
                let _ = desk.sleep(Some(Duration::from_secs(60)));
            }
        }
    });
    for each in &made {
        let statistics = each.queue.statistics();
        assert_eq!((statistics.posted, statistics.refused), (statistics.taken, 0));
    }
}

#[test]
fn whoever_waits_for_room_learns_at_once_that_the_queue_has_ended() {
    for why in [Ended::Closed, Ended::Gone, Ended::Lan, Ended::Damaged] {
        let made = make(1, 8, 1);
        let poster = made.poster(5);
        poster.try_post(0, b"x").expect("there is room");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                while poster.try_post(0, b"y") == Err(Refused::Full) {
                    let _ = poster.wait_for_room(0, 1, Duration::from_secs(60));
                }
                poster.try_post(0, b"y")
            });
            made.queue.end(why);
            assert_eq!(waiting.join().expect("it ends"), Err(Refused::Ended(why)));
        });
        // The first reason stays.
        made.queue.end(Ended::Closed);
        assert_eq!(made.queue.ended(), Some(why));
    }
}

const STATE: u64 = 4;
const TAIL: u64 = 8;
const HEAD: u64 = 128;

#[test]
fn a_dead_posters_lock_is_buried_and_what_it_had_posted_stands() {
    let made = make(8, 8, 1);
    let dead = made.poster(5);
    dead.try_post(0, b"whole").expect("there is room");
    // It died behind the publication, or before it: the lock is held, and perhaps there are bytes behind the tail.
    made.scribble(0, &5u32.to_le_bytes());
    made.scribble(PAGE + 16, b"\x04\0\0\0\0\0\0\0half");
    let other = made.poster(6);
    assert_eq!(other.try_post(0, b"after"), Err(Refused::Locked));
    assert_eq!(other.post(0, &[b"after"]), (0, Some(Refused::Locked)));
    assert!(!made.queue.bury(Token(7)));
    assert!(made.queue.bury(Token(5)));
    other.try_post(0, b"after").expect("the lock is free");
    let mut worker = made.worker();
    assert_eq!(take(&mut worker, 9).map(|(_, _, items)| items), Some(vec![b"whole".to_vec(), b"after".to_vec()]));
}

#[test]
fn a_worker_that_finds_damage_ends_that_queue_and_no_other() {
    for (at, word) in [(TAIL, 3u64), (TAIL, 10), (TAIL, u64::MAX), (PAGE, 9), (PAGE, !0)] {
        let desk = desk();
        let (made, whole) = (make_at(&desk, 2, 8, 1), make_at(&desk, 2, 8, 1));
        let mut worker = Worker::new(Arc::clone(&desk));
        let number = worker.serve(Arc::clone(&made.queue));
        worker.serve(Arc::clone(&whole.queue));
        let poster = made.poster(5);
        poster.try_post(0, b"x").expect("there is room");
        whole.poster(5).try_post(0, b"whole").expect("there is room");
        made.scribble(at, &word.to_le_bytes());
        let found = worker.find();
        assert_eq!(found.and_then(|found| worker.take(&found.expect("an item"), 9, |_| true)), Err(number));
        assert_eq!(poster.try_post(0, b"y"), Err(Refused::Ended(Ended::Damaged)));
        assert_eq!(take(&mut worker, 9).map(|(_, _, items)| items), Some(vec![b"whole".to_vec()]));
        assert_eq!(worker.find(), Ok(None));
    }
}

#[test]
fn a_poster_that_finds_damage_ends_the_queue() {
    for (at, word) in [(HEAD, 2u64), (HEAD, 1 << 63), (TAIL, 3), (TAIL, u64::MAX), (STATE, 77 | 1 << 32)] {
        let made = make(2, 8, 1);
        let poster = made.poster(5);
        poster.try_post(0, b"x").expect("there is room");
        made.scribble(at, &word.to_le_bytes());
        assert_eq!(poster.post(0, &[b"y".as_slice(); 5]), (0, Some(Refused::Ended(Ended::Damaged))));
        assert_eq!(made.queue.ended(), Some(Ended::Damaged));
    }
}

#[test]
fn a_file_of_another_size_is_not_mapped() {
    let made = make(4, 8, 1);
    let other = Shape::new(4096, 64, 2).expect("inside the bounds");
    assert!(Memory::map(&made.file, other).is_err());
    assert!(DeskMemory::map(&made.file).is_err());
}

#[test]
fn the_head_of_a_queue_is_one_page_and_an_idle_queue_takes_no_more() {
    let made = make(1 << 20, 1 << 10, 8);
    let blocks = rustix::fs::fstat(&made.file).expect("fstat").st_blocks;
    assert_eq!(blocks, 0);
    made.poster(5).try_post(7, b"x").expect("there is room");
    // In units of 512 bytes: the head, and the page of the item.
    assert_eq!(rustix::fs::fstat(&made.file).expect("fstat").st_blocks, 16);
}

#[test]
fn a_worker_goes_round_those_queues_that_are_left_when_one_is_served_no_more() {
    let desk = desk();
    let made: Vec<Made> = (0..3).map(|_| make_at(&desk, 4, 8, 1)).collect();
    let mut worker = Worker::new(Arc::clone(&desk));
    let numbers: Vec<u32> = made.iter().map(|each| worker.serve(Arc::clone(&each.queue))).collect();
    // It has taken from the last one, and goes on from there.
    made[2].poster(7).try_post(0, b"last").expect("there is room");
    assert_eq!(take(&mut worker, 1).expect("an item").0, numbers[2]);
    worker.leave(numbers[2]);
    worker.leave(numbers[1]);
    assert_eq!(take(&mut worker, 1), None);
    made[0].poster(8).try_post(0, b"first").expect("there is room");
    assert_eq!(take(&mut worker, 1).expect("an item").0, numbers[0]);
}
