//! Checks of finished datagrams that share no code with what finishes them: one byte after the other.
#![allow(dead_code)] // Each test that includes this uses a part.

/// The one's complement sum of RFC 1071 section 4.1, in the order of the wire.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of a pseudo header: RFC 9293 section 3.1, RFC 8200 section 8.1.
pub fn pseudo(datagram: &[u8], protocol: u8, transport: usize) -> u16 {
    let addresses = if datagram[0] >> 4 == 4 { &datagram[12..20] } else { &datagram[8..40] };
    let mut header = addresses.to_vec();
    header.extend_from_slice(&((datagram.len() - transport) as u32).to_be_bytes());
    header.extend_from_slice(&[0, protocol]);
    sum(&header)
}

/// Two sums added; both forms of zero become the same.
pub fn add(left: u16, right: u16) -> u16 {
    ((u32::from(left) + u32::from(right)) % 0xffff) as u16
}

/// Whether an IPv4 header's length and checksum are right, or an IPv6 header's length.
pub fn has_right_header(datagram: &[u8]) -> bool {
    let number = |at: usize| usize::from(datagram[at]) << 8 | usize::from(datagram[at + 1]);
    if datagram[0] >> 4 == 6 {
        return number(4) + 40 == datagram.len();
    }
    number(2) == datagram.len() && sum(&datagram[..usize::from(datagram[0] & 15) * 4]) == 0xffff
}
