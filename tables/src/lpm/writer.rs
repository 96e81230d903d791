//! The one who writes: keeps the routes in its own memory and the nodes in the table's words.

use super::bits::Bits;
use super::listing::{Listing, ListingError, pack};
use super::prefix::{Prefix, Route};
use super::reader::RouteTable;
use super::rib::{Item, Rib};
use super::shape::{Edit, Shaper, change_of};
use super::space::{NoRoom, REST, Space};
use super::words::{ARRAY, Anatomy, Entry, FIRST, Head, Kind, LEAST_WORDS, LISTED, LISTING, LISTING_BYTES, USED};
use crate::sync::{AtomicU32, Ordering};

/// A family with more routes than this has an array.
const LARGE: usize = 2048;
/// A family with an array and fewer routes than this loses it: far enough below for neither to come and go all the time.
const SMALL: usize = 512;

/// Why a change was not made; the table is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// The words are all in use.
    #[error("the route table is full: it has {bytes} bytes")]
    Full {
        /// What the table has.
        bytes: u64,
    },
    /// The words are too few for any table.
    #[error("a route table needs {} bytes at least", LEAST_WORDS * 4)]
    TooSmall,
    /// A route was given class 0, which says that there is none.
    #[error("a route has a class from 1 to 65,535")]
    NoClass,
}

/// Writes a route table. There must be one for a table, and it must be the first: it starts with an empty table.
pub struct RouteWriter<'m> {
    memory: &'m [AtomicU32],
    space: Space,
    edit: Edit,
    v4: Rib<u32>,
    v6: Rib<u128>,
    inside4: Vec<Item<u32>>,
    inside6: Vec<Item<u128>>,
}

impl<'m> RouteWriter<'m> {
    /// A writer over words that are all zero: an empty table.
    ///
    /// Words that are not used are never touched, so the words may lie in a sparse file far larger than the table.
    ///
    /// # Errors
    ///
    /// [`RoutesError::TooSmall`].
    pub fn new(memory: &'m [AtomicU32]) -> Result<Self, RoutesError> {
        Self::with_rest(memory, REST)
    }

    /// A writer that gives freed words free as soon as more than `rest` of them have come together: for models and
    /// tests, which would wait long for the usual number.
    ///
    /// # Errors
    ///
    /// [`RoutesError::TooSmall`].
    #[doc(hidden)]
    pub fn with_rest(memory: &'m [AtomicU32], rest: u32) -> Result<Self, RoutesError> {
        if !cfg!(loom) && memory.len() < LEAST_WORDS {
            return Err(RoutesError::TooSmall);
        }
        Ok(Self {
            memory,
            space: Space::new(memory.len(), rest),
            edit: Edit::default(),
            v4: Rib::new(),
            v6: Rib::new(),
            inside4: Vec::new(),
            inside6: Vec::new(),
        })
    }

    /// The table, for look-ups.
    #[must_use]
    pub fn table(&self) -> RouteTable<'m> {
        RouteTable::new(self.memory)
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of exactly this prefix.
    #[must_use]
    pub fn get(&self, prefix: Prefix) -> Option<u16> {
        match prefix {
            Prefix::V4(address, length) => self.v4.get(address, length),
            Prefix::V6(address, length) => self.v6.get(address, length),
        }
    }

    /// The longest route that has all addresses of this prefix; that of an address is asked with its full length.
    #[must_use]
    pub fn longest(&self, prefix: Prefix) -> Option<Route> {
        self.around(prefix, prefix.length())
    }

    /// The longest route that has all addresses of this prefix, but for that of the prefix itself.
    #[must_use]
    pub fn parent(&self, prefix: Prefix) -> Option<Route> {
        self.around(prefix, prefix.length().checked_sub(1)?)
    }

    fn around(&self, prefix: Prefix, reach: u8) -> Option<Route> {
        match prefix {
            Prefix::V4(address, _) => self.v4.longest(address, u32::from(reach)).map(route4),
            Prefix::V6(address, _) => self.v6.longest(address, u32::from(reach)).map(route6),
        }
    }

    /// All routes: IPv4 before IPv6, by address, shorter before longer.
    pub fn routes(&self) -> impl Iterator<Item = Route> {
        self.v4.items().map(route4).chain(self.v6.items().map(route6))
    }

    /// The routes behind a prefix in that order, whether it is among them or not.
    pub fn routes_after(&self, prefix: Prefix) -> impl Iterator<Item = Route> {
        let (v4, v6) = match prefix {
            Prefix::V4(address, length) => (Some(self.v4.items_after(address, length)), None),
            Prefix::V6(address, length) => (None, Some(self.v6.items_after(address, length))),
        };
        let all6 = v6.is_none().then(|| self.v6.items());
        let v6 = v6.into_iter().flatten().chain(all6.into_iter().flatten());
        v4.into_iter().flatten().map(route4).chain(v6.map(route6))
    }

