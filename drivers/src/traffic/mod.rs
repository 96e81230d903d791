//! Traffic between stacks, measured: sources and sinks are programs on a [`Stack`](crate::stack::Stack).
//!
//! ```text
//!   share     what a program and whoever waits for it have in common
//!   datagram  UDP datagrams that carry their flow, number and departure
//!   pace      when the next datagram is due
//!   tally     what arrived: loss, order, jitter, latency
//!   udp       a source at a rate, and a sink
//!   tcp       a source that sends as fast as it goes, and a sink
//!   probe     one connection: does somebody listen, and what does it answer
//!   guest     drives programs on the NIC of a process
//! ```
//!
//! Source and sink may be in two processes of one machine: departures and arrivals are told by its monotonic clock, which
//! both are handed by whoever drives them. A time is that of the visit in which it was taken, so a latency includes what
//! either side's driver was busy with.

pub mod datagram;
pub mod guest;
pub mod pace;
pub mod probe;
pub mod share;
pub mod tally;
pub mod tcp;
pub mod udp;
