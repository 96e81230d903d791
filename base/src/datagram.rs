//! Step 1 of `forward()`: what a datagram must have to be carried.

use vnet_tables::Address;

use crate::verdict::Verdict;

/// Most bytes of a datagram: the largest total length of IPv4 (RFC 791 section 3.1).
pub const LARGEST: usize = 65_535;

/// Bytes of a fixed IPv4 header, RFC 791 section 3.1.
pub(crate) const HEADER4: usize = 20;
/// Bytes of an IPv6 header, RFC 8200 section 3.
pub(crate) const HEADER6: usize = 40;

/// The destination of a datagram.
///
/// Only version, size and destination are looked at: a datagram with a wrong checksum, a lying length or an odd option
/// is carried as given, because people inject such datagrams on purpose.
///
/// # Errors
///
/// [`Verdict::TooBig`] over [`LARGEST`]; [`Verdict::Malformed`] for an unknown version or a fixed header that is cut off.
#[inline(always)]
pub fn destination(datagram: &[u8]) -> Result<Address, Verdict> {
    if datagram.len() > LARGEST {
        return Err(Verdict::TooBig);
    }
    match datagram.first().map(|byte| byte >> 4) {
        Some(4) if datagram.len() >= HEADER4 => {
            Ok(Address::V4(u32::from_be_bytes([datagram[16], datagram[17], datagram[18], datagram[19]])))
        }
        Some(6) if datagram.len() >= HEADER6 => {
            let half = |at: usize| datagram[at..at + 8].iter().fold(0, |half, byte| half << 8 | u64::from(*byte));
            Ok(Address::V6(half(24), half(32)))
        }
        _ => Err(Verdict::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_headers_and_unknown_versions_are_malformed() {
        let mut v4 = [0u8; HEADER4];
        v4[0] = 0x45;
        v4[16..].copy_from_slice(&[10, 0, 0, 2]);
        assert_eq!(destination(&v4), Ok(Address::V4(0x0a00_0002)));
        assert_eq!(destination(&v4[..19]), Err(Verdict::Malformed));
        assert_eq!(destination(&[]), Err(Verdict::Malformed));
        for version in (0..16u8).filter(|version| *version != 4 && *version != 6) {
            assert_eq!(destination(&[version << 4; 60]), Err(Verdict::Malformed), "version {version}");
        }
        assert_eq!(destination(&[0x60; 39]), Err(Verdict::Malformed));
        let mut v6 = [0u8; HEADER6];
        v6[0] = 0x60;
        v6[24..].copy_from_slice(&(1..=16).collect::<Vec<u8>>());
        assert_eq!(destination(&v6), Ok(Address::V6(0x0102_0304_0506_0708, 0x090a_0b0c_0d0e_0f10)));
    }

    #[test]
    fn one_byte_over_the_largest_is_too_big() {
        assert!(destination(&vec![0x45; LARGEST]).is_ok());
        assert_eq!(destination(&vec![0x45; LARGEST + 1]), Err(Verdict::TooBig));
    }
}
