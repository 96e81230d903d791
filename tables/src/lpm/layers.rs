//! A route table with two owners: what the routers of a LAN are and know themselves, and what lies outside.
//!
//! Where both say something of the same prefix, the routers' class stands in the table, and what lies outside comes
//! back when the routers have no more to say of it.

use std::collections::BTreeMap;

use super::prefix::{Prefix, Route};
use super::words::{AROUND, TAKEN, word};
use super::writer::{RouteWriter, RoutesError};
use crate::sync::{AtomicU32, Ordering};

/// A word that tells of a route: this, its length, its class.
const TOLD: u32 = 1 << 31;

/// What covers the routers' prefix with this number, in the order of [`Layers::own`], in a table that was kept in a file:
/// length and class of the longest route outside.
#[must_use]
pub fn around(words: &[AtomicU32], number: usize) -> Option<(u8, u16)> {
    // Relaxed: a table that is kept in a file changes no more.
    let at = word(words, AROUND, Ordering::Relaxed) as usize;
    let told = if at == 0 { 0 } else { word(words, at + number, Ordering::Relaxed) };
    (told & TOLD != 0).then_some(((told >> 16) as u8, told as u16))
}

/// How many routes a table was made of that was kept in a file, those that were said twice counted twice.
#[must_use]
pub fn taken(words: &[AtomicU32]) -> usize {
    // Relaxed: as in `around()`.
    word(words, TAKEN, Ordering::Relaxed) as usize
}

/// More new routes at once than this are laid out together with those that are there.
const MANY: usize = 2048;

/// A route table of a LAN, as the base keeps it.
pub struct Layers<'m> {
    writer: RouteWriter<'m>,
    /// The routers' prefixes, with the classes of the outside that they hide.
    own: BTreeMap<Prefix, Option<u16>>,
}

impl<'m> Layers<'m> {
    /// Two empty layers.
    #[must_use]
    pub fn new(writer: RouteWriter<'m>) -> Self {
        Self { writer, own: BTreeMap::new() }
    }

