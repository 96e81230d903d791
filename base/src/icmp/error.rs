//! ICMP errors.

use super::Speaker;

/// What an ICMP error is about; each for both families but where said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// TTL or hop limit ran out: 11/0, ICMPv6 3/0.
    TimeExceeded,
    /// Not all fragments came in time: 11/1, ICMPv6 3/1.
    ReassemblyTimeExceeded,
    /// No route: 3/0, ICMPv6 1/0.
    NetUnreachable,
    /// A route that says unreachable, or nobody has the address: 3/1, ICMPv6 1/3 (address unreachable).
    HostUnreachable,
    /// Nothing behind this protocol: 3/2; ICMPv6 4/1 at the byte that names it (the pointer).
    ProtocolUnreachable(u32),
    /// Nothing behind this port: 3/3, ICMPv6 1/4.
    PortUnreachable,
    /// Forbidden: 3/13, ICMPv6 1/1.
    Prohibited,
    /// Too big for the next link, whose MTU this is, in bytes of IP: 3/4, ICMPv6 2/0.
    TooBig(u32),
    /// A byte of the header is at fault: 12/code, ICMPv6 4/code.
    Parameter {
        /// The message's code.
        code: u8,
        /// Which byte.
        pointer: u32,
    },
    /// IPv6: a link-local source that would have to leave its link: 1/2.
    BeyondScope,
}

/// Writes the error about `offender` into `out` as Linux builds it; `offender` is as the router received it.
pub fn error(out: &mut Vec<u8>, _trouble: Trouble, _offender: &[u8], _speaker: &Speaker) {
    out.clear();
}
