//! The base of a LAN: the memory that all guests share and the code that moves datagrams through it.
//!
//! In the order of a datagram's journey:
//!
//! ```text
//!   forward   forward(): the five steps, by the sender        ── start here
//!   datagram  step 1: version and destination, bounds checked
//!   verdict   what became of a datagram, one enum
//!   ways      what of the tables decides about all datagrams of a NIC: ways out, filters
//!   path      step 2 beyond the network: the routers on the way, composed once for each flow
//!   routed    step 3 beyond the network: what each of them does with a datagram
//!   speaking  what routers say of their own
//!   writing   step 4: into the receiver's input buffer, or past it into its kernel
//!   buffer    step 4: input buffers, many senders and one receiver; the memory-ordering argument stands there
//!   lock      the lock of an input buffer, which a base can take from a dead owner
//!   area      the bytes of a ring (unsafe)
//!   doorbell  step 5: wake the receiver only if it sleeps
//!   outlet    guests that a datagram can be handed to without a stop in their input buffer
//!   receiver  the other end of an input buffer
//!   offload   what datagrams lack that cross whole, and finishing them for receivers that want them finished
//!   checksum  the Internet checksum
//!   control   control blocks, counters and worker blocks in the buffers segment, drawn
//!   segment   the memory files, mapped
//!   map       memory files and mappings (unsafe)
//!   routing   the routing segment: what paths are made of, drawn
//!   filter    what may pass a NIC or enter a network
//!   icmp      what a router does to datagrams and says about them
//!   fragments pieces of datagrams made whole, at whom they are for
//!   explain   the same five steps without their effects, said in facts
//!   foresee   the same beyond the network
//!   note      what a capture learns of each datagram
//!   noting    how a sender notes it
//!   room      room that a receiver did not have
//!   lan       the base's own side: slots given and taken back, the dead buried
//!   sync      atomics (from the tables crate) and the futex (unsafe); loom's under `--cfg loom`
//! ```
//!
//! No code here knows guests, addresses plans or Python. Nothing reads a clock but waits that a caller bounded.
#![deny(unsafe_code)]

pub mod area;
pub mod buffer;
#[cfg(not(loom))]
pub mod checksum;
pub mod control;
#[cfg(not(loom))]
pub mod datagram;
pub mod doorbell;
#[cfg(not(loom))]
pub mod explain;
#[cfg(not(loom))]
pub mod filter;
#[cfg(not(loom))]
pub mod foresee;
#[cfg(not(loom))]
pub mod forward;
#[cfg(not(loom))]
pub mod fragments;
#[cfg(not(loom))]
pub mod icmp;
#[cfg(not(loom))]
pub mod lan;
pub mod lock;
#[cfg(not(loom))]
pub mod map;
#[cfg(loom)]
pub mod model;
#[cfg(not(loom))]
pub mod note;
#[cfg(not(loom))]
mod noting;
#[cfg(not(loom))]
pub mod offload;
#[cfg(not(loom))]
pub mod outlet;
#[cfg(not(loom))]
pub mod path;
#[cfg(not(loom))]
pub mod receiver;
#[cfg(not(loom))]
pub mod room;
#[cfg(not(loom))]
mod routed;
#[cfg(not(loom))]
pub mod routing;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
mod speaking;
pub mod sync;
pub mod verdict;
#[cfg(not(loom))]
mod ways;
#[cfg(not(loom))]
mod writing;

#[cfg(not(loom))]
pub use forward::Sender;
#[cfg(not(loom))]
pub use lan::{Lan, LanError, NicRequest};
#[cfg(not(loom))]
pub use receiver::{Receiver, Waited};
#[cfg(not(loom))]
pub use segment::{Files, Segment, SegmentError};
pub use verdict::Verdict;
#[cfg(not(loom))]
pub use vnet_tables as tables;
