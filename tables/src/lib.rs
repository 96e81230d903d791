//! The tables of a LAN: who is where.
//!
//! ```text
//!   sync      the one place that names atomics (loom's under `--cfg loom`)
//!   layout    what lies where in the tables segment, drawn; geometry and ABI version
//!   raw       the one place that turns mapped bytes into typed rows (unsafe)
//!   network   networks: prefixes, MTU; what kind of destination an address is
//!   nic       NIC slots: generation, state, where the input buffer lies
//!   host      the host table: (network, address) → NIC slot
//!   image     sections of the routing segment in a file that later LANs map: its layout, writer and checker
//!   lpm       the route table: address → class, longest prefix match, and its writer
//!   plan      what each router does with a datagram: described, compiled to words, read
//!   tables    `Tables`, what every process reads, and `Writer`, what the base alone holds
//! ```
//!
//! One process writes, any number read. Readers take no lock, never wait for the writer and never see half an entry:
//! each row says at its type how. Nothing here knows where the memory comes from, which process it is in or what time
//! it is.
#![deny(unsafe_code)]

pub mod host;
pub mod image;
pub mod layout;
pub mod lpm;
pub mod network;
pub mod nic;
pub mod plan;
mod raw;
pub mod sync;
mod tables;

pub use host::{Found, HostTable};
pub use layout::{ABI, Geometry, Header};
pub use network::{Address, Destination, NetworkId, Prefixes};
pub use nic::{NicRow, NicState, SlotId};
pub use tables::{Tables, TablesError, Writer};
