//! Pieces become datagrams: RFC 791 and RFC 815, RFC 8200 section 4.5 with RFC 5722 and RFC 6946.
//!
//! Each datagram of which pieces have come has a buffer as long as the furthest of them reaches, and a list of what is
//! there. Both are bounded, by what a datagram can be; the number of datagrams is, and the oldest makes room. While none
//! is begun, a reassembler takes no memory.
//!
//! A piece that lies in what is there already is a duplicate and changes nothing. One that overlaps it in part ends the
//! whole datagram: which of the two is true nobody can know, and taking either has let attackers past filters (RFC 5722;
//! Linux does so for IPv4 too).

use super::{FRAGMENT, Key, Kind, Piece};
use crate::checksum::{fold, sum};

/// How long the pieces of an IPv4 datagram wait for the rest, in nanoseconds from the first that came: Linux's
/// `ipfrag_time`, the middle of what RFC 1122 section 3.3.2 asks to be chosen.
pub const LIFE4: u64 = 30_000_000_000;

/// As [`LIFE4`], of an IPv6 datagram: RFC 8200 section 4.5.
pub const LIFE6: u64 = 60_000_000_000;

/// Most datagrams that may be incomplete at a time: with 65,535 bytes each, 4 MiB, Linux's `ipfrag_high_thresh`; in the
/// tiniest of pieces, half as much again for the lists of them.
pub const MOST: usize = 64;

/// The furthest that the data of a datagram reaches: RFC 791, RFC 8200 section 4.5.
const FURTHEST: usize = 65_535;

/// What is wrong with an IPv6 fragment, for an ICMPv6 Parameter Problem (RFC 4443 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The message's code.
    pub code: u8,
    /// Which byte of the fragment is wrong.
    pub pointer: u32,
}

impl Problem {
    /// The first fragment does not hold all headers: RFC 8200 section 4.5, RFC 7112.
    pub(super) const HEADERS_CUT: Self = Self { code: 3, pointer: 0 };

    /// The field at this byte cannot be.
    pub(super) const fn field(at: usize) -> Self {
        Self { code: 0, pointer: at as u32 }
    }
}

/// What became of a datagram that was handed to a reassembler.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is no fragment, and the caller's as it is.
    Whole,
    /// The last piece that was missing: the datagram.
    Completed(Vec<u8>),
    /// Kept until others come, or dropped.
    Nothing,
    /// Dropped, and its sender is to hear of it.
    Wrong(Problem),
}

/// What a reassembler has done, by the names of RFC 4293.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Fragments that came.
    pub reasm_reqds: u64,
    /// Datagrams that became whole.
    pub reasm_oks: u64,
    /// Datagrams given up: late, contradictory, or pushed out by others.
    pub reasm_fails: u64,
}

/// A datagram of which pieces have come.
struct Pending {
    key: Key,
    deadline: u64,
    data: Vec<u8>,
    runs: Runs,
    /// Bytes of data that are there.
    came: usize,
    /// Bytes of data as far as is known, and whether that is all.
    length: usize,
    ended: bool,
    /// What stood before the data of the first piece, and how much data that had.
    first: Option<(Box<[u8]>, usize)>,
    congestion: u8,
    /// Bytes of the largest piece, and of the largest that was not to be cut: RFC 791 has none, and Linux remembers it.
    largest: usize,
    largest_whole: usize,
}

/// Makes datagrams of fragments.
#[derive(Default)]
pub struct Reassembler {
    /// The oldest first.
    pending: Vec<Pending>,
    tally: Tally,
}

/// How a piece lies among others.
#[derive(Debug, PartialEq, Eq)]
enum Lies {
    Apart,
    Within,
    Across,
}

/// What is there of a datagram: ranges, in order, that do not overlap. A piece that comes right behind the last range is
/// put to it; as in Linux, others are not joined, so what covers two of them is no duplicate.
#[derive(Default)]
struct Runs(Vec<(u16, u16)>);

impl Runs {
    fn add(&mut self, start: usize, end: usize) -> Lies {
        // Neither is over FURTHEST.
        let (start, end) = (start as u16, end as u16);
        match self.0.last_mut() {
            Some(last) if end > last.1 => {
                if start < last.1 {
                    return Lies::Across;
                }
                if start == last.1 {
                    last.1 = end;
                } else {
                    self.0.push((start, end));
                }
                return Lies::Apart;
            }
            Some(_) => {}
            None => {
                self.0.push((start, end));
                return Lies::Apart;
            }
        }
        // The first that ends behind our start is the only one that we may lie in.
        let at = self.0.partition_point(|run| run.1 <= start);
        match self.0.get(at) {
            Some(run) if run.0 >= end => {
                self.0.insert(at, (start, end));
                Lies::Apart
            }
            Some(run) if run.0 <= start && end <= run.1 => Lies::Within,
            _ => Lies::Across,
        }
    }
}

