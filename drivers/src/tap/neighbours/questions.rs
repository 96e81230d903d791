//! Questions that are open: those put to the stations behind a TAP, with what waits for the answers, and those of its
//! guest that others may answer. All are bounded, in number, in bytes and in rate.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::super::ethernet::Mac;
use super::Kept;
use super::stations::{Asker, RETRY, TRIES};

/// Addresses that are asked for at a time, on either side.
pub const OPEN: usize = 128;
/// Datagrams that wait for one address. Linux lets two full socket buffers wait; RFC 1122 section 2.3.2.2 asks for one.
pub const KEPT: usize = 16;
/// Bytes of datagrams that wait, all together.
pub const KEPT_BYTES: usize = 1 << 20;
/// Askers that one answer reaches.
pub const ASKERS: usize = 4;

/// How long an answer is waited for.
const PATIENCE: u64 = TRIES as u64 * RETRY;

/// So many at once, and then one every so often.
pub(super) struct Bucket {
    every: u64,
    full: u64,
    credit: u64,
    at: u64,
}

impl Bucket {
    /// `rate` a second, and `burst` at once.
    pub fn new(rate: u64, burst: u64) -> Self {
        let every = 1_000_000_000 / rate;
        Self { every, full: burst * every, credit: burst * every, at: 0 }
    }

    /// Whether there may be another one now.
    pub fn take(&mut self, now: u64) -> bool {
        self.credit = self.credit.saturating_add(now.saturating_sub(self.at)).min(self.full);
        self.at = self.at.max(now);
        let may = self.credit >= self.every;
        self.credit -= if may { self.every } else { 0 };
        may
    }
}

struct Question {
    /// In whose name it is repeated; `None`: it is another TAP's guest that repeats it.
    asker: Option<Asker>,
    tries: u8,
    begun: u64,
    next: u64,
    kept: VecDeque<Kept>,
}

/// Questions put to the stations behind the TAP.
#[derive(Default)]
pub(super) struct Questions {
    open: BTreeMap<IpAddr, Question>,
    ready: VecDeque<(Mac, Kept)>,
    bytes: usize,
    /// Datagrams that were lost to newer ones since this was last taken.
    pub displaced: u64,
}