    /// Enters a prefix or changes its class; returns the class that it had.
    ///
    /// # Errors
    ///
    /// [`RoutesError::Full`], [`RoutesError::NoClass`]; the table is as before.
    pub fn insert(&mut self, route: Route) -> Result<Option<u16>, RoutesError> {
        if route.class == 0 {
            return Err(RoutesError::NoClass);
        }
        self.set(route.prefix, route.class)
    }

    /// Takes a prefix out; returns the class that it had, or nothing where it was not in.
    ///
    /// # Errors
    ///
    /// [`RoutesError::Full`]: taking a route out of a node takes a new node. The table is as before.
    pub fn remove(&mut self, prefix: Prefix) -> Result<Option<u16>, RoutesError> {
        if self.get(prefix).is_none() { Ok(None) } else { self.set(prefix, 0) }
    }

    fn set(&mut self, prefix: Prefix, class: u16) -> Result<Option<u16>, RoutesError> {
        let Self { memory, space, edit, .. } = self;
        let before = match prefix {
            Prefix::V4(address, length) => {
                set_in(&mut self.v4, &mut self.inside4, memory, space, edit, Item { address, length, class })
            }
            Prefix::V6(address, length) => {
                set_in(&mut self.v6, &mut self.inside6, memory, space, edit, Item { address, length, class })
            }
        };
        let before = self.finish(before)?;
        Ok((before != 0).then_some(before))
    }

    /// Replaces all routes by these, in any order; of two with the same prefix the later one counts.
    ///
    /// For each address a reader sees the old table or the new one; the families change one after the other.
    ///
    /// # Errors
    ///
    /// [`RoutesError::Full`] (until the new table stands, the old one takes room too), [`RoutesError::NoClass`]; the
    /// table is as before.
    pub fn load(&mut self, routes: impl IntoIterator<Item = Route>) -> Result<(), RoutesError> {
        let (mut items4, mut items6) = (Vec::new(), Vec::new());
        for route in routes {
            if route.class == 0 {
                return Err(RoutesError::NoClass);
            }
            match route.prefix {
                Prefix::V4(address, length) => items4.push(Item { address, length, class: route.class }),
                Prefix::V6(address, length) => items6.push(Item { address, length, class: route.class }),
            }
        }
        sort(&mut items4);
        sort(&mut items6);
        let Self { memory, space, edit, .. } = self;
        let mut build = || {
            renew(memory, space, edit, &items4)?;
            renew(memory, space, edit, &items6)
        };
        let built = build();
        self.finish(built)?;
        self.v4 = Rib::from_items(&items4);
        self.v6 = Rib::from_items(&items6);
        Ok(())
    }

    /// Publishes what was built, or throws it away where there was no room for all of it.
    fn finish<T>(&mut self, built: Result<T, NoRoom>) -> Result<T, RoutesError> {
        match built {
            Ok(value) => {
                self.publish();
                Ok(value)
            }
            Err(NoRoom) => {
                self.edit.built.drain(..).for_each(|block| self.space.put(block));
                self.edit.unlinked.clear();
                self.edit.flips.clear();
                self.edit.another_root = false;
                Err(RoutesError::Full { bytes: self.memory.len() as u64 * 4 })
            }
        }
    }

    fn publish(&mut self) {
        for (word, value) in self.edit.flips.drain(..) {
            // Release: partners with the acquire of `followed()`; who follows the word finds the node written.
            self.memory[word].store(value, Ordering::Release);
        }
        self.edit.built.clear();
        self.edit.unlinked.drain(..).for_each(|block| self.space.lay_to_rest(block));
        if core::mem::take(&mut self.edit.another_root) {
            // Before anything else changes: see "Orders" at `RouteTable`.
            self.space.give_back(self.memory);
        } else {
            self.space.settle(self.memory);
        }
    }

    /// What the table is made of.
    #[must_use]
    pub fn anatomy(&self) -> Anatomy {
        self.table().anatomy()
    }

