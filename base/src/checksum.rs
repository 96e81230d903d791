//! The Internet checksum, RFC 1071.
//!
//! Sums are kept in the byte order of the machine and unfolded: the one's complement sum of 16-bit words does not care
//! for byte order (RFC 1071 section 2(B)) nor for when carries are added (2(C)), so words of 32 bits are as good.

/// Bytes that are summed at once, in lanes that carry nothing to each other: what lets the compiler use vectors.
const CHUNK: usize = 64;
const LANES: usize = CHUNK / 4;

/// The one's complement sum of 16-bit words, to be given to [`fold`] after all parts were added with `+`.
///
/// A last odd byte counts as if a zero followed it, so only the last part of a sum may be odd. One call adds less than
/// 2^48 for anything up to 256 KiB: thousands of parts fit into the 64 bits.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<CHUNK>();
    let mut lanes = [0u64; LANES];
    for chunk in chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, tail) = rest.as_chunks::<4>();
    let whole = words.iter().fold(0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)));
    let mut last = [0u8; 4];
    last[..tail.len()].copy_from_slice(tail);
    lanes.iter().sum::<u64>() + whole + u64::from(u32::from_ne_bytes(last))
}

/// A sum in 16 bits, in the byte order of the machine: to be stored with `to_ne_bytes`. Its complement is the checksum.
#[must_use]
#[inline]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RFC 1071 section 4.1 has it: 16-bit words one after another, carries at the end.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn sums_of_every_length_equal_the_plain_loop_of_rfc_1071() {
        let mut state = 1u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(65_600)
        .collect();
        for length in (0..600).chain([1_447, 1_448, 65_535, 65_536]) {
            for start in [0, 1, 7] {
                let part = &bytes[start..start + length];
                assert_eq!(fold(sum(part)).to_ne_bytes(), plain(part).to_be_bytes(), "{length} bytes from {start}");
            }
        }
    }

    #[test]
    fn the_example_of_rfc_1071_has_the_sum_that_it_states() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn no_carry_is_lost_where_every_bit_is_set() {
        assert_eq!(fold(sum(&[0xff; 65_536])), 0xffff);
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0xffff_ffff_ffff_0001), 1);
        assert_eq!(fold(0), 0);
    }
}
