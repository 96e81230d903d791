//! Filters as words: how they lie in the routing segment and in images.
//!
//! ```text
//!  section   0 serial │ 1 count │ 2 (at, words) × count │ filters          at: from the section's beginning; 0, 0 for none
//!  filter    0 rules │ 1 otherwise │ 2 (judgement, kind, at, words) × rules │ bodies   at: from the filter's beginning
//!  body      EVERYTHING  nothing
//!            PROGRAM     `struct bpf_insn`s, two words each
//!            TABLE       0 asked │ 1 protocols ×8 │ 9 counts ×6 │ edges of the sets, one after the other
//!                        sets: from v4, from v6, to v4, to v6, from_ports, ports; an IPv6 edge is four words, the highest first
//! ```
//!
//! `serial` differs between any two sections that were published one after the other. What is read is copied before it is
//! looked at, and every number bounded: words may be damaged, or be replaced while they are read.

use super::machine::Program;
use super::table::{Addresses, Number, Protocols, Set, Table};
use super::{Filter, Judgement, Match, Rule};

const EVERYTHING: u32 = 0;
const PROGRAM: u32 = 1;
const TABLE: u32 = 2;

const FROM: u32 = 1;
const TO: u32 = 2;
const PROTOCOLS: u32 = 4;
const FROM_PORTS: u32 = 8;
const PORTS: u32 = 16;

const TABLE_HEAD: usize = 15;
const RULE_WORDS: usize = 4;

/// Most rules of a filter.
pub const MOST_RULES: usize = 65_536;

/// Most words of a filter: four megabytes, a quarter of the place that all filters have.
pub const MOST_WORDS: usize = 1 << 20;

/// The match of a rule, as it is written.
pub enum Draft<'d> {
    /// Every datagram.
    Everything,
    /// Whatever a program of classic BPF says a number other than 0 for; `struct bpf_insn`s one after the other.
    Program(&'d [u8]),
    /// Whatever is all that a table asks for.
    Table(Table),
}

/// Writes a filter: the judgements of its rules, and that of datagrams which none matches.
///
/// What is written is checked by reading it, [`Filter::read`].
#[must_use]
pub fn write(rules: &[(Judgement, Draft<'_>)], otherwise: Judgement) -> Vec<u32> {
    let mut words = vec![rules.len() as u32, otherwise as u32];
    words.resize(2 + rules.len() * RULE_WORDS, 0);
    for (index, (judgement, draft)) in rules.iter().enumerate() {
        let at = words.len();
        let kind = match draft {
            Draft::Everything => EVERYTHING,
            Draft::Program(bytes) => {
                let (chunks, _) = bytes.as_chunks::<4>();
                words.extend(chunks.iter().map(|chunk| u32::from_ne_bytes(*chunk)));
                PROGRAM
            }
            Draft::Table(table) => {
                write_table(&mut words, table);
                TABLE
            }
        };
        let count = (words.len() - at) as u32;
        let head = 2 + index * RULE_WORDS;
        words[head..head + RULE_WORDS].copy_from_slice(&[*judgement as u32, kind, at as u32, count]);
    }
    words
}

fn write_table(words: &mut Vec<u32>, table: &Table) {
    let asked = [
        (table.from.is_some(), FROM),
        (table.to.is_some(), TO),
        (table.protocols.is_some(), PROTOCOLS),
        (table.from_ports.is_some(), FROM_PORTS),
        (table.ports.is_some(), PORTS),
    ];
    words.push(asked.iter().map(|(is, bit)| if *is { *bit } else { 0 }).sum());
    words.extend(table.protocols.map_or([0; 8], |protocols| protocols.0));
    let counts = words.len();
    words.resize(counts + 6, 0);
    let addresses = [&table.from, &table.to];
    let ports = [&table.from_ports, &table.ports];
    for (index, addresses) in addresses.into_iter().enumerate() {
        let Some(addresses) = addresses else { continue };
        words[counts + index * 2] = addresses.v4.edges().len() as u32;
        words.extend(addresses.v4.edges());
        words[counts + index * 2 + 1] = addresses.v6.edges().len() as u32;
        words.extend(addresses.v6.edges().iter().flat_map(|edge| halves(*edge)));
    }
    for (index, ports) in ports.into_iter().enumerate() {
        let Some(ports) = ports else { continue };
        words[counts + 4 + index] = ports.edges().len() as u32;
        words.extend(ports.edges());
    }
}

fn halves(number: u128) -> [u32; 4] {
    [(number >> 96) as u32, (number >> 64) as u32, (number >> 32) as u32, number as u32]
}

/// Writes a section of filters by their numbers. `serial` is to differ from that of the section before.
#[must_use]
pub fn section(serial: u32, filters: &[Option<&[u32]>]) -> Vec<u32> {
    let mut words = vec![serial, filters.len() as u32];
    words.resize(2 + filters.len() * 2, 0);
    for (index, filter) in filters.iter().enumerate() {
        let Some(filter) = filter else { continue };
        words[2 + index * 2] = words.len() as u32;
        words[3 + index * 2] = filter.len() as u32;
        words.extend_from_slice(filter);
    }
    words
}

/// Reads words in turn; `None` where there are no more.
struct Reader<'w>(&'w [u32]);

impl<'w> Reader<'w> {
    fn take(&mut self, count: usize) -> Option<&'w [u32]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn edges<N: Number>(&mut self, count: u32, one: usize, number: impl Fn(&[u32]) -> N) -> Option<Set<N>> {
        let words = self.take((count as usize).checked_mul(one)?)?;
        Set::from_edges(words.chunks_exact(one).map(number).collect())
    }

    fn numbers(&mut self, count: u32) -> Option<Set<u32>> {
        self.edges(count, 1, |word| word[0])
    }

    fn addresses(&mut self, counts: &[u32]) -> Option<Addresses> {
        let v4 = self.numbers(counts[0])?;
        let v6 = self.edges(counts[1], 4, |words| words.iter().fold(0, |sum, word| sum << 32 | u128::from(*word)))?;
        Some(Addresses { v4, v6 })
    }
}