    /// The table that both make.
    #[must_use]
    pub fn writer(&self) -> &RouteWriter<'m> {
        &self.writer
    }

    /// Enters a prefix of the routers or changes its class.
    ///
    /// # Errors
    ///
    /// As of [`RouteWriter::insert`].
    pub fn insert_own(&mut self, route: Route) -> Result<(), RoutesError> {
        let before = self.writer.insert(route)?;
        self.own.entry(route.prefix).or_insert(before);
        Ok(())
    }

    /// Takes a prefix of the routers out; does nothing where they have it not.
    ///
    /// # Errors
    ///
    /// As of [`RouteWriter::remove`].
    pub fn remove_own(&mut self, prefix: Prefix) -> Result<(), RoutesError> {
        match self.own.get(&prefix) {
            None => return Ok(()),
            Some(Some(class)) => self.writer.insert(Route { prefix, class: *class })?,
            Some(None) => self.writer.remove(prefix)?,
        };
        self.own.remove(&prefix);
        Ok(())
    }

    /// Enters a prefix that lies outside or changes its class; returns the class that it had.
    ///
    /// # Errors
    ///
    /// As of [`RouteWriter::insert`].
    pub fn insert(&mut self, route: Route) -> Result<Option<u16>, RoutesError> {
        match self.own.get_mut(&route.prefix) {
            Some(_) if route.class == 0 => Err(RoutesError::NoClass),
            Some(hidden) => Ok(hidden.replace(route.class)),
            None => self.writer.insert(route),
        }
    }

    /// Takes a prefix that lies outside out; returns the class that it had, or nothing where it was not in.
    ///
    /// # Errors
    ///
    /// As of [`RouteWriter::remove`].
    pub fn remove(&mut self, prefix: Prefix) -> Result<Option<u16>, RoutesError> {
        match self.own.get_mut(&prefix) {
            Some(hidden) => Ok(hidden.take()),
            None => self.writer.remove(prefix),
        }
    }

    /// Enters many prefixes that lie outside.
    ///
    /// # Errors
    ///
    /// As of [`RouteWriter::load`].
    pub fn extend(&mut self, routes: Vec<Route>) -> Result<(), RoutesError> {
        if routes.iter().any(|route| route.class == 0) {
            return Err(RoutesError::NoClass);
        }
        if routes.len() <= MANY {
            // Undone where the room ends, so that all of them come or none.
            let mut before = Vec::with_capacity(routes.len());
            for route in routes {
                match self.insert(route) {
                    Ok(class) => before.push(Route { prefix: route.prefix, class: class.unwrap_or(0) }),
                    Err(failure) => {
                        for route in before.into_iter().rev() {
                            let _ = if route.class == 0 { self.remove(route.prefix) } else { self.insert(route) };
                        }
                        return Err(failure);
                    }
                }
            }
            return Ok(());
        }
        let all = self.routes().chain(routes).collect();
        self.replace(all)
    }

    /// Takes out all that lies outside and has one of these classes; returns how many there were.
    ///
    /// # Errors
    ///
    /// As of [`RouteWriter::load`].
    pub fn remove_classes(&mut self, classes: &[u16]) -> Result<usize, RoutesError> {
        let (gone, kept): (Vec<Route>, Vec<Route>) = self.routes().partition(|route| classes.contains(&route.class));
        if gone.len() > MANY {
            self.replace(kept)?;
        } else {
            for route in &gone {
                self.remove(route.prefix)?;
            }
        }
        Ok(gone.len())
    }

    /// Has these and no others lie outside; of two with the same prefix the later one counts.
    ///
    /// # Errors
    ///
    /// As of [`RouteWriter::load`].
    pub fn replace(&mut self, outside: Vec<Route>) -> Result<(), RoutesError> {
        let mut hidden: BTreeMap<Prefix, Option<u16>> = self.own.keys().map(|prefix| (*prefix, None)).collect();
        for route in &outside {
            if let Some(hidden) = hidden.get_mut(&route.prefix) {
                *hidden = Some(route.class);
            }
        }
        let own: Vec<Route> = self.own().collect();
        self.writer.load(outside.into_iter().chain(own))?;
        self.own = hidden;
        Ok(())
    }

    /// How many prefixes lie outside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writer.len() - self.own.values().filter(|hidden| hidden.is_none()).count()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of exactly this prefix outside.
    #[must_use]
    pub fn get(&self, prefix: Prefix) -> Option<u16> {
        self.own.get(&prefix).copied().unwrap_or_else(|| self.writer.get(prefix))
    }

    /// All that lies outside: IPv4 before IPv6, by address, shorter before longer.
    pub fn routes(&self) -> impl Iterator<Item = Route> {
        self.writer.routes().filter_map(|route| self.outside(route))
    }

    /// What lies outside and comes behind a prefix in that order; all of it without one.
    pub fn routes_after(&self, prefix: Option<Prefix>) -> impl Iterator<Item = Route> {
        let all = prefix.is_none().then(|| self.routes());
        let behind = prefix.map(|prefix| self.writer.routes_after(prefix).filter_map(|route| self.outside(route)));
        all.into_iter().flatten().chain(behind.into_iter().flatten())
    }

    /// The longest route outside that has all addresses of a prefix, its own among them.
    #[must_use]
    pub fn covering(&self, prefix: Prefix) -> Option<Route> {
        let mut around = self.writer.longest(prefix);
        while let Some(route) = around {
            if let Some(route) = self.outside(route) {
                return Some(route);
            }
            around = self.writer.parent(route.prefix);
        }
        None
    }

    /// Whether a prefix is the routers' own.
    #[must_use]
    pub fn is_own(&self, prefix: Prefix) -> bool {
        self.own.contains_key(&prefix)
    }

    /// Whether one of the routers' prefixes is inside of this one, or is it.
    #[must_use]
    pub fn covers_own(&self, prefix: Prefix) -> bool {
        self.own_inside(prefix).next().is_some()
    }

    /// The routers' prefixes inside of this one, itself among them.
    pub fn own_inside(&self, prefix: Prefix) -> impl Iterator<Item = Prefix> {
        // What is inside comes behind it, and nothing else comes between.
        self.own.range(prefix..).map(|(own, _)| *own).take_while(move |own| prefix.covers(*own))
    }

    /// The routers' prefixes with their classes.
    pub fn own(&self) -> impl Iterator<Item = Route> {
        self.own.keys().filter_map(|&prefix| Some(Route { prefix, class: self.writer.get(prefix)? }))
    }

    /// The table as words to keep in a file, with what lies outside packed behind it, and then, for each of the routers'
    /// prefixes in their order, what covers it: length and class, as [`around`] tells. It was made of `taken` routes.
    #[must_use]
    pub fn image(&self, taken: usize) -> Vec<u32> {
        let mut words = self.writer.image(self.routes());
        words[TAKEN] = taken as u32;
        words[AROUND] = words.len() as u32;
        let told = |route: Route| TOLD | u32::from(route.prefix.length()) << 16 | u32::from(route.class);
        words.extend(self.own.keys().map(|own| self.covering(*own).map_or(0, told)));
        words
    }

    /// A route of the table as the outside has it.
    fn outside(&self, route: Route) -> Option<Route> {
        match self.own.get(&route.prefix) {
            Some(hidden) => hidden.map(|class| Route { class, ..route }),
            None => Some(route),
        }
    }
}
