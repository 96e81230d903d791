//! The same work over a LAN: every datagram goes through `forward()`.

use std::time::{Duration, Instant};

use vnet_base::receiver::Spin;
use vnet_base::{Receiver, Sender, Verdict};

use crate::arena::Arena;
use crate::{BATCH, PeerLost};

/// Forwards `count` datagrams in batches of [`BATCH`]; waits where the receiver has no room, so that none is lost.
///
/// # Errors
///
/// [`PeerLost`], also when a datagram is not delivered.
pub fn stream_send(arena: &Arena, sender: &mut Sender, datagram: &[u8], count: u64) -> Result<(), PeerLost> {
    arena.gate()?;
    let mut deadline = arena.deadline();
    for index in 1..=count {
        let more = !index.is_multiple_of(BATCH) && index != count;
        loop {
            match sender.try_forward(datagram, more) {
                Some(Verdict::Delivered) => break,
                Some(_) => return Err(PeerLost),
                None => {
                    sender.ring();
                    deadline.turn()?;
                }
            }
        }
    }
    Ok(())
}

/// Takes `count` datagrams and copies each out. Returns the seconds it took.
///
/// # Errors
///
/// [`PeerLost`].
pub fn stream_receive(arena: &Arena, receiver: &mut Receiver, size: usize, count: u64) -> Result<f64, PeerLost> {
    let mut datagram = vec![0; size];
    let mut deadline = arena.deadline();
    arena.gate()?;
    let start = Instant::now();
    let mut taken = 0;
    while taken < count {
        match receiver.peek().map_err(|_| PeerLost)? {
            Some(record) => {
                let length = record.length.min(size);
                datagram[..length].copy_from_slice(&receiver.bytes(&record)[..length]);
                std::hint::black_box(&datagram);
                receiver.done(&record);
                taken += 1;
            }
            None => {
                receiver.look_away();
                deadline.turn()?;
            }
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    receiver.publish();
    Ok(elapsed)
}

/// One half of `count` round trips. With `sleep`, neither side ever polls. Returns seconds a round trip.
///
/// # Errors
///
/// [`PeerLost`].
pub fn round_trips(
    arena: &Arena,
    sender: &mut Sender,
    receiver: &mut Receiver,
    datagram: &[u8],
    first: bool,
    sleep: bool,
    count: u64,
) -> Result<f64, PeerLost> {
    receiver.set_spin(if sleep { Spin::Never } else { Spin::Always });
    let result = exchange(arena, sender, receiver, datagram, first, sleep, count);
    receiver.set_spin(Spin::Adaptive);
    result
}

fn exchange(
    arena: &Arena,
    sender: &mut Sender,
    receiver: &mut Receiver,
    datagram: &[u8],
    first: bool,
    sleep: bool,
    count: u64,
) -> Result<f64, PeerLost> {
    let mut incoming = vec![0; datagram.len()];
    let mut deadline = arena.deadline();
    arena.gate()?;
    let start = Instant::now();
    for _ in 0..count {
        if first && sender.forward(datagram, false) != Verdict::Delivered {
            return Err(PeerLost);
        }
        loop {
            if let Some(record) = receiver.peek().map_err(|_| PeerLost)? {
                let length = record.length.min(incoming.len());
                incoming[..length].copy_from_slice(&receiver.bytes(&record)[..length]);
                std::hint::black_box(&incoming);
                receiver.done(&record);
                break;
            }
            if sleep {
                receiver.wait(Some(Duration::from_secs(1))).map_err(|_| PeerLost)?;
            }
            deadline.turn()?;
        }
        if !first && sender.forward(datagram, false) != Verdict::Delivered {
            return Err(PeerLost);
        }
    }
    Ok(start.elapsed().as_secs_f64() / count as f64)
}
