//! Filters: what may pass a NIC or enter a network.
//!
//! ```text
//!   machine   classic BPF, for which libpcap compiles tcpdump's language
//!   digest    what rules written as a table look at
//!   table     rules written as a table
//!   words     filters as words, in the routing segment and in images; drawn
//!   shelf     the filters that this process has read, shared by its senders
//! ```
//!
//! A filter is a list of rules; the first that matches a datagram judges it, and where none does, the filter says what
//! holds otherwise. Rules know nothing but the datagram: no connection, no time, no rule before.
//!
//! # Theory of operation
//!
//! The base writes all filters as one section of words, replaced whole, and then their numbers into the rows of NICs and
//! networks. A sender that meets a number there reads the filter, once: it copies the words, makes sure that they were of
//! one piece, checks them, and keeps what it made of them until the section is another. So nothing runs that was not
//! checked, a datagram is never held up by a writer, and words that are damaged are noticed before they decide anything.
//!
//! **A filter that cannot be read lets nothing pass.** Somebody forbade something, and it is not known what: to let
//! datagrams through would break that without a trace, where each that is held back is counted as `filtered` and explained.

pub mod digest;
pub mod machine;
mod shelf;
pub mod table;
pub mod words;

pub use shelf::{Filters, Shelf};

use digest::Digest;
use machine::Program;
use table::Table;

/// What a filter says of a datagram. The numbers are those of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Judgement {
    /// It may pass.
    Allow = 0,
    /// It may not.
    Deny = 1,
    /// It may not, and its sender is told by ICMP that this is prohibited (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
    Reject = 2,
}

/// What a filter says of a datagram, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it says.
    pub judgement: Judgement,
    /// The rule that matched, from 0; `None` where none did.
    pub rule: Option<u32>,
}

/// When a rule applies.
#[derive(Clone, Debug)]
pub(crate) enum Match {
    Everything,
    Program(Program),
    Table(Box<Table>),
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) judgement: Judgement,
    pub(crate) test: Match,
}

/// A filter that was checked.
#[derive(Clone, Debug)]
pub struct Filter {
    pub(crate) rules: Box<[Rule]>,
    pub(crate) otherwise: Judgement,
}

impl Filter {
    /// What stands for a filter that cannot be read: it lets nothing pass.
    #[must_use]
    pub fn closed() -> Self {
        Self { rules: Box::default(), otherwise: Judgement::Deny }
    }

    /// Judges a datagram. A rule whose program reads what is not there does not match, as with tcpdump.
    #[inline]
    #[must_use]
    pub fn judge(&self, datagram: &[u8]) -> Finding {
        // Made by the first table that asks for it.
        let mut digest: Option<Option<Digest>> = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let matches = match &rule.test {
                Match::Everything => true,
                Match::Program(program) => program.run(datagram, datagram.len() as u32) != 0,
                Match::Table(table) => {
                    digest.get_or_insert_with(|| Digest::of(datagram)).as_ref().is_some_and(|own| table.matches(own))
                }
            };
            if matches {
                return Finding { judgement: rule.judgement, rule: Some(index as u32) };
            }
        }
        Finding { judgement: self.otherwise, rule: None }
    }
}
