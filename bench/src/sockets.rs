//! The same work over connected sockets: Unix datagrams, UDP on loopback, or a Unix stream.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::PeerLost;
use crate::arena::Arena;

fn lost(_: rustix::io::Errno) -> PeerLost {
    PeerLost
}

/// Sends `count` datagrams, one call each, behind one that announces the start.
///
/// # Errors
///
/// [`PeerLost`].
pub fn stream_send(arena: &Arena, socket: BorrowedFd<'_>, datagram: &[u8], count: u64) -> Result<(), PeerLost> {
    arena.gate()?;
    for _ in 0..count {
        loop {
            match send(socket, datagram, SendFlags::NOSIGNAL) {
                Ok(_) => break,
                // A Unix socket blocks; UDP on loopback may run out of memory for a moment.
                Err(rustix::io::Errno::NOBUFS) => std::hint::spin_loop(),
                Err(error) => return Err(lost(error)),
            }
        }
    }
    Ok(())
}

/// Receives up to `count` datagrams until none comes for the socket's own timeout. Returns datagrams a second.
///
/// UDP drops what it has no room for, so the rate counts what arrived until the last that did.
///
/// # Errors
///
/// [`PeerLost`] when nothing came.
pub fn stream_receive(arena: &Arena, socket: BorrowedFd<'_>, size: usize, count: u64) -> Result<f64, PeerLost> {
    let mut datagram = vec![0; size];
    arena.gate()?;
    let start = Instant::now();
    let mut last = start;
    let mut taken = 0u64;
    while taken < count {
        match recv(socket, &mut datagram[..], RecvFlags::empty()) {
            Ok(_) => taken += 1,
            Err(_) => break,
        }
        // A look at the clock costs a hundredth of a system call.
        last = Instant::now();
    }
    if taken == 0 { Err(PeerLost) } else { Ok(taken as f64 / (last - start).as_secs_f64()) }
}

/// Writes `count` pieces to a stream socket, whole each.
///
/// # Errors
///
/// [`PeerLost`].
pub fn bytes_send(arena: &Arena, socket: BorrowedFd<'_>, piece: &[u8], count: u64) -> Result<(), PeerLost> {
    arena.gate()?;
    for _ in 0..count {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = &rest[send(socket, rest, SendFlags::NOSIGNAL).map_err(lost)?..];
        }
    }
    Ok(())
}

/// Reads `count` times `size` bytes, as many at once as are there. Returns the seconds it took.
///
/// # Errors
///
/// [`PeerLost`].
pub fn bytes_receive(arena: &Arena, socket: BorrowedFd<'_>, size: usize, count: u64) -> Result<f64, PeerLost> {
    let mut piece = vec![0; size];
    arena.gate()?;
    let start = Instant::now();
    let mut left = size as u64 * count;
    while left > 0 {
        let (taken, _) = recv(socket, &mut piece[..], RecvFlags::empty()).map_err(lost)?;
        if taken == 0 {
            return Err(PeerLost);
        }
        std::hint::black_box(&piece);
        left = left.saturating_sub(taken as u64);
    }
    Ok(start.elapsed().as_secs_f64())
}

/// One half of `count` round trips, both sides sleeping in the kernel. Returns seconds a round trip.
///
/// # Errors
///
/// [`PeerLost`].
pub fn round_trips(
    arena: &Arena,
    socket: BorrowedFd<'_>,
    datagram: &[u8],
    first: bool,
    count: u64,
) -> Result<f64, PeerLost> {
    let mut incoming = vec![0; datagram.len()];
    arena.gate()?;
    let start = Instant::now();
    for _ in 0..count {
        if first {
            send(socket, datagram, SendFlags::NOSIGNAL).map_err(lost)?;
        }
        recv(socket, &mut incoming[..], RecvFlags::empty()).map_err(lost)?;
        if !first {
            send(socket, datagram, SendFlags::NOSIGNAL).map_err(lost)?;
        }
    }
    Ok(start.elapsed().as_secs_f64() / count as f64)
}
