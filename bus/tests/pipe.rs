//! Pipes against a plain byte string and a plain list of messages, and what polls against the kernel's `poll`.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vnet_bus::pipe::{End, Failure, Progress, Wait, make};

const LARGEST: u64 = 1 << 16;

fn pipe(size: u64, messages: bool) -> (End, End) {
    let (first, second) = make("vnet:test", size, messages).expect("a pipe");
    let open = |files, first| End::open(files, first, LARGEST).expect("an end");
    (open(first, true), open(second, false))
}

fn forever() -> Wait {
    Wait::Until(None)
}

fn soon() -> Wait {
    Wait::Until(Some(Instant::now() + Duration::from_secs(20)))
}

/// Whether the descriptor polls readable and writable: the kernel's word.
fn polled(file: BorrowedFd<'_>) -> (bool, bool) {
    let mut files = [PollFd::new(&file, PollFlags::IN | PollFlags::OUT)];
    poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
    let seen = files[0].revents();
    (seen.contains(PollFlags::IN), seen.contains(PollFlags::OUT))
}

fn wait_for(file: BorrowedFd<'_>, events: PollFlags) {
    let mut files = [PollFd::new(&file, events)];
    let seconds = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut files, Some(&seconds)).expect("poll"), 1, "nobody told: a wake-up was lost");
}

#[derive(Clone, Debug)]
enum Act {
    Write(bool, u16),
    Read(bool, u16),
    Peek(bool),
    Shut(bool),
    ShutRead(bool),
    Close(bool),
    Poll(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let side = any::<bool>;
    prop_oneof![
        8 => (side(), 0..9000u16).prop_map(|(side, size)| Act::Write(side, size)),
        8 => (side(), 0..9000u16).prop_map(|(side, size)| Act::Read(side, size)),
        2 => side().prop_map(Act::Peek),
        1 => side().prop_map(Act::Shut),
        1 => side().prop_map(Act::ShutRead),
        1 => side().prop_map(Act::Close),
        3 => side().prop_map(Act::Poll),
    ]
}

/// One direction, as a plain byte string has it.
#[derive(Default)]
struct Plain {
    bytes: VecDeque<u8>,
    /// Whether its writer has ended it; whether its reader has.
    shut: bool,
    deaf: bool,
    next: u8,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_pipe_is_a_plain_byte_string_each_way(acts in prop::collection::vec(act(), 1..60)) {
        let ends = pipe(4096, false);
        let size = ends.0.size() as usize;
        let ends = [ends.0, ends.1];
        // Way 0 is written by end 0.
        let mut ways = [Plain::default(), Plain::default()];
        let mut closed = [false; 2];
        let mut watched = [false; 2];
        for act in acts {
            match act {
                Act::Write(side, count) => {
                    let (end, at) = (&ends[usize::from(side)], usize::from(side));
                    let way = &mut ways[at];
                    let bytes: Vec<u8> = (0..count).map(|index| (index as u8).wrapping_mul(7).wrapping_add(way.next)).collect();
                    way.next = way.next.wrapping_add(13);
                    let mut done = 0;
                    let result = end.write(&bytes, Wait::No, &mut done);
                    let room = size - way.bytes.len();
                    let expected = match () {
                        () if closed[at] => Err(Failure::Closed),
                        () if way.shut => Err(Failure::Shut),
                        () if way.deaf => Err(Failure::Broken),
                        () if room == 0 && count > 0 => Err(Failure::NotNow),
                        () => Ok(()),
                    };
                    prop_assert_eq!(result, expected);
                    let taken = if expected.is_ok() { bytes.len().min(room) } else { 0 };
                    prop_assert_eq!(done, taken);
                    way.bytes.extend(&bytes[..taken]);
                }
                Act::Read(side, count) => {
                    let (end, at) = (&ends[usize::from(side)], usize::from(side));
                    let way = &mut ways[1 - at];
                    let mut buffer = vec![0; usize::from(count)];
                    let result = end.read(&mut buffer, Wait::No);
                    let taken = way.bytes.len().min(buffer.len());
                    let expected = match () {
                        () if closed[at] => Err(Failure::Closed),
                        () if count == 0 || way.deaf => Ok(0),
                        () if taken > 0 => Ok(taken),
                        () if way.shut => Ok(0),
                        () => Err(Failure::NotNow),
                    };
                    prop_assert_eq!(result, expected);
                    let taken = expected.unwrap_or(0);
                    prop_assert_eq!(&buffer[..taken], &way.bytes.drain(..taken).collect::<Vec<u8>>()[..]);
                }
                Act::Peek(side) => {
                    let at = usize::from(side);
                    let mut buffer = [0; 100];
                    let result = ends[at].peek(&mut buffer);
                    let way = &ways[1 - at];
                    if closed[at] {
                        prop_assert_eq!(result, Err(Failure::Closed));
                    } else {
                        let expected: Vec<u8> = if way.deaf { vec![] } else { way.bytes.iter().copied().take(100).collect() };
                        prop_assert_eq!(&buffer[..result.expect("peek")], &expected[..]);
                    }
                }
                Act::Shut(side) => {
                    let at = usize::from(side);
                    prop_assert_eq!(ends[at].shut_write(Wait::No).is_ok(), !closed[at]);
                    ways[at].shut = true;
                }
                Act::ShutRead(side) => {
                    let at = usize::from(side);
                    prop_assert_eq!(ends[at].shut_read().is_ok(), !closed[at]);
                    ways[1 - at].deaf = true;
                }
                Act::Close(side) => {
                    let at = usize::from(side);
                    ends[at].close();
                    closed[at] = true;
                    ways[at].shut = true;
                    ways[1 - at].deaf = true;
                }
                Act::Poll(side) => {
                    let at = usize::from(side);
                    prop_assert_eq!(ends[at].descriptor().is_ok(), !closed[at]);
                    watched[at] = true;
                }
            }
            for at in 0..2 {
                if watched[at] && !closed[at] {
                    let (readable, writable) = polled(ends[at].descriptor().expect("open"));
                    let (out, back) = (&ways[at], &ways[1 - at]);
                    prop_assert_eq!(readable, !back.bytes.is_empty() || back.shut || back.deaf);
                    // Between full and a quarter free it may be either; a write that would wait is never shown as one that would not.
                    let room = size - out.bytes.len();
                    if room >= size / 4 || out.deaf {
                        prop_assert!(writable);
                    } else if room == 0 {
                        prop_assert!(!writable);
                    }
                }
            }
        }
    }

