//! When the next datagram of a flow is due.

/// How fast a flow sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many bits of IP a second.
    Bits(u64),
    /// So many datagrams in so many seconds.
    Datagrams(u64, u64),
}

/// The times at which a flow's datagrams are due, worked out from its beginning, so that no error adds up.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Rate,
    datagrams: u64,
    bits: u128,
}

impl Pace {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, datagrams: 0, bits: 0 }
    }

    /// Nanoseconds from the beginning until the next datagram is due.
    #[must_use]
    pub fn due(&self) -> u64 {
        let (what, rate) = match self.rate {
            Rate::Bits(rate) => (self.bits, u128::from(rate.max(1))),
            Rate::Datagrams(number, seconds) => {
                (u128::from(self.datagrams) * u128::from(seconds.max(1)), u128::from(number.max(1)))
            }
        };
        u64::try_from(what * 1_000_000_000 / rate).unwrap_or(u64::MAX / 4)
    }

    /// Counts a datagram of `size` bytes of IP.
    pub fn count(&mut self, size: usize) {
        self.datagrams += 1;
        self.bits += size as u128 * 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_to_the_nanosecond_over_an_hour() {
        let mut pace = Pace::new(Rate::Bits(10_000_000));
        for _ in 0..3_200_000 {
            pace.count(1406);
        }
        // 3.2 million datagrams of 1,406 bytes are 35.9936 Gbit, which takes 3,599.36 s at 10 Mbit/s.
        assert_eq!(pace.due(), 3_599_360_000_000);
        let mut pace = Pace::new(Rate::Datagrams(3, 1));
        for _ in 0..10 {
            pace.count(64);
        }
        assert_eq!(pace.due(), 3_333_333_333);
    }
}