impl Filter {
    /// Reads and checks what [`write`] wrote; `None` where it is anything else.
    #[must_use]
    pub fn read(words: &[u32]) -> Option<Self> {
        let [count, otherwise] = *words.first_chunk()?;
        let count = count as usize;
        if count > MOST_RULES || words.len() > MOST_WORDS {
            return None;
        }
        let heads = words.get(2..)?.get(..count * RULE_WORDS)?;
        let rules = heads.as_chunks::<RULE_WORDS>().0.iter().map(|head| rule(words, *head));
        Some(Self { rules: rules.collect::<Option<_>>()?, otherwise: judgement(otherwise)? })
    }
}

fn rule(words: &[u32], [verdict, kind, at, count]: [u32; RULE_WORDS]) -> Option<Rule> {
    let body = words.get(at as usize..)?.get(..count as usize)?;
    let test = match kind {
        EVERYTHING => Match::Everything,
        PROGRAM => {
            let bytes: Vec<u8> = body.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Match::Program(Program::new(&bytes).ok()?)
        }
        TABLE => Match::Table(Box::new(table(body)?)),
        _ => return None,
    };
    Some(Rule { judgement: judgement(verdict)?, test })
}

fn table(body: &[u32]) -> Option<Table> {
    let mut words = Reader(body);
    let head: &[u32; TABLE_HEAD] = words.take(TABLE_HEAD)?.first_chunk()?;
    let (asked, counts) = (head[0], &head[9..]);
    // Every set is read, whether it is asked for or not: what is left over would be of something else.
    let from = words.addresses(&counts[..2])?;
    let to = words.addresses(&counts[2..4])?;
    let from_ports = words.numbers(counts[4])?;
    let ports = words.numbers(counts[5])?;
    let protocols = Protocols(core::array::from_fn(|index| head[1 + index]));
    (words.0.is_empty() && asked < PORTS * 2).then_some(Table {
        from: (asked & FROM != 0).then_some(from),
        to: (asked & TO != 0).then_some(to),
        protocols: (asked & PROTOCOLS != 0).then_some(protocols),
        from_ports: (asked & FROM_PORTS != 0).then_some(from_ports),
        ports: (asked & PORTS != 0).then_some(ports),
    })
}

fn judgement(word: u32) -> Option<Judgement> {
    [Judgement::Allow, Judgement::Deny, Judgement::Reject].into_iter().find(|judgement| *judgement as u32 == word)
}
