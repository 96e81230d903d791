//! Rules written as a table: sets of addresses, protocols and ports, all of which a datagram must be in.

use super::digest::{Digest, Ends};

/// A number of which there are ranges.
pub trait Number: Copy + Ord {
    /// The next one, if there is one.
    fn next(self) -> Option<Self>;
}

impl Number for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Number for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// A set of numbers: where it is entered and left, in turn, in growing order. It is not left behind the last number of all.
///
/// ```text
///   { 3, 4, 5, 9 }   =   [3, 6, 9, 10]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set<N>(Box<[N]>);

impl<N: Number> Set<N> {
    /// The set of all that is in any of `ranges`, given by their first and last numbers.
    pub fn of(ranges: impl IntoIterator<Item = (N, N)>) -> Self {
        let mut ranges: Vec<(N, N)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        let mut edges = Vec::with_capacity(ranges.len() * 2);
        for (first, last) in ranges {
            // What ends behind the last number of all takes in whatever comes.
            if edges.len() % 2 == 1 {
                break;
            }
            match edges.last().copied() {
                Some(end) if first <= end => {
                    edges.pop();
                    edges.extend(last.next().map(|after| after.max(end)));
                }
                _ => {
                    edges.push(first);
                    edges.extend(last.next());
                }
            }
        }
        Self(edges.into())
    }

    /// A set as [`Set::edges`] gave it; `None` where these are none.
    #[must_use]
    pub fn from_edges(edges: Vec<N>) -> Option<Self> {
        edges.is_sorted_by(|one, other| one < other).then(|| Self(edges.into()))
    }

    /// Where it is entered and left.
    #[must_use]
    pub fn edges(&self) -> &[N] {
        &self.0
    }

    /// Whether a number is in it.
    #[inline]
    #[must_use]
    pub fn has(&self, number: N) -> bool {
        match *self.0 {
            // One range is what most rules have.
            [first, end] => first <= number && number < end,
            _ => self.0.partition_point(|edge| *edge <= number) % 2 == 1,
        }
    }
}

/// Addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Those of IPv4.
    pub v4: Set<u32>,
    /// Those of IPv6.
    pub v6: Set<u128>,
}

/// IP protocols, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols(pub [u32; 8]);

impl Protocols {
    /// Those of a list.
    #[must_use]
    pub fn of(numbers: &[u8]) -> Self {
        let mut bits = [0; 8];
        for number in numbers {
            bits[usize::from(number >> 5)] |= 1 << (number & 31);
        }
        Self(bits)
    }

    #[inline]
    fn has(&self, number: u8) -> bool {
        self.0[usize::from(number >> 5)] >> (number & 31) & 1 == 1
    }
}

/// What a datagram must be for a rule to match. What is not asked for is anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Where it comes from.
    pub from: Option<Addresses>,
    /// Where it goes to.
    pub to: Option<Addresses>,
    /// What IP carries.
    pub protocols: Option<Protocols>,
    /// The port that it comes from.
    pub from_ports: Option<Set<u32>>,
    /// The port that it goes to.
    pub ports: Option<Set<u32>>,
}

impl Table {
    /// Whether a datagram is all that is asked for.
    #[inline]
    #[must_use]
    pub fn matches(&self, digest: &Digest) -> bool {
        // What is quick and tells most apart comes first.
        if let Some(protocols) = &self.protocols
            && !digest.protocol.is_some_and(|number| protocols.has(number))
        {
            return false;
        }
        let port = |asked: &Option<Set<u32>>, found: Option<u16>| {
            asked.as_ref().is_none_or(|set| found.is_some_and(|port| set.has(u32::from(port))))
        };
        if !port(&self.ports, digest.ports[1]) || !port(&self.from_ports, digest.ports[0]) {
            return false;
        }
        match digest.ends {
            Ends::V4(from, to) => {
                self.from.as_ref().is_none_or(|addresses| addresses.v4.has(from))
                    && self.to.as_ref().is_none_or(|addresses| addresses.v4.has(to))
            }
            Ends::V6(from, to) => {
                self.from.as_ref().is_none_or(|addresses| addresses.v6.has(from))
                    && self.to.as_ref().is_none_or(|addresses| addresses.v6.has(to))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_any_of_its_ranges_has() {
        for number in 0..20u32 {
            let ranges = [(3, 5), (9, 9), (4, 7), (8, 8), (15, 12)];
            let expected = ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
            assert_eq!(Set::of(ranges).has(number), expected, "{number}");
        }
        assert_eq!(Set::of([(3u32, 5), (9, 9)]).edges(), [3, 6, 9, 10]);
        assert_eq!(Set::of([(9u32, 9), (3, 8)]).edges(), [3, 10], "what touches is one range");
        assert_eq!(Set::<u32>::of([]).edges(), []);
        assert!(!Set::<u32>::of([]).has(0));
    }

    #[test]
    fn a_set_reaches_to_the_last_number_of_all() {
        let set = Set::of([(u128::MAX, u128::MAX), (5, 6), (9, u128::MAX)]);
        assert_eq!(set.edges(), [5, 7, 9]);
        assert!(set.has(u128::MAX) && set.has(9) && !set.has(8) && !set.has(7) && set.has(6));
        assert_eq!(Set::of([(0, u32::MAX), (3, 4)]).edges(), [0]);
    }

    #[test]
    fn edges_that_do_not_grow_are_no_set() {
        assert!(Set::from_edges(vec![1u32, 2, 2]).is_none());
        assert!(Set::from_edges(vec![2u32, 1]).is_none());
        assert!(Set::<u32>::from_edges(vec![]).is_some());
    }
}
