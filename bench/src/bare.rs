//! The references: what a LAN cannot beat, because it does more.

use std::time::Instant;

use vnet_base::sync::{Ordering, futex_wait, futex_wake};

use crate::arena::Arena;
use crate::{BATCH, PeerLost};

const HEAD: usize = 0;
const TAIL: usize = 1;
const PING: usize = 2;
const PONG: usize = 3;

const fn place(size: usize) -> usize {
    8 + size.next_multiple_of(8)
}

/// Writes `count` datagrams into the bare ring, published every [`BATCH`]; nothing is looked up or checked.
///
/// # Errors
///
/// [`PeerLost`].
pub fn ring_send(arena: &Arena, datagram: &[u8], count: u64) -> Result<(), PeerLost> {
    let (head, tail) = (arena.word(HEAD), arena.word(TAIL));
    head.store(0, Ordering::Relaxed);
    tail.store(0, Ordering::Relaxed);
    arena.gate()?;
    let ring = arena.ring_bytes();
    let (mut at, mut seen) = (0usize, 0usize);
    let mut deadline = arena.deadline();
    for index in 1..=count {
        // What does not fit before the end starts at the beginning.
        if ring - at % ring < place(datagram.len()) {
            at += ring - at % ring;
        }
        while at + place(datagram.len()) - seen > ring {
            tail.store(at as u64, Ordering::Release);
            seen = head.load(Ordering::Acquire) as usize;
            deadline.turn()?;
        }
        arena.copy_in(at % ring, &(datagram.len() as u64).to_ne_bytes());
        arena.copy_in(at % ring + 8, datagram);
        at += place(datagram.len());
        if index.is_multiple_of(BATCH) || index == count {
            tail.store(at as u64, Ordering::Release);
        }
    }
    Ok(())
}

/// Reads `count` datagrams of up to `size` bytes out of the bare ring. Returns the seconds it took.
///
/// # Errors
///
/// [`PeerLost`].
pub fn ring_receive(arena: &Arena, size: usize, count: u64) -> Result<f64, PeerLost> {
    let (head, tail) = (arena.word(HEAD), arena.word(TAIL));
    let mut datagram = vec![0; size];
    arena.gate()?;
    let start = Instant::now();
    let ring = arena.ring_bytes();
    let (mut at, mut end) = (0usize, 0usize);
    let mut deadline = arena.deadline();
    for index in 1..=count {
        if ring - at % ring < place(size) {
            at += ring - at % ring;
        }
        while end <= at {
            end = tail.load(Ordering::Acquire) as usize;
            if end <= at {
                head.store(at as u64, Ordering::Release);
                deadline.turn()?;
            }
        }
        let mut length = [0; 8];
        arena.copy_out(at % ring, &mut length);
        let length = (u64::from_ne_bytes(length) as usize).min(size);
        arena.copy_out(at % ring + 8, &mut datagram[..length]);
        std::hint::black_box(&datagram);
        at += place(length);
        if index.is_multiple_of(BATCH) {
            head.store(at as u64, Ordering::Release);
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Writes `count` pieces through a bare ring of `ring` bytes, each published by itself: a stream that only copies.
///
/// # Errors
///
/// [`PeerLost`].
pub fn copies_send(arena: &Arena, ring: usize, piece: &[u8], count: u64) -> Result<(), PeerLost> {
    let (head, tail) = (arena.word(HEAD), arena.word(TAIL));
    head.store(0, Ordering::Relaxed);
    tail.store(0, Ordering::Relaxed);
    let ring = copies_ring(arena, ring, piece.len());
    arena.gate()?;
    let (mut at, mut seen) = (0usize, 0usize);
    let mut deadline = arena.deadline();
    for _ in 0..count {
        while at + piece.len() - seen > ring {
            seen = head.load(Ordering::Acquire) as usize;
            deadline.turn()?;
        }
        arena.copy_in(at % ring, piece);
        at += piece.len();
        tail.store(at as u64, Ordering::Release);
    }
    Ok(())
}

/// Reads them, each with one copy and given back by itself. Returns the seconds it took.
///
/// # Errors
///
/// [`PeerLost`].
pub fn copies_receive(arena: &Arena, ring: usize, size: usize, count: u64) -> Result<f64, PeerLost> {
    let (head, tail) = (arena.word(HEAD), arena.word(TAIL));
    let mut piece = vec![0; size];
    let ring = copies_ring(arena, ring, size);
    arena.gate()?;
    let start = Instant::now();
    let (mut at, mut end) = (0usize, 0usize);
    let mut deadline = arena.deadline();
    for _ in 0..count {
        while end < at + size {
            end = tail.load(Ordering::Acquire) as usize;
            deadline.turn()?;
        }
        arena.copy_out(at % ring, &mut piece);
        std::hint::black_box(&piece);
        at += size;
        head.store(at as u64, Ordering::Release);
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Bytes of a ring in the arena into which pieces fit without a rest, so that none is cut at its end.
fn copies_ring(arena: &Arena, ring: usize, size: usize) -> usize {
    let ring = ring.min(arena.ring_bytes());
    ring - ring % size.max(1)
}

/// One half of `count` round trips over one cache line each way, both sides spinning. Returns seconds a round trip.
///
/// # Errors
///
/// [`PeerLost`].
pub fn line_ping_pong(arena: &Arena, first: bool, count: u64) -> Result<f64, PeerLost> {
    let (mine, theirs) = if first { (PING, PONG) } else { (PONG, PING) };
    let (mine, theirs) = (arena.word(mine), arena.word(theirs));
    mine.store(0, Ordering::Release);
    arena.gate()?;
    let start = Instant::now();
    let mut deadline = arena.deadline();
    for turn in 1..=count {
        if first {
            mine.store(turn, Ordering::Release);
        }
        while theirs.load(Ordering::Acquire) != turn {
            deadline.turn()?;
        }
        if !first {
            mine.store(turn, Ordering::Release);
        }
    }
    Ok(start.elapsed().as_secs_f64() / count as f64)
}

/// One half of `count` round trips over two futexes, both sides sleeping. Returns seconds a round trip.
///
/// # Errors
///
/// [`PeerLost`].
pub fn futex_ping_pong(arena: &Arena, first: bool, count: u32) -> Result<f64, PeerLost> {
    let (mine, theirs) = if first { (PING, PONG) } else { (PONG, PING) };
    let (mine, theirs) = (arena.futex(mine), arena.futex(theirs));
    mine.store(0, Ordering::Release);
    arena.gate()?;
    let start = Instant::now();
    let mut deadline = arena.deadline();
    for turn in 1..=count {
        if first {
            mine.store(turn, Ordering::Release);
            futex_wake(mine, 1);
        }
        while theirs.load(Ordering::Acquire) != turn {
            futex_wait(theirs, turn - 1, Some(std::time::Duration::from_secs(1)));
            deadline.turn()?;
        }
        if !first {
            mine.store(turn, Ordering::Release);
            futex_wake(mine, 1);
        }
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(count))
}
