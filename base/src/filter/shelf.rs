//! The filters that a process has read, and what one sender keeps of them.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Filter, Finding, Judgement};
use crate::routing::{Root, Section};
use crate::segment::Segment;
use crate::sync::{AtomicU32, Ordering, fence};

/// Tries to read words of one piece. To fail once, two publications must fall into the copying of one filter.
const TRIES: u32 = 1000;

/// Which section it is: its place, and its serial number there. Two sections that follow one another differ in both.
type Edition = (Root, u32);

/// The filters that the senders of this process have read, by number. They share them: a filter may be large, and a base
/// has a sender for each of its hosts.
#[derive(Default)]
pub struct Shelf(Mutex<(Edition, Vec<Option<Arc<Filter>>>)>);

impl Shelf {
    /// The filter of a number as it stands in the segment now; one that lets nothing pass where there is none, or none that
    /// can be read.
    fn get(&self, segment: &Segment, number: u16) -> (Edition, Arc<Filter>) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (edition, kept) = &mut *guard;
        let now = current(segment);
        if *edition != now {
            *edition = now;
            kept.clear();
        }
        if let Some(Some(filter)) = kept.get(usize::from(number)) {
            return (now, Arc::clone(filter));
        }
        let (read, filter) = read(segment, number);
        let filter = Arc::new(filter);
        if read == now {
            place(kept, number, &filter);
        }
        (read, filter)
    }
}

fn place(kept: &mut Vec<Option<Arc<Filter>>>, number: u16, filter: &Arc<Filter>) {
    let index = usize::from(number);
    if kept.len() <= index {
        kept.resize(index + 1, None);
    }
    kept[index] = Some(Arc::clone(filter));
}

fn load(words: &[AtomicU32], at: usize) -> Option<u32> {
    words.get(at).map(|word| word.load(Ordering::Relaxed))
}

fn current(segment: &Segment) -> Edition {
    let root = segment.roots().root(Section::Filters);
    (root, segment.words(Section::Filters, root).and_then(|words| load(words, 0)).unwrap_or(0))
}

/// Reads a filter, and says from which edition.
fn read(segment: &Segment, number: u16) -> (Edition, Filter) {
    let mut edition = current(segment);
    for _ in 0..TRIES {
        let words = copy(segment.words(Section::Filters, edition.0).unwrap_or(&[]), number);
        // Acquire: the words were read before the edition is looked at again. Partners with the release fence of
        // `routing::fill()`: a word of a later section comes with the root of the one before it, or of a later one, and a
        // root that leads here again comes with another serial number.
        fence(Ordering::Acquire);
        let now = current(segment);
        if now == edition {
            return (edition, words.and_then(|words| Filter::read(&words)).unwrap_or_else(Filter::closed));
        }
        edition = now;
    }
    (edition, Filter::closed())
}

/// The words of a filter, which may be torn.
fn copy(section: &[AtomicU32], number: u16) -> Option<Vec<u32>> {
    let entry = 2 + usize::from(number) * 2;
    if u32::from(number) >= load(section, 1)? {
        return None;
    }
    let (at, count) = (load(section, entry)? as usize, load(section, entry + 1)? as usize);
    let words = section.get(at..)?.get(..count)?;
    Some(words.iter().map(|word| word.load(Ordering::Relaxed)).collect())
}

/// What one sender keeps of the filters that it has met.
#[derive(Default)]
pub struct Filters {
    /// The version of routing up to which `edition` is known to stand.
    version: u32,
    edition: Edition,
    kept: Vec<Option<Arc<Filter>>>,
    room: Vec<u8>,
}

impl Filters {
    /// Judges a datagram by the filter of a number, as `version` of routing has it.
    #[inline]
    #[must_use]
    pub fn passes(&mut self, segment: &Segment, version: u32, number: u16, datagram: &[u8]) -> Judgement {
        if self.version != version {
            self.renew(segment, version);
        }
        match self.kept.get(usize::from(number)) {
            Some(Some(filter)) => filter.judge(datagram).judgement,
            _ => self.fetch(segment, number).judge(datagram).judgement,
        }
    }

    /// The same for whoever only looks, and which rule it was.
    #[must_use]
    pub fn explain(segment: &Segment, number: u16, datagram: &[u8]) -> Finding {
        segment.shelf().get(segment, number).1.judge(datagram)
    }

    /// Room in which a datagram that lies in two pieces can be put together.
    pub(crate) fn take_room(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.room)
    }

    pub(crate) fn give_room(&mut self, mut room: Vec<u8>) {
        room.clear();
        self.room = room;
    }

    /// Something about routing is another: mostly not the filters.
    #[cold]
    fn renew(&mut self, segment: &Segment, version: u32) {
        let now = current(segment);
        if now != self.edition {
            self.edition = now;
            self.kept.clear();
        }
        self.version = version;
    }

    #[cold]
    fn fetch(&mut self, segment: &Segment, number: u16) -> Arc<Filter> {
        let (edition, filter) = segment.shelf().get(segment, number);
        if edition == self.edition {
            place(&mut self.kept, number, &filter);
        }
        filter
    }
}