impl Questions {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.open.contains_key(&address)
    }

    /// Whether a question for `address` has been put that is repeated here.
    pub fn is_repeated(&self, address: IpAddr) -> bool {
        self.open.get(&address).is_some_and(|question| question.asker.is_some())
    }

    /// Notes a question that goes out now, in whose name it will be repeated, and returns when that is due.
    pub fn put(&mut self, address: IpAddr, asker: Option<Asker>, now: u64) -> u64 {
        if !self.open.contains_key(&address) {
            self.make_room();
        }
        let next = now.saturating_add(if asker.is_some() { RETRY } else { PATIENCE });
        let question = self.open.entry(address).or_insert(Question {
            asker: None,
            tries: 0,
            begun: now,
            next,
            kept: VecDeque::new(),
        });
        if question.asker.is_none() {
            (question.asker, question.tries, question.next) = (asker, 1, next);
        }
        question.next
    }

    /// The oldest question gives way, one for which nothing waits before one for which something does.
    fn make_room(&mut self) {
        if self.open.len() < OPEN {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, question)| (!question.kept.is_empty(), question.begun));
        if let Some((&address, _)) = oldest {
            self.displaced += self.give_up(address) as u64;
        }
    }

    /// Lets a question go, and what waits for its answer. Returns how many datagrams that was.
    pub fn give_up(&mut self, address: IpAddr) -> usize {
        let kept = self.open.remove(&address).map(|question| question.kept).unwrap_or_default();
        self.bytes -= kept.iter().map(|kept| kept.datagram.len()).sum::<usize>();
        kept.len()
    }

    /// Keeps a datagram until `address` answers. False: nobody asks for it.
    pub fn keep(&mut self, address: IpAddr, kept: Kept) -> bool {
        let length = kept.datagram.len();
        if !self.open.contains_key(&address) || length > KEPT_BYTES {
            return false;
        }
        while self.bytes + length > KEPT_BYTES {
            self.displace();
        }
        let Some(question) = self.open.get_mut(&address) else { return false };
        if question.kept.len() >= KEPT
            && let Some(oldest) = question.kept.pop_front()
        {
            self.bytes -= oldest.datagram.len();
            self.displaced += 1;
        }
        self.bytes += length;
        question.kept.push_back(kept);
        true
    }

    /// Drops the datagram that waits longest for an answer, or, where none does, for its frame to be sent.
    fn displace(&mut self) {
        let waiting = self.open.values_mut().filter(|question| !question.kept.is_empty());
        let oldest = waiting.min_by_key(|question| question.begun);
        let dropped = match oldest {
            Some(question) => question.kept.pop_front(),
            None => self.ready.pop_front().map(|(_, kept)| kept),
        };
        self.bytes -= dropped.map_or(0, |kept| kept.datagram.len());
        self.displaced += 1;
    }

    /// `address` has answered: what waited for it can go to `mac`. Returns whether there was a question.
    pub fn answer(&mut self, address: IpAddr, mac: Mac) -> bool {
        let Some(question) = self.open.remove(&address) else { return false };
        self.ready.extend(question.kept.into_iter().map(|kept| (mac, kept)));
        true
    }

    pub fn resolved(&mut self) -> Option<(Mac, Kept)> {
        let (mac, kept) = self.ready.pop_front()?;
        self.bytes -= kept.datagram.len();
        Some((mac, kept))
    }

    /// Goes through all: `ask` is called for those to repeat. Returns how many datagrams got no answer, and when to come
    /// again.
    pub fn due(&mut self, now: u64, mut ask: impl FnMut(IpAddr, Asker)) -> (u64, u64) {
        let (mut lost, mut next) = (0, u64::MAX);
        let bytes = &mut self.bytes;
        self.open.retain(|&address, question| {
            if now >= question.next {
                match question.asker {
                    Some(asker) if question.tries < TRIES => {
                        question.tries += 1;
                        question.next = now.saturating_add(RETRY);
                        ask(address, asker);
                    }
                    _ => {
                        lost += question.kept.len() as u64;
                        *bytes -= question.kept.iter().map(|kept| kept.datagram.len()).sum::<usize>();
                        return false;
                    }
                }
            }
            next = next.min(question.next);
            true
        });
        (lost, next)
    }

    /// Questions, datagrams and bytes that are held.
    pub fn held(&self) -> (usize, usize, usize) {
        let waiting: usize = self.open.values().map(|question| question.kept.len()).sum();
        (self.open.len(), waiting + self.ready.len(), self.bytes)
    }
}

struct Wait {
    askers: Vec<Asker>,
    passed_on: u64,
    asked: u64,
}

/// Questions of the guest that were passed on.
#[derive(Default)]
pub(super) struct Waits(BTreeMap<IpAddr, Wait>);

impl Waits {
    /// Whether a question for `target` was passed on so lately that it need not be again; its asker is noted then.
    pub fn joins(&mut self, target: IpAddr, asker: Asker, now: u64) -> bool {
        let Some(wait) = self.0.get_mut(&target) else { return false };
        wait.asked = now;
        if !wait.askers.contains(&asker) {
            if wait.askers.len() >= ASKERS {
                wait.askers.remove(0);
            }
            wait.askers.push(asker);
        }
        now.saturating_sub(wait.passed_on) < RETRY / 2
    }

    /// Notes that a question is passed on now, and returns until when an answer is waited for, and how many questions gave
    /// way to it.
    pub fn pass_on(&mut self, target: IpAddr, asker: Asker, now: u64) -> (u64, u64) {
        let mut displaced = 0;
        if !self.0.contains_key(&target)
            && self.0.len() >= OPEN
            && let Some((&oldest, _)) = self.0.iter().min_by_key(|(_, wait)| wait.asked)
        {
            self.0.remove(&oldest);
            displaced = 1;
        }
        let wait = self.0.entry(target).or_insert_with(|| Wait { askers: vec![asker], passed_on: now, asked: now });
        wait.passed_on = now;
        (now.saturating_add(PATIENCE), displaced)
    }

    /// Who asked for `target`; nobody does any more.
    pub fn answer(&mut self, target: IpAddr) -> Vec<Asker> {
        self.0.remove(&target).map(|wait| wait.askers).unwrap_or_default()
    }

    /// Lets go of questions that nobody answered. Returns how many these are, and when to come again.
    pub fn due(&mut self, now: u64) -> (u64, u64) {
        let before = self.0.len();
        let mut next = u64::MAX;
        self.0.retain(|_, wait| {
            let until = wait.asked.saturating_add(PATIENCE);
            if now < until {
                next = next.min(until);
            }
            now < until
        });
        ((before - self.0.len()) as u64, next)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}
