//! Kind `netns` and `tap`: guests behind a TAP device.
//!
//! ```text
//!   ethernet       frames and their header
//!   arp            ARP packets
//!   ndp            neighbour solicitations and advertisements
//!   neighbours     one TAP's view: who is behind it, who is answered, where a frame goes; no clock, no I/O
//!   neighbourhood  what the TAPs of a LAN tell each other
//!   counters       what befalls frames, by reason
//! ```

pub mod counters;
pub mod ethernet;
pub mod neighbourhood;
pub mod neighbours;