impl Reassembler {
    /// Takes a datagram that came, of any kind. `now` in nanoseconds.
    pub fn take(&mut self, datagram: &[u8], now: u64) -> Taken {
        let kind = Kind::of(datagram);
        self.tally.reasm_reqds += u64::from(kind != Kind::Whole);
        let piece = match kind {
            Kind::Whole => return Taken::Whole,
            Kind::Damaged => return Taken::Nothing,
            Kind::Wrong(problem) => return Taken::Wrong(problem),
            Kind::Atomic { at, named_at } => return without_header(datagram, at, named_at),
            Kind::Piece(piece) => piece,
        };
        let found = self.pending.iter().rposition(|pending| pending.key == piece.key);
        let index = found.unwrap_or_else(|| self.begin(piece.key, now));
        match self.pending[index].add(&piece) {
            None => Taken::Nothing,
            Some(false) => {
                self.give_up(index);
                Taken::Nothing
            }
            Some(true) => match self.remove(index).complete() {
                Some(whole) => {
                    self.tally.reasm_oks += 1;
                    Taken::Completed(whole)
                }
                None => {
                    self.tally.reasm_fails += 1;
                    Taken::Nothing
                }
            },
        }
    }

    fn begin(&mut self, key: Key, now: u64) -> usize {
        if self.pending.len() == MOST {
            self.give_up(0);
        }
        let life = if key.version == 4 { LIFE4 } else { LIFE6 };
        self.pending.push(Pending {
            key,
            deadline: now.saturating_add(life),
            data: Vec::new(),
            runs: Runs::default(),
            came: 0,
            length: 0,
            ended: false,
            first: None,
            congestion: 0,
            largest: 0,
            largest_whole: 0,
        });
        self.pending.len() - 1
    }

    fn give_up(&mut self, index: usize) {
        self.remove(index);
        self.tally.reasm_fails += 1;
    }

    fn remove(&mut self, index: usize) -> Pending {
        let pending = self.pending.remove(index);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        pending
    }

    /// Gives up what is overdue. `tell` hears of each whose first fragment came: that fragment, up to as many bytes of its
    /// data as an ICMP error quotes.
    pub fn expire(&mut self, now: u64, mut tell: impl FnMut(&[u8])) {
        while let Some(index) = self.pending.iter().position(|pending| pending.deadline <= now) {
            if let Some((head, length)) = &self.pending[index].first {
                let quoted = &self.pending[index].data[..(*length).min(QUOTED)];
                tell(&[head, quoted].concat());
            }
            self.give_up(index);
        }
    }

    /// When [`Reassembler::expire`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    /// What was done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Bytes of memory that incomplete datagrams take.
    #[must_use]
    pub fn memory(&self) -> usize {
        let held = |pending: &Pending| {
            let head = pending.first.as_ref().map_or(0, |(head, _)| head.len());
            pending.data.capacity() + pending.runs.0.capacity() * size_of::<(u16, u16)>() + head
        };
        self.pending.iter().map(held).sum::<usize>() + self.pending.capacity() * size_of::<Pending>()
    }
}

/// Most bytes of data that an ICMP error quotes: RFC 4443 section 3.1.
const QUOTED: usize = 1280;

impl Pending {
    /// Takes a piece. `Some(true)`: it was the last one missing; `Some(false)`: the datagram cannot become whole.
    fn add(&mut self, piece: &Piece<'_>) -> Option<bool> {
        let (start, end) = (piece.offset, piece.offset + piece.data.len());
        let contradicts = match (piece.more, self.ended) {
            (false, true) => end != self.length,
            (false, false) => end < self.length,
            (true, true) => end > self.length,
            (true, false) => false,
        };
        if contradicts || start == end || end > FURTHEST {
            return Some(false);
        }
        // Before the look at what is there, as in Linux: also a duplicate may say where the end is.
        self.ended |= !piece.more;
        self.length = self.length.max(end);
        match self.runs.add(start, end) {
            Lies::Across => return Some(false),
            Lies::Within => return None,
            Lies::Apart => {}
        }
        if self.data.len() < end {
            // As long as it is known to be: pieces mostly come in order, or the last one first.
            self.data.reserve_exact(if self.ended { self.length } else { grown(end) } - self.data.len());
            self.data.resize(end, 0);
        }
        self.data[start..end].copy_from_slice(piece.data);
        self.came += piece.data.len();
        self.congestion |= piece.congestion;
        let bytes = piece.head.len() + piece.data.len();
        self.largest = self.largest.max(bytes);
        if piece.whole {
            self.largest_whole = self.largest_whole.max(bytes);
        }
        if start == 0 {
            self.first = Some((piece.head.into(), piece.data.len()));
        }
        (self.ended && self.first.is_some() && self.came == self.length).then_some(true)
    }

