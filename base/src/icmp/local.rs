//! A datagram for the router itself.

use super::Speaker;
use super::error::Trouble;

/// What a router does with a datagram for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The answer is in `out`; it may be larger than the MTU, see [`fragment`](super::fragment::cut).
    Reply,
    /// An ICMP error is due: [`may_answer`](super::may_answer), limits and [`error`](super::error()) are the caller's.
    Error(Trouble),
    /// Nothing is said.
    Silent,
}

/// What a router does with a datagram for itself that [`receive`](super::receive()) let through and that is no fragment.
///
/// `mine` says which IPv4 addresses are the router's own: a prespecified timestamp asks for that.
pub fn local(out: &mut Vec<u8>, _datagram: &[u8], _speaker: &Speaker, _mine: &dyn Fn(u32) -> bool) -> Local {
    out.clear();
    Local::Silent
}
