//! A queue at the hands of somebody who writes anywhere in it: what the fuzzer and a property test play.

use std::os::fd::AsFd;
use std::sync::Arc;

use vnet_base::lock::Token;
use vnet_base::map::memory_file;

use super::{Desk, DeskMemory, Ended, Memory, PAGE, Poster, Queue, Refused, Shape, Worker, eventfd};

/// Reads a play from a fuzzer's input.
struct Script<'d>(&'d [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }
}

/// Plays `script`: posts, takes, sleeps, and between them writes of any bytes to any place of the queue and its desk.
///
/// Nothing in it may panic, hang or read beyond the memory; no item may be longer than the queue's items; and a queue
/// that was once found damaged gives no more items.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn play(script: &[u8]) {
    let mut script = Script(script);
    let (Some(first), Some(second)) = (script.byte(), script.byte()) else { return };
    let shape = Shape::new(1 + u32::from(first % 9), 1 + u32::from(second), 1 + u32::from(first / 9) % 8)
        .expect("inside the bounds");
    let file = memory_file("vnet:play", shape.file_bytes()).expect("a memory file");
    let desk_file = memory_file("vnet:play", PAGE).expect("a memory file");
    let event = eventfd().expect("an eventfd");
    let queue = Arc::new(Queue::new(Memory::map(&file, shape).expect("it maps")));
    let desk = Arc::new(Desk::new(DeskMemory::map(&desk_file).expect("it maps"), event));
    let poster = Poster::new(Arc::clone(&queue), Arc::clone(&desk), Token(7));
    let mut worker = Worker::new(desk);
    worker.serve(Arc::clone(&queue));
    let mut damaged = false;
    while play_once(&mut script, shape, &queue, &poster, &mut worker, &mut damaged, (file.as_fd(), desk_file.as_fd()))
        .is_some()
    {}
}

fn play_once(
    script: &mut Script<'_>,
    shape: Shape,
    queue: &Queue,
    poster: &Poster,
    worker: &mut Worker,
    damaged: &mut bool,
    files: (std::os::fd::BorrowedFd<'_>, std::os::fd::BorrowedFd<'_>),
) -> Option<()> {
    let act = script.byte()?;
    let detail = script.byte()?;
    let priority = usize::from(detail) % shape.priorities();
    match act % 8 {
        0 | 1 => {
            let item = vec![detail; usize::from(script.byte()?) % (shape.item_bytes() + 1)];
            if poster.try_post(priority, &item) == Err(Refused::Locked) {
                // As the broker, whom a poster asks that does not get the lock: nobody is there who could hold it.
                match queue.owner() {
                    Some(owner) => assert!(queue.bury(owner)),
                    None => {
                        assert!(queue.is_jammed());
                        queue.end(Ended::Damaged);
                    }
                }
            }
        }
        2 | 3 => {
            let most = 1 + u64::from(detail) % 4;
            if let Ok(Some(found)) = note(worker.find(), damaged) {
                let visit = |item: &[u8]| {
                    assert!(item.len() <= shape.item_bytes());
                    // Read to its last byte, so that a sanitizer sees it.
                    std::hint::black_box(item.iter().map(|byte| u64::from(*byte)).sum::<u64>());
                    detail & 128 == 0
                };
                let taken = note(worker.take(&found, most, visit), damaged);
                assert!(taken.is_err() || taken <= Ok(most.min(shape.capacity())));
            }
        }
        4 => {
            if let Ok(Some(found)) = note(worker.find(), damaged)
                && let Ok((at, length)) = note(worker.hold(&found), damaged)
            {
                assert!(length <= shape.item_bytes() && at + length as u64 <= shape.file_bytes());
                worker.done(found.number, found.priority);
            }
        }
        5 => {
            let what = script.word()?;
            let place = u64::from(u16::from_le_bytes([detail, script.byte()?]));
            let (file, bytes) = if act & 64 == 0 { (files.0, shape.file_bytes()) } else { (files.1, PAGE) };
            // Mostly into the head, which decides; else anywhere.
            let at = if act & 128 == 0 { place % 256 } else { (PAGE + place) % (bytes - 8) };
            rustix::io::pwrite(file, &what.to_le_bytes(), at).expect("it is writable");
        }
        6 => {
            if detail & 1 == 0 {
                worker.rest();
            } else {
                worker.poll_descriptor();
                let _ = note(worker.wait(true), damaged);
            }
            std::hint::black_box(worker.backlog());
        }
        _ => {
            std::hint::black_box((queue.statistics(), queue.ended()));
            if detail == 0 {
                queue.end(Ended::Closed);
            }
        }
    }
    Some(())
}

/// Holds that damage is told once, and that nothing comes of the queue after it.
fn note<T>(result: Result<T, u32>, damaged: &mut bool) -> Result<T, u32> {
    if result.is_err() {
        assert!(!*damaged, "damage is told once");
        *damaged = true;
    }
    result
}