    /// The datagram, of which all is there; `None` where it cannot be one.
    fn complete(self) -> Option<Vec<u8>> {
        let (head, _) = self.first?;
        let congestion = congestion(self.congestion)?;
        if self.key.version == 4 {
            let total = u16::try_from(head.len() + self.length).ok()?;
            let mut datagram = before(self.data, &head);
            datagram[1] |= congestion;
            datagram[2..4].copy_from_slice(&total.to_be_bytes());
            datagram[6..8].copy_from_slice(&if self.largest_whole == self.largest { [0x40, 0] } else { [0, 0] });
            datagram[10..12].fill(0);
            let sum = !fold(sum(&datagram[..head.len()]));
            datagram[10..12].copy_from_slice(&sum.to_ne_bytes());
            return Some(datagram);
        }
        let (head, header) = head.split_at(head.len() - 8);
        let payload = u16::try_from(head.len() - 40 + self.length).ok()?;
        let (_, named_at) = super::fragment_header(&[head, header].concat())?;
        let mut datagram = before(self.data, head);
        datagram[named_at] = header[0];
        datagram[4..6].copy_from_slice(&payload.to_be_bytes());
        datagram[1] |= congestion << 4;
        Some(datagram)
    }
}

/// How many bytes to make room for where so many are needed and more will come.
fn grown(needed: usize) -> usize {
    needed.next_power_of_two().min(FURTHEST)
}

/// The data behind its head.
fn before(mut data: Vec<u8>, head: &[u8]) -> Vec<u8> {
    data.splice(..0, head.iter().copied());
    data
}

/// What to add to the bits for congestion of a datagram whose pieces had these, one bit for each of the four: RFC 3168
/// section 5.3. `None`: they contradict one another.
fn congestion(seen: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1;
    const CE: u8 = 1 << 3;
    if seen & NOT_ECT != 0 && seen != NOT_ECT {
        return None;
    }
    Some(if seen & CE != 0 { 3 } else { 0 })
}

/// An atomic fragment as the datagram that it is: RFC 6946 section 4.
fn without_header(datagram: &[u8], at: usize, named_at: usize) -> Taken {
    let next = datagram[at];
    let payload = u16::from_be_bytes([datagram[4], datagram[5]]);
    if next == FRAGMENT {
        return Taken::Wrong(Problem::field(at + 8));
    }
    let mut whole = datagram.to_vec();
    whole[named_at] = next;
    whole[4..6].copy_from_slice(&(payload - 8).to_be_bytes());
    whole.drain(at..at + 8);
    Taken::Completed(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_told_apart_from_duplicates_and_overlaps() {
        let mut runs = Runs::default();
        let mut add = |start: usize, end: usize| runs.add(start, end);
        assert_eq!(add(16, 24), Lies::Apart);
        assert_eq!(add(24, 32), Lies::Apart);
        assert_eq!(add(0, 8), Lies::Apart);
        // Two pieces that follow on one another: one range.
        assert_eq!(add(16, 32), Lies::Within);
        assert_eq!(add(20, 28), Lies::Within);
        assert_eq!(add(0, 8), Lies::Within);
        assert_eq!(add(0, 16), Lies::Across);
        assert_eq!(add(8, 17), Lies::Across);
        assert_eq!(add(0, 32), Lies::Across);
        assert_eq!(add(31, 40), Lies::Across);
        assert_eq!(add(8, 16), Lies::Apart);
        assert_eq!(add(32, 33), Lies::Apart);
        assert_eq!(add(8, 32), Lies::Across);
    }

    #[test]
    fn congestion_is_kept_and_contradictions_are_not() {
        // By the number of the two bits: 0 not capable, 1 and 2 capable, 3 met congestion.
        let of = |seen: &[u8]| congestion(seen.iter().fold(0, |bits, number| bits | 1 << number));
        assert_eq!(of(&[0]), Some(0));
        assert_eq!(of(&[1, 2]), Some(0));
        assert_eq!(of(&[1, 3]), Some(3));
        assert_eq!(of(&[3]), Some(3));
        for others in [&[0, 1][..], &[0, 2], &[0, 3], &[0, 1, 2, 3]] {
            assert_eq!(of(others), None);
        }
    }
}