    #[test]
    fn messages_arrive_as_they_were_written_or_not_at_all(
        sizes in prop::collection::vec((0..20_000usize, 0..3u8), 1..40),
    ) {
        let (a, b) = pipe(8192, true);
        let mut expected = VecDeque::new();
        for (index, (size, reads)) in sizes.into_iter().enumerate() {
            let message: Vec<u8> = (0..size).map(|at| (at * 31 + index) as u8).collect();
            // Of one that does not go now a part may have gone: nobody comes back for the rest.
            match a.write_message(&message, Wait::No, &mut Progress::default(), &mut || true) {
                Ok(()) => expected.push_back(message),
                Err(failure) => prop_assert_eq!(failure, Failure::NotNow),
            }
            for _ in 0..reads {
                match b.read_message(Wait::No) {
                    Ok(message) => prop_assert_eq!(message, expected.pop_front()),
                    Err(failure) => {
                        prop_assert_eq!(failure, Failure::NotNow);
                        prop_assert!(expected.is_empty());
                    }
                }
            }
        }
        a.close();
        while let Some(message) = b.read_message(forever()).expect("what was written") {
            prop_assert_eq!(Some(message), expected.pop_front());
        }
        prop_assert!(expected.is_empty());
    }

    /// Whatever a peer writes anywhere at any moment: errors, in bounded time, and no more than was asked for.
    #[test]
    fn a_peer_that_scribbles_breaks_its_own_pipe_and_nothing_else(
        messages in any::<bool>(),
        watched in any::<bool>(),
        acts in prop::collection::vec((0..5u8, 0..6000usize, 0..1088u64, any::<u64>(), any::<bool>()), 1..40),
    ) {
        let (a, b) = pipe(4096, messages);
        if watched {
            let _ = a.descriptor();
        }
        for (act, size, place, word, near) in acts {
            let mut buffer = vec![0xA5; size];
            let wait = if near { Wait::No } else { Wait::Until(Some(Instant::now())) };
            match (act, messages) {
                (0, _) => {
                    // The words of the two ways, the beginnings of both rings, and numbers near what they hold.
                    let at = if place < 128 { place * 8 } else { 4096 + (place - 128) * 8 };
                    b.scribble(at, &(if near { word % 20_000 } else { word }).to_ne_bytes());
                }
                (1, false) => {
                    let mut done = 0;
                    let _ = a.write(&buffer, wait, &mut done);
                    prop_assert!(done <= size);
                }
                (1, true) => _ = a.write_message(&buffer, wait, &mut Progress::default(), &mut || false),
                (2, false) => {
                    if let Ok(count) = a.read(&mut buffer, wait) {
                        prop_assert!(count <= size);
                        prop_assert!(buffer[count..].iter().all(|byte| *byte == 0xA5));
                    }
                }
                (2, true) => {
                    if let Ok(Some(message)) = a.read_message(wait) {
                        prop_assert!(message.len() as u64 <= LARGEST);
                    }
                }
                (3, false) => _ = b.write(&buffer, Wait::No, &mut 0),
                (3, true) => _ = b.write_message(&buffer, Wait::No, &mut Progress::default(), &mut || false),
                _ => _ = (a.waiting(), a.room(), a.peek(&mut buffer), a.peer_gone(), a.await_readable(wait), a.await_writable(wait)),
            }
        }
    }
}

#[test]
fn positions_that_cannot_be_are_told_and_end_the_pipe() {
    // The tail and the head of the second way, and of the first, as `layout.rs` draws them.
    for (at, reading) in [(512, true), (128, false)] {
        for nonsense in [u64::MAX, 4097, 1 << 40] {
            let (a, b) = pipe(4096, false);
            b.scribble(at, &nonsense.to_ne_bytes());
            let mut buffer = [0; 8192];
            let result =
                if reading { a.read(&mut buffer, soon()).map(|_| ()) } else { a.write(&buffer, soon(), &mut 0) };
            assert_eq!(result, Err(Failure::Nonsense), "{nonsense} at {at}");
            assert_eq!(a.read(&mut buffer, Wait::No), Err(Failure::Nonsense), "once and for all");
            // A peer that is not to blame hears that this end has gone, not that it ended what it wrote.
            assert_eq!(b.read(&mut buffer, soon()), Err(Failure::Reset));
        }
    }
}

#[test]
fn a_message_whose_length_lies_is_refused_whatever_it_says() {
    let start = 1u64 << 62;
    for word in [0, 1, start | 4089, start | 0xFFFF_FFFF, start | (1 << 40) | 8, 1 << 63, start | 1 << 63, start | 100]
    {
        let (a, b) = pipe(4096, true);
        b.write_message(b"12345678", Wait::No, &mut Progress::default(), &mut || false).expect("room");
        // The word in front of the first message of the second way.
        b.scribble(4096 + 4096, &word.to_ne_bytes());
        assert_eq!(a.read_message(soon()), Err(Failure::Nonsense), "{word:#x}");
    }
}

#[test]
fn the_kind_and_size_of_a_pipe_are_beyond_its_peers_reach() {
    for messages in [false, true] {
        let (first, second) = make("vnet:test", 5000, messages).expect("a pipe");
        let a = End::open(first, true, LARGEST).expect("an end");
        a.scribble(0, &[0xFF; 4096]);
        let b = End::open(second, false, LARGEST).expect("whatever is written there");
        assert_eq!((b.messages(), b.size()), (messages, 8192));
        assert_eq!(b.read(&mut [0; 8], soon()), Err(Failure::Nonsense));
    }
}

#[test]
fn what_is_no_pipe_is_refused() {
    for size in [0, (1 << 30) + 1, u64::MAX] {
        assert!(make("vnet:test", size, false).is_err());
    }
    let fail = |memory: std::os::fd::OwnedFd| {
        let (files, _) = make("vnet:test", 4096, false).expect("a pipe");
        End::open(vnet_bus::pipe::Files { memory, ..files }, true, LARGEST).err().expect("refused").to_string()
    };
    let file = |bytes, sealed| {
        let file = vnet_base::map::memory_file("vnet:test", bytes).expect("memory");
        if sealed {
            vnet_base::map::seal(&file, false).expect("seals");
        }
        file
    };
    assert!(fail(file(4096 * 3, false)).contains("not sealed"));
    for bytes in [0, 4096, 4096 * 2, 4096 * 5 + 8, 4096 * 7] {
        assert!(fail(file(bytes, true)).contains("size of a pipe"), "{bytes}");
    }
    let (files, _) = make("vnet:test", 4096, false).expect("a pipe");
    let wrong = vnet_bus::pipe::Files { outer: file(4096, true), ..files };
    assert!(End::open(wrong, true, LARGEST).err().expect("refused").to_string().contains("sockets"));
}

#[test]
fn a_stream_of_any_pieces_comes_through_threads_that_sleep_and_wake() {
    for (size, total) in [(4096, 3 << 20), (1 << 16, 24 << 20)] {
        let (a, b) = pipe(size, false);
        let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
        let writer = thread::spawn(move || {
            let (mut at, mut seed) = (0, 1u32);
            while at < total {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let count = (seed >> 8) as usize % 20_000 + 1;
                let bytes: Vec<u8> = (at..total.min(at + count)).map(byte).collect();
                let mut done = 0;
                a.write(&bytes, soon(), &mut done).expect("a reader");
                assert_eq!(done, bytes.len());
                at += done;
                if seed % 61 == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
            }
            a.shut_write(forever()).expect("nobody else writes");
            // Its other half is still open.
            let mut answer = [0; 4];
            assert_eq!(a.read(&mut answer, soon()), Ok(4));
        });
        let (mut at, mut seed, mut buffer) = (0, 7u32, vec![0; 30_000]);
        loop {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let most = (seed >> 8) as usize % buffer.len() + 1;
            let count = b.read(&mut buffer[..most], soon()).expect("a writer");
            if count == 0 {
                break;
            }
            assert!(buffer[..count].iter().enumerate().all(|(index, found)| *found == byte(at + index)), "at {at}");
            at += count;
            if seed % 67 == 0 {
                thread::sleep(Duration::from_micros(200));
            }
        }
        assert_eq!(at, total);
        b.write(b"done", soon(), &mut 0).expect("room");
        writer.join().expect("the writer");
    }
}

/// Every wait is the kernel's: who is not told sleeps until the test fails.
#[test]
fn nobody_who_polls_misses_data_or_room() {
    let (a, b) = pipe(4096, false);
    let total = 40_000u32;
    let writer = thread::spawn(move || {
        let file = a.descriptor().expect("open");
        let (mut sent, mut answers, mut buffer) = (0, 0, [0; 64]);
        while answers < total {
            if sent < total {
                match a.write(&sent.to_ne_bytes()[..1], Wait::No, &mut 0) {
                    Ok(()) => sent += 1,
                    Err(Failure::NotNow) => wait_for(file, PollFlags::OUT),
                    Err(failure) => panic!("{failure}"),
                }
            }
            // Now and then all that has come, so that both rings run full and empty.
            if sent % 5000 == 0 || sent == total {
                while answers < sent {
                    match a.read(&mut buffer, Wait::No) {
                        Ok(count) => answers += count as u32,
                        Err(Failure::NotNow) => wait_for(file, PollFlags::IN),
                        Err(failure) => panic!("{failure}"),
                    }
                }
            }
        }
    });
    let file = b.descriptor().expect("open");
    let mut buffer = [0; 7];
    loop {
        match b.read(&mut buffer, Wait::No) {
            Ok(0) => break,
            Ok(count) => {
                let mut done = 0;
                while done < count {
                    match b.write(&buffer[..count], Wait::No, &mut done) {
                        Ok(()) => {}
                        Err(Failure::NotNow) => wait_for(file, PollFlags::OUT),
                        Err(failure) => panic!("{failure}"),
                    }
                }
            }
            Err(Failure::NotNow) => wait_for(file, PollFlags::IN),
            Err(failure) => panic!("{failure}"),
        }
    }
    writer.join().expect("the writer");
}

#[test]
fn what_was_written_before_the_descriptor_was_asked_for_shows_on_it() {
    let (a, b) = pipe(4096, false);
    b.write(b"early", Wait::No, &mut 0).expect("room");
    assert_eq!(polled(a.descriptor().expect("open")), (true, true));
    let mut buffer = [0; 4];
    assert_eq!(a.read(&mut buffer, Wait::No), Ok(4));
    assert_eq!(polled(a.descriptor().expect("open")), (true, true), "one byte was left");
    assert_eq!(a.read(&mut buffer, Wait::No), Ok(1));
    assert_eq!(polled(a.descriptor().expect("open")), (false, true));
}

#[test]
fn closing_wakes_every_thread_that_waits() {
    let (a, b) = pipe(4096, false);
    a.write(&[0; 4096], Wait::No, &mut 0).expect("room");
    let a = std::sync::Arc::new(a);
    let wait = |act: fn(&End) -> Failure| {
        let end = std::sync::Arc::clone(&a);
        thread::spawn(move || act(&end))
    };
    let read: fn(&End) -> Failure = |end| end.read(&mut [0; 8], soon()).expect_err("closed");
    let write: fn(&End) -> Failure = |end| end.write(&[0; 8], soon(), &mut 0).expect_err("closed");
    // Two of each: the second of them waits for its turn.
    let threads = [wait(read), wait(read), wait(write), wait(write)];
    thread::sleep(Duration::from_millis(50));
    a.close();
    for thread in threads {
        assert_eq!(thread.join().expect("a thread"), Failure::Closed);
    }
    // The peer finds all that was written, and then its end; nobody reads what it writes.
    let mut buffer = [0; 8192];
    assert_eq!(b.read(&mut buffer, soon()), Ok(4096));
    assert_eq!(b.read(&mut buffer, soon()), Ok(0));
    assert_eq!(b.write(b"x", soon(), &mut 0), Err(Failure::Broken));
}

#[test]
fn a_peer_whose_descriptors_close_without_a_word_has_died() {
    let (first, second) = make("vnet:test", 4096, false).expect("a pipe");
    let a = End::open(first, true, LARGEST).expect("an end");
    let started = Instant::now();
    let waiting = thread::spawn(move || {
        let mut buffer = [0; 8];
        let read = a.read(&mut buffer, soon());
        (read, a.write(b"x", soon(), &mut 0))
    });
    thread::sleep(Duration::from_millis(20));
    drop(second);
    assert_eq!(waiting.join().expect("a thread"), (Err(Failure::Reset), Err(Failure::Broken)));
    assert!(started.elapsed() < Duration::from_secs(10), "it waited for its time to be over");
}

#[test]
fn a_long_message_goes_on_where_it_stopped_and_another_drops_it() {
    let (a, b) = pipe(4096, true);
    let (long, other) = (vec![7; 20_000], vec![9; 10_000]);
    let mut progress = Progress::default();
    let go = |message: &[u8], progress: &mut Progress| a.write_message(message, Wait::No, progress, &mut || true);
    assert_eq!(go(&long, &mut progress), Err(Failure::NotNow));
    assert!(progress.begun());
    let mut read = None;
    while read.is_none() {
        read = b.read_message(Wait::No).ok().flatten();
        let _ = progress.begun() && go(&long, &mut progress).is_ok();
    }
    assert_eq!(read.as_deref(), Some(&long[..]));
    // Whatever is begun now and given up is not seen.
    let _ = go(&long, &mut Progress::default());
    let mut progress = Progress::default();
    let mut read = None;
    let mut gone = false;
    while read.is_none() {
        gone = gone || go(&other, &mut progress).is_ok();
        read = b.read_message(Wait::No).ok().flatten();
    }
    assert_eq!(read.as_deref(), Some(&other[..]));
}
