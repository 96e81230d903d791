//! Datagrams leave in pieces where they are larger than the MTU.

use vnet_base::Verdict;
use vnet_base::icmp::fragment;

/// Sends a datagram of a stack in pieces of at most `mtu` bytes of IP, which bear the number `id` (its lower half in IPv4).
///
/// Pieces are sent in order until one does not arrive: nobody has use for the rest. Returns the verdict on that one, or
/// on the last. What says "do not fragment" is cut too: that is for routers, and set where whole datagrams leave, as Linux
/// does (`IP_PMTUDISC_WANT`).
pub fn cut(datagram: &[u8], mtu: usize, id: u32, mut send: impl FnMut(&[u8]) -> Verdict) -> Verdict {
    let mut verdict = Verdict::Delivered;
    let done = fragment::cut(datagram, mtu, id, |piece| {
        if verdict == Verdict::Delivered {
            verdict = send(piece);
        }
    });
    match done {
        Ok(()) => verdict,
        Err(fragment::Uncut::Malformed) => Verdict::Malformed,
        Err(fragment::Uncut::NoRoom) => Verdict::TooBig,
    }
}
