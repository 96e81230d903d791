//! The same work over work queues: a post wakes an idle dispatcher, which posts back.

use std::time::{Duration, Instant};

use vnet_bus::queue::{Desk, Poster, Spin, Waited, Worker};

use crate::PeerLost;
use crate::arena::Arena;

/// One half of `count` round trips: each side posts to a queue of the other's, and neither looks before it sleeps.
/// Returns seconds a round trip.
///
/// # Errors
///
/// [`PeerLost`].
pub fn round_trips(
    arena: &Arena,
    poster: &Poster,
    worker: &mut Worker,
    desk: &Desk,
    item: &[u8],
    first: bool,
    count: u64,
) -> Result<f64, PeerLost> {
    worker.set_spin(Spin::Never);
    let result = exchange(arena, poster, worker, desk, item, first, count);
    worker.set_spin(Spin::Adaptive);
    result
}

fn exchange(
    arena: &Arena,
    poster: &Poster,
    worker: &mut Worker,
    desk: &Desk,
    item: &[u8],
    first: bool,
    count: u64,
) -> Result<f64, PeerLost> {
    let mut incoming = vec![0; item.len()];
    let mut deadline = arena.deadline();
    arena.gate()?;
    let start = Instant::now();
    for _ in 0..count {
        if first {
            poster.try_post(0, item).map_err(|_| PeerLost)?;
        }
        loop {
            if let Some(found) = worker.find().map_err(|_| PeerLost)? {
                let copy = |item: &[u8]| {
                    let length = item.len().min(incoming.len());
                    incoming[..length].copy_from_slice(&item[..length]);
                    std::hint::black_box(&incoming);
                    true
                };
                worker.take(&found, 1, copy).map_err(|_| PeerLost)?;
                break;
            }
            if worker.wait(true).map_err(|_| PeerLost)? == Waited::Asleep {
                let _ = desk.sleep(Some(Duration::from_secs(1)));
            }
            deadline.turn()?;
        }
        if !first {
            poster.try_post(0, item).map_err(|_| PeerLost)?;
        }
    }
    Ok(start.elapsed().as_secs_f64() / count as f64)
}