    /// The table as words to keep in a file. [`RouteTable::new`] over them looks up; behind it lies `listed`, routes in
    /// the order of [`RouteWriter::routes`] that [`Listing::of`] tells.
    #[must_use]
    pub fn image(&self, listed: impl Iterator<Item = Route>) -> Vec<u32> {
        // Relaxed: written by this very thread.
        let used = (self.memory[USED].load(Ordering::Relaxed) as usize).max(FIRST as usize);
        let mut words: Vec<u32> = self.memory[..used].iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let mut count = 0;
        let packed = pack(listed.inspect(|_| count += 1));
        words[LISTING] = used as u32;
        words[LISTING_BYTES] = packed.len() as u32;
        words[LISTED] = count;
        words.extend(packed.chunks(4).map(|bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        }));
        words
    }

    /// Replaces all routes by those of a table kept in a file. They are laid out anew: nothing but the list of the
    /// file is believed.
    ///
    /// # Errors
    ///
    /// A list that cannot be read, or what [`RouteWriter::load`] says.
    pub fn restore(&mut self, image: &[AtomicU32]) -> Result<Result<(), RoutesError>, ListingError> {
        let routes = Listing::of(image).collect::<Result<Vec<_>, _>>()?;
        Ok(self.load(routes))
    }
}

fn route4(item: Item<u32>) -> Route {
    Route { prefix: Prefix::V4(item.address, item.length), class: item.class }
}

fn route6(item: Item<u128>) -> Route {
    Route { prefix: Prefix::V6(item.address, item.length), class: item.class }
}

/// By prefix; of two that are the same the later one stays.
fn sort<A: Bits>(items: &mut Vec<Item<A>>) {
    // Stable, and quick for what is sorted already.
    items.sort_by_key(|item| (item.address, item.length));
    items.dedup_by(|later, kept| {
        let same = (later.address, later.length) == (kept.address, kept.length);
        if same {
            kept.class = later.class;
        }
        same
    });
}

/// Enters one prefix, or takes it out with class 0; returns the class that it had, 0 for none.
fn set_in<A: Bits>(
    rib: &mut Rib<A>,
    inside: &mut Vec<Item<A>>,
    memory: &[AtomicU32],
    space: &mut Space,
    edit: &mut Edit,
    item: Item<A>,
) -> Result<u16, NoRoom> {
    let before = rib.set(item.address, item.length, item.class);
    let root = Root::of(memory, A::HEAD);
    let large = root.entry.kind() == Kind::Direct;
    let done = if item.length > 0 && if large { rib.len() < SMALL } else { rib.len() > LARGE } {
        let items: Vec<Item<A>> = rib.items().collect();
        renew(memory, space, edit, &items)
    } else {
        let mut shaper = Shaper { memory, space, edit, large };
        root.changed(&mut shaper, rib, inside, item)
    };
    match done {
        Ok(()) => {
            edit.flips.push((A::HEAD.count, rib.len() as u32));
            Ok(before)
        }
        Err(NoRoom) => {
            rib.set(item.address, item.length, before);
            Err(NoRoom)
        }
    }
}

/// Lays a family out anew.
fn renew<A: Bits>(memory: &[AtomicU32], space: &mut Space, edit: &mut Edit, items: &[Item<A>]) -> Result<(), NoRoom> {
    // Without room for an array a large table stays a tree: slower, and as true.
    let large = items.len() > LARGE && memory.len() > 4 * ARRAY;
    let mut shaper = Shaper { memory, space, edit, large };
    let entry = shaper.root(items)?;
    shaper.unlink_all(Root::of(memory, A::HEAD).entry, 0);
    let default = items.first().filter(|item| item.length == 0).map_or(0, |item| item.class);
    shaper.link_root(A::HEAD, entry, default)?;
    edit.flips.push((A::HEAD.count, items.len() as u32));
    Ok(())
}

/// The root of a family as it stands.
struct Root {
    at: usize,
    entry: Entry,
    default: u16,
}

impl Root {
    fn of(memory: &[AtomicU32], head: Head) -> Self {
        // Relaxed: only the writer writes.
        let read = |at: usize| memory[at].load(Ordering::Relaxed);
        let at = read(head.root) as usize;
        Self { at, entry: Entry(read(at)), default: read(at + 1) as u16 }
    }

    /// Lays one route out that `rib` has or has no more.
    fn changed<A: Bits>(
        self,
        shaper: &mut Shaper<'_, '_>,
        rib: &Rib<A>,
        inside: &mut Vec<Item<A>>,
        item: Item<A>,
    ) -> Result<(), NoRoom> {
        if item.length == 0 {
            return if item.class == self.default { Ok(()) } else { shaper.link_root(A::HEAD, self.entry, item.class) };
        }
        let change = change_of(rib, item.address, item.length, inside);
        let entry = shaper.revised(self.entry, 0, change, inside)?;
        if self.at == 0 || (entry == Entry::NONE && self.default == 0) {
            return shaper.link_root(A::HEAD, entry, self.default);
        }
        shaper.flip(self.at, self.entry.0, entry.0);
        Ok(())
    }
}
