//! What rules written as a table look at: the ends of a datagram, its protocol and its ports.

/// An IPv6 extension header by its number, as far as one steps over it to find the transport's.
mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
}

fn is_extension(number: u8) -> bool {
    use extension::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};
    matches!(number, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// The ends of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// IPv4 source and destination, as numbers.
    V4(u32, u32),
    /// IPv6 source and destination, as numbers.
    V6(u128, u128),
}

/// What a datagram says of itself. What is cut off is not there, and no rule that asks for it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Where it comes from and goes to.
    pub ends: Ends,
    /// The protocol above IP, behind IPv6's extension headers.
    pub protocol: Option<u8>,
    /// The first two numbers of the transport's header: for TCP, UDP and SCTP the ports, source first. Fragments other than
    /// the first have none.
    pub ports: [Option<u16>; 2],
}

impl Digest {
    /// Reads a datagram; `None` where it has no whole fixed header of IPv4 or IPv6.
    #[inline]
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match datagram.first()? >> 4 {
            4 => Self::of4(datagram),
            6 => Self::of6(datagram),
            _ => None,
        }
    }

    #[inline]
    fn of4(datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<20>()?;
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        // The fragment offset, RFC 791 section 3.1.
        let first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        let at = usize::from(header[0] & 15) * 4;
        Some(Self {
            ends: Ends::V4(word(12), word(16)),
            protocol: Some(header[9]),
            ports: if first { ports(datagram, at) } else { [None; 2] },
        })
    }

    #[inline]
    fn of6(datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<40>()?;
        let address = |at: usize| u128::from_be_bytes(core::array::from_fn(|byte| header[at + byte]));
        let (protocol, at) = transport6(datagram, header[6]);
        Some(Self {
            ends: Ends::V6(address(8), address(24)),
            protocol,
            ports: at.map_or([None; 2], |at| ports(datagram, at)),
        })
    }
}

/// The protocol behind the extension headers of an IPv6 datagram, and where its header begins if it is there: as nftables
/// finds it, to which an authentication header is a protocol, as it is over IPv4. Each step leads at least eight bytes on, so the datagram's length bounds them.
fn transport6(datagram: &[u8], mut next: u8) -> (Option<u8>, Option<usize>) {
    let mut at = 40;
    loop {
        let bytes = match next {
            // RFC 8200 section 4.
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                datagram.get(at + 1).map(|count| (usize::from(*count) + 1) * 8)
            }
            extension::FRAGMENT => {
                let Some(fragment) = datagram.get(at..at + 4) else { return (None, None) };
                if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
                    // What follows is the middle of something, which only the first fragment says more about.
                    return (Some(fragment[0]).filter(|next| !is_extension(*next)), None);
                }
                Some(8)
            }
            protocol => return (Some(protocol), Some(at)),
        };
        let (Some(bytes), Some(behind)) = (bytes, datagram.get(at)) else { return (None, None) };
        next = *behind;
        at += bytes;
    }
}

#[inline]
fn ports(datagram: &[u8], at: usize) -> [Option<u16>; 2] {
    if let Some(four) = datagram.get(at..at + 4) {
        return [Some(u16::from_be_bytes([four[0], four[1]])), Some(u16::from_be_bytes([four[2], four[3]]))];
    }
    [datagram.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]])), None]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn six(next: u8, behind: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        (bytes[0], bytes[6], bytes[23], bytes[39]) = (0x60, next, 1, 2);
        bytes.extend_from_slice(behind);
        bytes
    }

    #[test]
    fn the_transport_is_found_behind_extension_headers() {
        let found = |next, behind: &[u8]| Digest::of(&six(next, behind)).map(|digest| (digest.protocol, digest.ports));
        let udp = [0, 7, 0, 9, 0, 8, 0, 0];
        let (none, both) = ([None; 2], [Some(7), Some(9)]);
        assert_eq!(found(17, &udp), Some((Some(17), both)));
        let behind = |heads: &[&[u8]]| [heads.concat(), udp.to_vec()].concat();
        let options = [60, 0, 1, 4, 0, 0, 0, 0];
        let more = [17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(found(0, &behind(&[&options, &more])), Some((Some(17), both)));
        assert_eq!(found(44, &behind(&[&[17, 0, 0, 1, 0, 0, 0, 0]])), Some((Some(17), both)), "the first fragment");
        assert_eq!(found(44, &behind(&[&[17, 0, 0, 9, 0, 0, 0, 0]])), Some((Some(17), none)), "another");
        assert_eq!(found(51, &udp), Some((Some(51), both)), "what is authenticated is a protocol like any other");
        assert_eq!(found(59, &udp), Some((Some(59), both)), "and so is nothing");
        // Cut off in the middle of a header, or of the ports.
        assert_eq!(found(60, &[17]), Some((None, none)));
        assert_eq!(found(60, &[17, 200, 0, 0]), Some((Some(17), none)));
        assert_eq!(found(44, &[17, 0, 0]), Some((None, none)));
        assert_eq!(found(44, &[17, 0, 0, 1]), Some((Some(17), none)));
        assert_eq!(found(44, &[60, 0, 0, 9, 0, 0, 0, 0]), Some((None, none)), "more headers, in another fragment");
        assert_eq!(found(17, &[0, 7, 0]), Some((Some(17), [Some(7), None])));
    }

    #[test]
    fn a_datagram_of_nothing_but_extension_headers_ends() {
        let bytes = six(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(8000));
        assert_eq!(Digest::of(&bytes).map(|digest| digest.protocol), Some(None));
    }

    #[test]
    fn ports_of_ipv4_stand_behind_its_options_and_in_the_first_fragment() {
        let mut bytes =
            vec![0x46, 0, 0, 32, 0, 0, 0x20, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1, 0, 80, 0, 81];
        let found = Digest::of(&bytes).expect("a header");
        assert_eq!(found.ends, Ends::V4(0x0a00_0001, 0x0a00_0002));
        assert_eq!((found.protocol, found.ports), (Some(6), [Some(80), Some(81)]));
        bytes[7] = 1;
        assert_eq!(Digest::of(&bytes).map(|digest| digest.ports), Some([None; 2]));
        assert_eq!(Digest::of(&bytes[..19]), None);
        assert_eq!(Digest::of(&[]), None);
        assert_eq!(Digest::of(&[0x50; 60]), None);
    }
}
