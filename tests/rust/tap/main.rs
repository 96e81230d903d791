//! The Ethernet side of TAPs, frame by frame, in a time of its own.
//!
//! Frames are Linux's own, captured on a veth pair, scapy's, or etherparse's; what comes back is read by etherparse, and
//! compared with what Linux answered to the same frame.

mod bounds;
mod formats;
mod guests;
mod lan;
mod neighbourhood;
mod stations;
mod wire;
