//! ICMP errors: RFC 792, RFC 1812 section 4.3, RFC 4443, as Linux's `icmp_send` and `icmp6_send` build them.

use vnet_tables::Address;

use super::Speaker;
use super::answer::{self, label};
use super::options::{self, Writer};
use super::wire::{HEADER4, HEADER6, addresses, checksum, half, is_six, length6, octets6, protocol, pseudo, put};

/// Most bytes of an IPv4 error: RFC 1812 section 4.3.2.3.
const LARGEST4: usize = 576;
/// The smallest MTU of IPv6, and most bytes of an error: RFC 8200 section 5, RFC 4443 section 2.4 (c).
const LEAST6: usize = 1280;
/// Bytes of an ICMP header.
const HEADER: usize = 8;

/// Precedence of internetwork control, RFC 791 section 3.1, which errors bear (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// The bits of the offender's type of service that an error keeps.
const SERVICE: u8 = 0x1e;

/// What an ICMP error is about; each for both families but where said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// TTL or hop limit ran out: 11/0, ICMPv6 3/0.
    TimeExceeded,
    /// Not all fragments came in time: 11/1, ICMPv6 3/1.
    ReassemblyTimeExceeded,
    /// No route: 3/0, ICMPv6 1/0.
    NetUnreachable,
    /// A route that says unreachable: 3/1, ICMPv6 1/0.
    UnreachableRoute,
    /// Nobody on the last network has the address: 3/1, ICMPv6 1/3.
    HostUnreachable,
    /// Nothing behind this protocol: 3/2; ICMPv6 4/1, which points at the byte that names it.
    ProtocolUnreachable(u32),
    /// Nothing behind this port: 3/3, ICMPv6 1/4.
    PortUnreachable,
    /// A route that forbids: 3/13, ICMPv6 1/1.
    Prohibited,
    /// A filter that forbids, and says so: as [`Trouble::Prohibited`], but no route's limit counts it.
    Filtered,
    /// Too big for the next link, whose MTU this is, in bytes of IP: 3/4, ICMPv6 2/0.
    TooBig(u32),
    /// A byte of the header is at fault: 12/code, ICMPv6 4/code.
    Parameter {
        /// The message's code.
        code: u8,
        /// Which byte.
        pointer: u32,
    },
    /// IPv6 alone: a link-local source that would have to leave its link: 1/2.
    BeyondScope,
}

