//! What a router looks at before it routes a datagram.

use vnet_tables::Address;

/// What the rest of the way needs to know of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the IPv4 header with its options; IPv6: of the fixed header and the hop-by-hop options.
    pub header: usize,
    /// Bytes of the datagram; what is behind them is no part of it.
    pub total: usize,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// Neither options (IPv4) nor a hop-by-hop header (IPv6).
    pub plain: bool,
    /// IPv4 with DF set, and all of IPv6: a router does not cut it.
    pub dont_fragment: bool,
    /// IPv4: a fragment other than the first.
    pub later_fragment: bool,
    /// IPv4: any fragment.
    pub fragment: bool,
    /// The protocol behind `header`.
    pub protocol: u8,
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
}

/// Why a datagram goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Dropped; nobody hears of it.
    Silent,
    /// Dropped, and its sender hears of it: ICMP parameter problem.
    Parameter {
        /// The message's code.
        code: u8,
        /// Which byte of the datagram is at fault.
        pointer: u32,
    },
}

/// What Linux's `ip_rcv`, `ip_route_input` and `ipv6_rcv` check of a datagram that does not depend on routes.
///
/// # Errors
///
/// A [`Refusal`] where the datagram goes no further.
pub fn receive(_datagram: &[u8]) -> Result<Received, Refusal> {
    Err(Refusal::Silent)
}
