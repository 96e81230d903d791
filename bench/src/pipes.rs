//! The same work over a pipe: written and read as a program does, waiting where there is nothing to do.

use std::time::Instant;

use vnet_bus::pipe::{End, Failure, Wait};

use crate::arena::Arena;
use crate::{LIMIT, PeerLost};

fn until() -> Wait {
    Wait::Until(Instant::now().checked_add(LIMIT))
}

/// Writes all of `bytes`.
fn put(pipe: &End, bytes: &[u8], wait: Wait) -> Result<(), PeerLost> {
    let mut done = 0;
    loop {
        match pipe.write(bytes, wait, &mut done) {
            Ok(()) => return Ok(()),
            Err(Failure::Interrupted) => {}
            Err(_) => return Err(PeerLost),
        }
    }
}

/// Reads what is there, at least one byte.
fn get(pipe: &End, bytes: &mut [u8], wait: Wait) -> Result<usize, PeerLost> {
    loop {
        match pipe.read(bytes, wait) {
            Ok(0) => return Err(PeerLost),
            Ok(count) => return Ok(count),
            Err(Failure::Interrupted) => {}
            Err(_) => return Err(PeerLost),
        }
    }
}

/// Writes `count` pieces.
///
/// # Errors
///
/// [`PeerLost`].
pub fn stream_send(arena: &Arena, pipe: &End, piece: &[u8], count: u64) -> Result<(), PeerLost> {
    arena.gate()?;
    let wait = until();
    for _ in 0..count {
        put(pipe, piece, wait)?;
    }
    Ok(())
}

/// Reads `count` times `size` bytes, as many at once as are there. Returns the seconds it took.
///
/// # Errors
///
/// [`PeerLost`].
pub fn stream_receive(arena: &Arena, pipe: &End, size: usize, count: u64) -> Result<f64, PeerLost> {
    let mut piece = vec![0; size];
    arena.gate()?;
    let (start, wait) = (Instant::now(), until());
    let mut left = size as u64 * count;
    while left > 0 {
        let taken = get(pipe, &mut piece, wait)?;
        std::hint::black_box(&piece);
        left = left.saturating_sub(taken as u64);
    }
    Ok(start.elapsed().as_secs_f64())
}

/// One half of `count` round trips of so many bytes; either side looks for a while, then sleeps. Returns seconds a round
/// trip.
///
/// # Errors
///
/// [`PeerLost`].
pub fn round_trips(arena: &Arena, pipe: &End, message: &[u8], first: bool, count: u64) -> Result<f64, PeerLost> {
    let mut incoming = vec![0; message.len()];
    arena.gate()?;
    let (start, wait) = (Instant::now(), until());
    for _ in 0..count {
        if first {
            put(pipe, message, wait)?;
        }
        let mut taken = 0;
        while taken < incoming.len() {
            taken += get(pipe, &mut incoming[taken..], wait)?;
        }
        std::hint::black_box(&incoming);
        if !first {
            put(pipe, message, wait)?;
        }
    }
    Ok(start.elapsed().as_secs_f64() / count as f64)
}