impl Trouble {
    /// IPv4: type, code, and the four bytes behind the checksum.
    pub(super) fn icmp4(self) -> Option<(u8, u8, u32)> {
        Some(match self {
            Self::TimeExceeded => (11, 0, 0),
            Self::ReassemblyTimeExceeded => (11, 1, 0),
            Self::NetUnreachable => (3, 0, 0),
            Self::UnreachableRoute | Self::HostUnreachable => (3, 1, 0),
            Self::ProtocolUnreachable(_) => (3, 2, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::Prohibited | Self::Filtered => (3, 13, 0),
            Self::TooBig(mtu) => (3, 4, mtu),
            Self::Parameter { code, pointer } => (12, code, pointer << 24),
            Self::BeyondScope => return None,
        })
    }

    /// IPv6: type, code, and the four bytes behind the checksum.
    pub(super) fn icmp6(self) -> (u8, u8, u32) {
        match self {
            Self::TimeExceeded => (3, 0, 0),
            Self::ReassemblyTimeExceeded => (3, 1, 0),
            Self::NetUnreachable | Self::UnreachableRoute => (1, 0, 0),
            Self::HostUnreachable => (1, 3, 0),
            Self::ProtocolUnreachable(pointer) => (4, 1, pointer),
            Self::PortUnreachable => (1, 4, 0),
            Self::Prohibited | Self::Filtered => (1, 1, 0),
            Self::TooBig(mtu) => (2, 0, mtu.max(LEAST6 as u32)),
            Self::Parameter { code, pointer } => (4, code, pointer),
            Self::BeyondScope => (1, 2, 0),
        }
    }
}

/// Writes the error about `offender` into `out`, as Linux builds it.
///
/// `offender` is as the router received it, with TTL and options of that moment; what a router writes into options on
/// arrival is written into the quote here. `mine` says which IPv4 addresses are the router's own, or broadcasts of its
/// networks: a timestamp at prespecified addresses asks for that. Rules ([`may_answer`](super::may_answer)) and
/// [`Limits`](super::Limits) are the caller's.
///
/// Returns false, with nothing in `out`, where Linux sends nothing: where the offender's options leave no room for an
/// answer's, or no header can be read.
pub fn error(
    out: &mut Vec<u8>,
    trouble: Trouble,
    offender: &[u8],
    speaker: &Speaker,
    mine: &dyn Fn(u32) -> bool,
) -> bool {
    out.clear();
    let done = if is_six(offender) {
        error6(out, trouble, offender, speaker)
    } else {
        error4(out, trouble, offender, speaker, mine)
    };
    if done.is_none() {
        out.clear();
    }
    done.is_some()
}

fn error4(
    out: &mut Vec<u8>,
    trouble: Trouble,
    offender: &[u8],
    speaker: &Speaker,
    mine: &dyn Fn(u32) -> bool,
) -> Option<()> {
    let (kind, code, rest) = trouble.icmp4()?;
    let (Address::V4(from), (Address::V4(source), _)) = (speaker.from, addresses(offender)?) else { return None };
    let header = usize::from(offender[0] & 15) * 4;
    let total = usize::from(half(offender, 2)?).min(offender.len());
    let mut written = [0; 60];
    let written = written.get_mut(..header).filter(|_| header >= HEADER4)?;
    written.copy_from_slice(offender.get(..header)?);
    let mut echoed = [0; 40];
    let mut options = 0;
    if header > HEADER4 {
        let writer = Writer { here: from, today: speaker.today, mine };
        let (found, done) = options::compile(written, Some(&writer));
        // What comes to grief over its options is about them.
        if done.is_err() && !matches!(trouble, Trouble::Parameter { .. }) {
            return None;
        }
        options = options::echo(&mut echoed, written, &found, &writer)?;
    }
    let room = LARGEST4.min(speaker.mtu).checked_sub(HEADER4 + options + HEADER)?;
    if room <= HEADER4 {
        return None;
    }
    let service = offender[1] & SERVICE | INTERNETWORK_CONTROL;
    let quoted = total.min(room);
    answer::header4(out, service, speaker.ident, (from, source), &echoed[..options], protocol::ICMP, HEADER + quoted);
    let start = out.len();
    out.extend_from_slice(&[kind, code, 0, 0]);
    out.extend_from_slice(&rest.to_be_bytes());
    let of_header = quoted.min(header);
    out.extend_from_slice(&written[..of_header]);
    out.extend_from_slice(&offender[of_header..quoted]);
    let sum = checksum(&[&out[start..]]);
    put(out, start + 2, &sum);
    Some(())
}

fn error6(out: &mut Vec<u8>, trouble: Trouble, offender: &[u8], speaker: &Speaker) -> Option<()> {
    let (kind, code, rest) = trouble.icmp6();
    let (Address::V6(from, from_low), (Address::V6(source, source_low), _)) = (speaker.from, addresses(offender)?)
    else {
        return None;
    };
    let quoted = length6(offender)?.min(offender.len()).min(LEAST6 - HEADER6 - HEADER);
    let ends = (octets6(from, from_low), octets6(source, source_low));
    let flow = label(&ends, u32::from(kind) << 8 | u32::from(code));
    answer::header6(out, 0, flow, &ends, protocol::ICMP6, HEADER + quoted);
    out.extend_from_slice(&[kind, code, 0, 0]);
    out.extend_from_slice(&rest.to_be_bytes());
    out.extend_from_slice(&offender[..quoted]);
    let (head, count) = pseudo(out, protocol::ICMP6, HEADER + quoted);
    let sum = checksum(&[&head[..count], &out[HEADER6..]]);
    put(out, HEADER6 + 2, &sum);
    Some(())
}
