//! What no ICMP error may be about.

use super::error::Trouble;

/// Whether an ICMP error may be sent about this datagram, which came to one station (no broadcast of the link layer).
#[must_use]
pub fn may_answer(_datagram: &[u8], _trouble: Trouble) -> bool {
    false
}
