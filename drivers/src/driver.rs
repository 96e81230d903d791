//! The trait that base workers run.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vnet_base::buffer::Damaged;
use vnet_base::outlet::Outlet;

use crate::port::Port;

/// What a driver wants after a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has more to do at once.
    Again,
    /// Nothing until a datagram or a call comes, its descriptor is ready, or this time, in nanoseconds of the worker's
    /// clock.
    At(Option<u64>),
    /// Its guest is gone; the worker takes the NIC down.
    Ended,
}

/// Moves datagrams between one guest and the base.
///
/// A driver never blocks and never reads a clock: a worker calls it when there is work, and passes the time in. What a
/// guest sends is hostile input: a driver bounds it, counts what it cannot use, and goes on.
pub trait Driver: Send {
    /// Moves what can be moved now, some tens of datagrams at most, so that others get their turn.
    ///
    /// `now` is in nanoseconds of the worker's clock.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the NIC's input buffer is unusable; the worker takes the NIC down.
    fn visit(&mut self, port: &mut Port, now: u64) -> Result<Next, Damaged>;

    /// What the worker polls for it: the driver is visited while it is readable or has failed.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Where others of the same worker may hand datagrams to its guest.
    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        None
    }
}

/// Datagrams that a driver takes from its buffer in one visit.
pub const BUDGET: usize = 64;
