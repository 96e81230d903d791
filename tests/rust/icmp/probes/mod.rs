//! What routers are tried with.

mod chance;
mod four;
mod pieces;
mod six;

pub use chance::{damaged, options};
pub use four::{absent, four};
pub use pieces::pieces;
pub use six::six;

use crate::build::{Four, udp, v4};
use crate::kernel::Side;

/// Datagrams that come in on a side of the router, one after the other.
#[derive(Clone, Debug)]
pub struct Probe {
    pub name: String,
    pub datagrams: Vec<Vec<u8>>,
    pub side: Side,
}

fn probe(name: impl Into<String>, datagram: Vec<u8>) -> Probe {
    Probe { name: name.into(), datagrams: vec![datagram], side: Side::Left }
}

const OWN: [u8; 4] = [10, 1, 0, 254];
const FAR: [u8; 4] = [10, 2, 0, 254];

/// A source that nothing was said to yet: the kernel's limit on errors about routes cannot be lifted in a namespace.
fn fresh(turn: usize) -> [u8; 4] {
    [10, 1, 100 + (turn / 250 % 150) as u8, 1 + (turn % 250) as u8]
}

fn udp4(header: &Four, data: usize) -> Vec<u8> {
    v4(&Four { protocol: 17, ..header.clone() }, &udp(&header.source, &header.destination, data))
}
