//! Pipes whose memory and sockets anybody writes to: no panic, no hang, no more bytes than the pipe has; and until somebody
//! does, what is read is what was written, byte for byte or message for message.
//!
//! An input is a script: the kind of the pipe (one byte), then acts, each with a detail. Both ends play in one thread, so
//! none of them waits longer than it takes to fall asleep.
#![no_main]

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vnet_bus::pipe::{End, Failure, Progress, Wait, make};

/// The least that a ring has.
const RING: u64 = 4096;
/// Bytes in front of the rings: `bus/src/pipe/layout.rs`.
const HEADER: u64 = 4096;
/// Bytes that a message may have here.
const LARGEST: u64 = 3 * RING;

/// One direction as a plain list has it.
#[derive(Default)]
struct Model {
    bytes: VecDeque<u8>,
    messages: VecDeque<Vec<u8>>,
    shut: bool,
    next: u8,
}

struct Play {
    ends: [Option<End>; 2],
    /// What a peer could use besides: the memory file, and each end's sockets.
    memory: File,
    sockets: Vec<OwnedFd>,
    ways: [Model; 2],
    /// Whether anything was done that no end does: from then on bytes may be any.
    foul: bool,
    messages: bool,
}

impl Play {
    fn new(kind: u8) -> Self {
        let messages = kind & 1 != 0;
        let (first, second) = make("vnet:fuzz", RING, messages).expect("a pipe");
        let memory = File::from(first.memory.try_clone().expect("a descriptor"));
        let sockets = [&first.outer, &first.inner, &second.outer, &second.inner];
        let sockets = sockets.map(|file| file.try_clone().expect("a descriptor")).into();
        let ends = [Some(End::open(first, true, LARGEST)), Some(End::open(second, false, LARGEST))];
        let ends = ends.map(|end| end.map(|end| end.expect("an end of a pipe")));
        Self { ends, memory, sockets, ways: Default::default(), foul: false, messages }
    }

    /// What a call may fail with that was made in this state; whatever else it is, is a finding.
    fn bear(&self, failure: Failure) {
        match failure {
            Failure::NotNow | Failure::Late | Failure::Broken | Failure::Shut | Failure::TooLong(..) => {}
            Failure::Interrupted => assert!(self.foul || self.messages, "{failure}"),
            Failure::Reset | Failure::Nonsense => assert!(self.foul, "{failure}"),
            Failure::Closed | Failure::Forked => unreachable!("{failure}"),
        }
    }

    fn write(&mut self, at: usize, length: usize, wait: Wait) {
        let Some(end) = &self.ends[at] else { return };
        let way = &mut self.ways[at];
        let bytes: Vec<u8> = (0..length).map(|index| way.next.wrapping_add(index as u8)).collect();
        way.next = way.next.wrapping_add(length as u8).wrapping_mul(3).wrapping_add(1);
        let result = if self.messages {
            let result = end.write_message(&bytes, wait, &mut Progress::default(), &mut || true);
            if result.is_ok() {
                way.messages.push_back(bytes);
            }
            result
        } else {
            let mut done = 0;
            let result = end.write(&bytes, wait, &mut done);
            assert!(done <= length);
            way.bytes.extend(&bytes[..done]);
            result
        };
        assert!(result.is_err() || !way.shut || (length == 0 && !self.messages), "written after the end");
        if let Err(failure) = result {
            self.bear(failure);
        }
    }

    fn read(&mut self, at: usize, length: usize, wait: Wait) {
        let Some(end) = &self.ends[at] else { return };
        let (way, foul) = (&mut self.ways[1 - at], self.foul);
        if self.messages {
            match end.read_message(wait) {
                Ok(Some(message)) => {
                    assert!(message.len() as u64 <= LARGEST);
                    assert!(foul || way.messages.pop_front() == Some(message), "another message");
                }
                Ok(None) => assert!(foul || (way.messages.is_empty() && way.shut), "no end was written"),
                // Of a message that was begun and given up.
                Err(Failure::Reset) if way.shut => {}
                Err(failure) => self.bear(failure),
            }
            return;
        }
        let mut buffer = vec![0; length];
        match end.read(&mut buffer, wait) {
            Ok(0) => assert!(foul || length == 0 || (way.bytes.is_empty() && way.shut), "no end was written"),
            Ok(count) => {
                assert!(count <= length);
                let expected: Vec<u8> = way.bytes.drain(..count.min(way.bytes.len())).collect();
                assert!(foul || expected == buffer[..count], "other bytes");
            }
            Err(failure) => {
                assert!(foul || way.bytes.is_empty(), "{failure}, and bytes are there");
                self.bear(failure);
            }
        }
    }

    fn scribble(&mut self, place: u64, word: u64, detail: u8) {
        self.foul = true;
        // Mostly into the words that decide, and near what is in them; else anywhere.
        let at = if detail & 3 == 0 { place % (HEADER + 2 * RING - 8) } else { place % 128 * 8 };
        let word = if detail & 4 == 0 { word } else { word % (4 * RING) };
        self.memory.write_all_at(&word.to_le_bytes(), at).expect("it is writable");
    }

    fn junk(&mut self, which: u8, count: u8) {
        self.foul = true;
        let file = &self.sockets[usize::from(which) % self.sockets.len()];
        if count & 128 == 0 {
            let _ = send(file, &vec![1; usize::from(count)], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        } else {
            let mut taken = [0; 64];
            let _ = recv(file, &mut taken[..], RecvFlags::DONTWAIT);
        }
    }
}

/// A wait that is over once there is nothing to do: all of falling asleep but the sleep.
fn wait(detail: u8) -> Wait {
    match detail % 3 {
        0 => Wait::No,
        1 => Wait::Quick,
        _ => Wait::Until(Some(Instant::now())),
    }
}

fuzz_target!(|input: &[u8]| {
    let [kind, acts @ ..] = input else { return };
    let mut play = Play::new(*kind);
    let mut rest = acts;
    while let [act, detail, low, high, after @ ..] = rest {
        rest = after;
        let (at, length) = (usize::from(act & 1), usize::from(u16::from_le_bytes([*low, *high])) % (4 * RING as usize));
        match act >> 1 & 7 {
            0 | 1 => play.write(at, length, wait(*detail)),
            2 | 3 => play.read(at, length, wait(*detail)),
            4 => {
                let Some((word, after)) = rest.split_first_chunk() else { return };
                rest = after;
                play.scribble(length as u64, u64::from_le_bytes(*word), *detail);
            }
            5 => play.junk(*low, *detail),
            6 => {
                let Some(end) = &play.ends[at] else { continue };
                if detail & 1 == 0 {
                    let _ = end.descriptor();
                }
                for failure in [end.waiting().err(), end.room().err()].into_iter().flatten() {
                    play.bear(failure);
                }
                let Some(end) = &play.ends[at] else { continue };
                std::hint::black_box((end.counters(), end.peer_gone(), end.peer_closed_write()));
            }
            _ => {
                let Some(end) = &play.ends[at] else { continue };
                play.ways[at].shut = true;
                if detail & 1 == 0 {
                    if let Err(failure) = end.shut_write(Wait::No) {
                        play.bear(failure);
                    }
                } else {
                    play.ends[at] = None;
                }
            }
        }
    }
});
