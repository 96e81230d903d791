//! What the two families' addresses have in common: bits from the left.

use core::fmt::Debug;

use super::words::Head;

/// An address of either family, first bit highest.
pub(crate) trait Bits: Copy + Ord + Debug {
    /// Bits of an address.
    const WIDTH: u32;
    /// The header words of the family.
    const HEAD: Head;
    /// Whether the nodes below an array are direct: for IPv4 most look-ups end there, and a line less to go through
    /// is worth the room; for IPv6 most go on.
    const DIRECT: bool;
    /// All zeros.
    const ZERO: Self;

    /// `count` bits from bit `depth` on, as a number; bits past the end are zeros.
    fn chunk(self, depth: u32, count: u32) -> usize;
    /// The address with all bits from `length` on cleared.
    fn masked(self, length: u32) -> Self;
    /// The address with all bits from `length` on set.
    fn filled(self, length: u32) -> Self;
    /// How many leading bits the two share.
    fn common(self, other: Self) -> u32;
    /// The address as the number that `bits` bits make.
    fn shifted(self, bits: u32) -> u128;
    /// The inverse of `shifted`, or nothing where the number needs more bits.
    fn unshifted(number: u128, bits: u32) -> Option<Self>;
}

macro_rules! bits {
    ($type:ty, $head:expr, $direct:expr) => {
        impl Bits for $type {
            const WIDTH: u32 = <$type>::BITS;
            const HEAD: Head = $head;
            const DIRECT: bool = $direct;
            const ZERO: Self = 0;

            #[inline(always)]
            fn chunk(self, depth: u32, count: u32) -> usize {
                // What is shifted in from the right are the zeros past the end.
                (self.unbounded_shl(depth) >> (Self::WIDTH - count)) as usize
            }

            fn masked(self, length: u32) -> Self {
                self & !<$type>::MAX.unbounded_shr(length)
            }

            fn filled(self, length: u32) -> Self {
                self | <$type>::MAX.unbounded_shr(length)
            }

            fn common(self, other: Self) -> u32 {
                (self ^ other).leading_zeros()
            }

            fn shifted(self, bits: u32) -> u128 {
                u128::from(self.unbounded_shr(Self::WIDTH - bits))
            }

            fn unshifted(number: u128, bits: u32) -> Option<Self> {
                let fits = number.unbounded_shr(bits) == 0;
                fits.then(|| (number as $type).unbounded_shl(Self::WIDTH - bits))
            }
        }
    };
}

bits!(u32, Head::V4, true);
bits!(u128, Head::V6, false);
