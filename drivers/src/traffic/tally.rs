//! What arrived of a flow.

use hdrhistogram::Histogram;

use super::datagram::Mark;

/// How far a number may be ahead of all before it; more is no datagram of ours. A set of numbers this large takes 2 MiB.
const AHEAD: u32 = 1 << 24;

/// The numbers of a flow that came.
#[derive(Default)]
struct Seen {
    words: Vec<u64>,
}

impl Seen {
    /// False when the number was here before.
    fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }
}

/// One flow as its receiver sees it; times in nanoseconds.
#[derive(Default)]
pub struct FlowTally {
    /// Datagrams, each number once; of TCP, 0.
    pub received: u64,
    /// Bytes: of IP for UDP, duplicates left out; of the stream for TCP.
    pub bytes: u64,
    /// Datagrams that came once more.
    pub duplicates: u64,
    /// Datagrams that came after one with a higher number.
    pub out_of_order: u64,
    /// Smoothed deviation of the spacing of arrivals from that of departures: RFC 3550 section 6.4.1.
    pub jitter: f64,
    /// Sum of the latencies.
    pub latency: u128,
    /// The first arrival, 0 before it.
    pub first: u64,
    /// The last arrival.
    pub last: u64,
    seen: Seen,
    highest: Option<u32>,
    transit: Option<i128>,
}

impl FlowTally {
    /// Takes a datagram of `size` bytes of IP that came at `now`, and returns its latency; `None` when it came before, or
    /// cannot be of this flow.
    pub fn take(&mut self, mark: &Mark, size: usize, now: u64) -> Option<u64> {
        if mark.number > self.highest.map_or(0, |highest| highest).saturating_add(AHEAD) {
            return None;
        }
        if !self.seen.insert(mark.number) {
            self.duplicates += 1;
            return None;
        }
        match self.highest {
            Some(highest) if mark.number < highest => self.out_of_order += 1,
            _ => self.highest = Some(mark.number),
        }
        self.arrive(size, now);
        self.received += 1;
        let transit = i128::from(now) - i128::from(mark.departure);
        if let Some(before) = self.transit.replace(transit) {
            self.jitter += ((transit - before).unsigned_abs() as f64 - self.jitter) / 16.0;
        }
        let latency = u64::try_from(transit).unwrap_or(0);
        self.latency += u128::from(latency);
        Some(latency)
    }

    /// Counts bytes that came at `now`.
    pub fn arrive(&mut self, bytes: usize, now: u64) {
        self.bytes += bytes as u64;
        if self.first == 0 {
            self.first = now;
        }
        self.last = now;
    }
}

/// All flows of a sink, and the latencies of all their datagrams together.
pub struct Tally {
    /// By the order in which they were announced.
    pub flows: Vec<FlowTally>,
    /// Nanoseconds, to three digits.
    pub latencies: Histogram<u64>,
    /// Shortest and longest, exactly.
    pub extremes: Option<(u64, u64)>,
    /// Whether the sink has its port: what is sent before is lost.
    pub ready: bool,
    /// Why the sink could not begin, or ended early.
    pub failure: Option<String>,
}

impl Tally {
    /// Nothing came yet of so many flows.
    ///
    /// # Panics
    ///
    /// Never: three digits are allowed.
    #[must_use]
    pub fn new(flows: usize) -> Self {
        Self {
            flows: (0..flows).map(|_| FlowTally::default()).collect(),
            latencies: Histogram::new(3).expect("3 is between 0 and 5"),
            extremes: None,
            ready: false,
            failure: None,
        }
    }

    /// Counts a latency.
    pub fn note(&mut self, latency: u64) {
        // It grows to hold any number; only the memory for that could be missing.
        let _ = self.latencies.record(latency);
        let (low, high) = self.extremes.unwrap_or((latency, latency));
        self.extremes = Some((low.min(latency), high.max(latency)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u32, departure: u64) -> Mark {
        Mark { flow: 0, number, departure }
    }

    #[test]
    fn what_comes_late_twice_or_never_is_told_apart() {
        let mut tally = FlowTally::default();
        for number in [0, 1, 3, 2, 2, 3, 7, 5] {
            tally.take(&mark(number, 0), 100, 10);
        }
        assert_eq!((tally.received, tally.duplicates, tally.out_of_order, tally.bytes), (6, 2, 2, 600));
    }

    #[test]
    fn jitter_is_that_of_the_formula() {
        // RFC 3550, appendix A.8, in plain numbers: J += (|D| - J) / 16.
        let (departures, arrivals) = ([0u64, 20, 40, 60, 80], [5u64, 27, 44, 70, 81]);
        let mut expected = 0.0;
        for index in 1..5 {
            let spacing = |times: [u64; 5]| times[index] as f64 - times[index - 1] as f64;
            expected += ((spacing(arrivals) - spacing(departures)).abs() - expected) / 16.0;
        }
        let mut tally = FlowTally::default();
        for index in 0..5 {
            tally.take(&mark(index as u32, departures[index]), 100, arrivals[index]);
        }
        assert!((tally.jitter - expected).abs() < 1e-9, "{} {expected}", tally.jitter);
        assert_eq!(tally.latency, 5 + 7 + 4 + 10 + 1);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list_to_three_digits() {
        let mut tally = Tally::new(1);
        let mut latencies: Vec<u64> = (0..10_000u64).map(|n| (n * n * 7919) % 5_000_000_011).collect();
        latencies.iter().for_each(|latency| tally.note(*latency));
        latencies.sort_unstable();
        for share in [0.001, 0.5, 0.9, 0.99, 1.0] {
            let exact = latencies[((share * 10_000.0) as usize).max(1) - 1] as f64;
            let found = tally.latencies.value_at_quantile(share) as f64;
            assert!((found - exact).abs() <= exact / 1000.0 + 1.0, "{share}: {found} {exact}");
        }
        assert_eq!(tally.extremes, Some((latencies[0], latencies[9_999])));
    }

    #[test]
    fn numbers_from_nowhere_take_no_memory() {
        let mut tally = FlowTally::default();
        assert_eq!(tally.take(&mark(u32::MAX, 0), 100, 10), None);
        assert_eq!(tally.received, 0);
        assert!(tally.seen.words.is_empty());
    }
}
