//! Kind `netns` and `tap`: guests behind a TAP device.
//!
//! ```text
//!   ethernet       frames and their header
//!   arp            ARP packets
//!   ndp            neighbour solicitations and advertisements
//!   neighbours     one TAP's view: who is behind it, who is answered, where a frame goes; no clock, no I/O
//!     incoming     the guest speaks
//!     outgoing     the LAN speaks to the guest
//!     stations     whose addresses are behind it, their MACs and ages
//!     questions    what is asked for, and the datagrams that wait for the answers
//!     routers      which neighbours are routers
//!     world        what all that needs of the LAN
//!   neighbourhood  what the TAPs of a LAN tell each other
//!   counters       what befalls frames, by reason
//!   driver         moves frames and datagrams              ── start here
//!   device         the TAP device itself (unsafe)
//! ```

pub mod arp;
pub mod counters;
pub mod device;
pub mod driver;
pub mod ethernet;
pub mod ndp;
pub mod neighbourhood;
pub mod neighbours;
