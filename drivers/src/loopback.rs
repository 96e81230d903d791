//! Sends back what it gets, source and destination exchanged. The simplest driver, and what tests stand on.

use vnet_base::buffer::Damaged;

use crate::driver::{BUDGET, Driver, Next};
use crate::port::Port;

/// Answers every datagram with itself.
#[derive(Default)]
pub struct Loopback {
    datagram: Vec<u8>,
}

impl Driver for Loopback {
    fn visit(&mut self, port: &mut Port, _now: u64) -> Result<Next, Damaged> {
        for _ in 0..BUDGET {
            if !port.receive(&mut self.datagram)? {
                port.sender.ring();
                return Ok(Next::At(None));
            }
            exchange(&mut self.datagram);
            port.send(&self.datagram, true);
        }
        port.sender.ring();
        Ok(Next::Again)
    }
}

/// Exchanges source and destination. The checksums of IP, UDP and TCP do not change by it (RFC 1071: sums commute).
fn exchange(datagram: &mut [u8]) {
    let (start, length) = match datagram.first().map(|byte| byte >> 4) {
        Some(4) => (12, 4),
        Some(6) => (8, 16),
        _ => return,
    };
    if let Some(addresses) = datagram.get_mut(start..start + 2 * length) {
        let (source, destination) = addresses.split_at_mut(length);
        source.swap_with_slice(destination);
    }
}
