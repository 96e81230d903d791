//! The binding of the route table: the routers' own prefixes, and what `vnet/routes.py` says of what lies outside.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_base::Lan;
use vnet_base::routing::Section;
use vnet_base::tables::lpm::{
    self, Layers, Listing, Prefix, PrefixError, Route, RouteTable, RouteWriter, RoutesError, Text,
};
use vnet_base::tables::sync::AtomicU32;

use super::{duplicate, error, lan_error};

/// Words of address space in which a table is laid out for an image: three full Internet tables.
const DRAFT: usize = 12 << 20;

/// Why the table cannot be used.
enum Trouble {
    Routes(RoutesError),
    Damaged(String),
}

impl From<RoutesError> for Trouble {
    fn from(failure: RoutesError) -> Self {
        Self::Routes(failure)
    }
}

fn raised(py: Python<'_>, trouble: &Trouble) -> PyErr {
    match trouble {
        Trouble::Routes(failure @ (RoutesError::Full { .. } | RoutesError::TooSmall)) => {
            error(py, "LanFull", &failure.to_string())
        }
        Trouble::Routes(failure) => PyValueError::new_err(failure.to_string()),
        Trouble::Damaged(why) => error(py, "VnetError", why),
    }
}

/// The route table of a LAN; made when the first route comes.
pub(crate) struct Table {
    lan: Arc<Lan>,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    layers: Option<Layers<'static>>,
    /// What lies outside lies in an image, and `layers` knows the routers' prefixes only.
    kept: bool,
    /// What covers the routers' prefixes, as the image tells: length and class.
    around: Option<BTreeMap<Prefix, Option<(u8, u16)>>>,
}

impl Standing {
    /// The layers, for changes: what lies in an image is copied out of it first.
    fn layers(&mut self, lan: &Lan) -> Result<&mut Layers<'static>, Trouble> {
        if self.layers.is_none() {
            let place = lan.routes_place();
            self.layers = Some(Layers::new(RouteWriter::new(place)?));
            lan.lead_to_routes(place.len());
        }
        let Some(layers) = &mut self.layers else { unreachable!("just made") };
        if self.kept {
            layers.replace(listed(lan)?)?;
            self.kept = false;
            self.around = None;
            lan.lead_to_routes(lan.routes_place().len());
        }
        Ok(layers)
    }

    /// The longest route outside that covers a prefix: its length and its class.
    fn covering(&mut self, lan: &Lan, prefix: Prefix) -> Result<Option<(u8, u16)>, Trouble> {
        let Some(layers) = &self.layers else { return Ok(None) };
        if !self.kept || !layers.is_own(prefix) {
            let found = self.layers(lan)?.covering(prefix);
            return Ok(found.map(|route| (route.prefix.length(), route.class)));
        }
        // The order is that of the image: prefixes of the routers that came or went would have had it copied out.
        let tell =
            |(number, own): (usize, Route)| (own.prefix, lpm::around(lan.segment().section(Section::Routes), number));
        let around = self.around.get_or_insert_with(|| layers.own().enumerate().map(tell).collect());
        Ok(around.get(&prefix).copied().flatten())
    }
}

/// What the image says that lies outside.
fn listed(lan: &Lan) -> Result<Vec<Route>, Trouble> {
    let listed = Listing::of(lan.segment().section(Section::Routes)).collect::<Result<_, _>>();
    listed.map_err(|failure| Trouble::Damaged(failure.to_string()))
}

impl Table {
    pub(crate) fn new(lan: Arc<Lan>) -> Self {
        Self { lan, standing: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the layers; `none` where there was no route yet.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        none: T,
        question: impl FnOnce(&Layers<'static>) -> T + Send,
    ) -> PyResult<T> {
        let answer = py.detach(|| {
            let mut standing = self.lock();
            if standing.layers.is_none() {
                return Ok(none);
            }
            standing.layers(&self.lan).map(|layers| question(layers))
        });
        answer.map_err(|trouble| raised(py, &trouble))
    }

    /// Changes the layers, and has senders compose their paths anew.
    fn change<T: Send>(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&mut Layers<'static>) -> Result<T, RoutesError> + Send,
    ) -> PyResult<T> {
        let changed = py.detach(|| {
            let mut standing = self.lock();
            let changed = standing.layers(&self.lan).and_then(|layers| Ok(change(layers)?));
            self.lan.bump_routing();
            changed
        });
        changed.map_err(|trouble| raised(py, &trouble))
    }

    /// Enters prefixes of the routers or changes their classes.
    pub(crate) fn insert_own(&self, py: Python<'_>, entries: &[(String, u16)]) -> PyResult<()> {
        let routes = entries.iter().map(|(text, class)| Ok(Route { prefix: prefix(text)?, class: *class }));
        let routes = routes.collect::<PyResult<Vec<_>>>()?;
        self.change(py, |layers| routes.into_iter().try_for_each(|route| layers.insert_own(route)))
    }

    /// Takes prefixes of the routers out.
    pub(crate) fn remove_own(&self, py: Python<'_>, prefixes: &[String]) -> PyResult<()> {
        let prefixes = prefixes.iter().map(|text| prefix(text)).collect::<PyResult<Vec<_>>>()?;
        self.change(py, |layers| prefixes.into_iter().try_for_each(|prefix| layers.remove_own(prefix)))
    }
}

fn prefix(text: &str) -> PyResult<Prefix> {
    text.parse().map_err(|failure: PrefixError| PyValueError::new_err(format!("{text:?} is no prefix: {failure}")))
}

fn told(route: Route) -> (String, u16) {
    (route.prefix.to_string(), route.class)
}

/// What lies outside of a LAN, behind its guests: the part of its route table that is not the routers' own.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Routes(Arc<Table>);

impl Routes {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self(table)
    }
}

#[pymethods]
impl Routes {
    /// Enters a prefix or changes its class; returns the class that it had, 0 for none, and whether a prefix of the
    /// routers is inside.
    #[pyo3(signature = (prefix, class_))]
    fn insert(&self, py: Python<'_>, prefix: &str, class_: u16) -> PyResult<(u16, bool)> {
        let prefix = self::prefix(prefix)?;
        self.0.change(py, |layers| {
            let before = layers.insert(Route { prefix, class: class_ })?;
            Ok((before.unwrap_or(0), layers.covers_own(prefix)))
        })
    }

    /// Takes a prefix out; returns as `insert` does.
    fn remove(&self, py: Python<'_>, prefix: &str) -> PyResult<(u16, bool)> {
        let prefix = self::prefix(prefix)?;
        self.0.change(py, |layers| Ok((layers.remove(prefix)?.unwrap_or(0), layers.covers_own(prefix))))
    }

    /// Enters the prefixes of a list, with the classes that there are for its words, IPv4 and IPv6; class 0 leaves out.
    /// Returns how many came, and whether prefixes of the routers are inside of one.
    fn extend(&self, py: Python<'_>, list: &RouteList, classes: Vec<(u16, u16)>) -> PyResult<(usize, bool)> {
        let routes = list.routes(&classes)?;
        self.0.change(py, |layers| {
            let covers = routes.iter().any(|route| layers.covers_own(route.prefix));
            let taken = routes.len();
            layers.extend(routes)?;
            Ok((taken, covers))
        })
    }

    /// Takes all prefixes of these classes out; returns how many there were.
    fn remove_classes(&self, py: Python<'_>, classes: Vec<u16>) -> PyResult<usize> {
        self.0.change(py, |layers| layers.remove_classes(&classes))
    }

    /// Takes all prefixes out.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.0.change(py, |layers| layers.replace(Vec::new()))
    }

    /// The class of exactly this prefix; 0 for none.
    fn get(&self, py: Python<'_>, prefix: &str) -> PyResult<u16> {
        let prefix = self::prefix(prefix)?;
        self.0.ask(py, 0, |layers| layers.get(prefix).unwrap_or(0))
    }

    /// What look-ups of an address find: the class and the prefix, and whether the prefix is the routers' own.
    fn look_up(&self, py: Python<'_>, address: &str) -> PyResult<Option<(u16, String, bool)>> {
        let address: IpAddr =
            address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is no IP address")))?;
        let host = Prefix::new(address, if address.is_ipv4() { 32 } else { 128 });
        let host = host.map_err(|failure| PyValueError::new_err(failure.to_string()))?;
        self.0.ask(py, None, |layers| {
            // The words themselves answer, as they do for senders; the prefix is what the routes say of them.
            let class = class_of(layers.writer().table(), address);
            let route = layers.writer().longest(host)?;
            Some((class, route.prefix.to_string(), layers.is_own(route.prefix)))
        })
    }

    /// What senders find for an address, in the segment or in the image; 0 for nothing.
    fn class_of(&self, address: &str) -> PyResult<u16> {
        let address: IpAddr =
            address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is no IP address")))?;
        Ok(class_of(RouteTable::new(self.0.lan.segment().section(Section::Routes)), address))
    }

    /// The longest prefix outside that has all of this one's addresses: its length and its class.
    fn covering(&self, py: Python<'_>, prefix: &str) -> PyResult<Option<(u8, u16)>> {
        let prefix = self::prefix(prefix)?;
        let found = py.detach(|| self.0.lock().covering(&self.0.lan, prefix));
        let found = found.map_err(|trouble| raised(py, &trouble))?;
        Ok(found)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        py.detach(|| {
            let standing = self.0.lock();
            match &standing.layers {
                Some(_) if standing.kept => Listing::length_of(self.0.lan.segment().section(Section::Routes)),
                Some(layers) => layers.len(),
                None => 0,
            }
        })
    }

    /// At most `count` prefixes with their classes, in order, from the one behind `after` on.
    #[pyo3(signature = (after, count))]
    fn page(&self, py: Python<'_>, after: Option<&str>, count: usize) -> PyResult<Vec<(String, u16)>> {
        let after = after.map(prefix).transpose()?;
        self.0.ask(py, Vec::new(), |layers| layers.routes_after(after).take(count).map(told).collect())
    }

    /// IPv4 and IPv6 routes of the whole table, the bytes that look-ups can touch, those up to the last block used.
    fn anatomy(&self, py: Python<'_>) -> PyResult<(u32, u32, u64, u64)> {
        self.0.ask(py, (0, 0, 0, 0), |layers| {
            let counted = layers.writer().anatomy();
            (counted.routes4, counted.routes6, counted.bytes, counted.extent)
        })
    }

    /// The routers' prefixes with their classes, in order: with what lies outside they make the table.
    fn own(&self, py: Python<'_>) -> Vec<(String, u16)> {
        py.detach(|| {
            let standing = self.0.lock();
            standing.layers.as_ref().map_or_else(Vec::new, |layers| layers.own().map(told).collect())
        })
    }

    /// The words of the table that a list would make of this one, if nothing lies outside so far.
    fn draft<'py>(&self, py: Python<'py>, list: &RouteList, classes: Vec<(u16, u16)>) -> PyResult<Bound<'py, PyBytes>> {
        let routes = list.routes(&classes)?;
        let words = py.detach(|| {
            let own: Vec<Route> = self.0.lock().layers.as_ref().map_or_else(Vec::new, |layers| layers.own().collect());
            let memory: Vec<AtomicU32> = (0..DRAFT).map(|_| AtomicU32::new(0)).collect();
            let mut layers = Layers::new(RouteWriter::new(&memory)?);
            own.into_iter().try_for_each(|route| layers.insert_own(route))?;
            let taken = routes.len();
            layers.replace(routes)?;
            Ok::<_, RoutesError>(layers.image(taken).iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>())
        });
        let words = words.map_err(|failure| raised(py, &failure.into()))?;
        Ok(PyBytes::new(py, &words))
    }

    /// How many prefixes the list had of which the image was made that the table lies in.
    fn taken(&self) -> usize {
        lpm::taken(self.0.lan.segment().section(Section::Routes))
    }

    /// Has senders go by a table that lies in an image: that of `draft`, with the routers' prefixes as they are.
    fn adopt(&self, py: Python<'_>, fd: i32, at: u64, words: usize) -> PyResult<()> {
        let file = duplicate(fd)?;
        let adopted = py.detach(|| {
            let mut standing = self.0.lock();
            // There are layers from now on, or nobody would know later that the image has something in it.
            standing.layers(&self.0.lan).map_err(Err)?;
            self.0.lan.adopt_image(Section::Routes, file, at, words).map_err(Ok)?;
            standing.kept = true;
            Ok(())
        });
        adopted.map_err(|failure: Result<_, Trouble>| match failure {
            Ok(failure) => lan_error(py, &failure),
            Err(trouble) => raised(py, &trouble),
        })
    }
}

fn class_of(table: RouteTable<'_>, address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(address) => table.look_up4(address.to_bits()),
        IpAddr::V6(address) => table.look_up6((address.to_bits() >> 64) as u64, address.to_bits() as u64),
    }
}

/// Prefixes that were read from text.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct RouteList(Text);

impl RouteList {
    /// The prefixes with the classes of their words, without those of class 0.
    fn routes(&self, classes: &[(u16, u16)]) -> PyResult<Vec<Route>> {
        if classes.len() != self.0.words.len() {
            return Err(PyValueError::new_err("there must be classes for each word"));
        }
        let routes = self.0.prefixes.iter().map(|&(prefix, word)| {
            let (class4, class6) = classes[word as usize];
            Route { prefix, class: if matches!(prefix, Prefix::V4(..)) { class4 } else { class6 } }
        });
        Ok(routes.filter(|route| route.class != 0).collect())
    }
}

#[pymethods]
impl RouteList {
    /// Reads one prefix a line, and behind it perhaps a word; the exception has line and reason as its arguments.
    #[new]
    fn new(py: Python<'_>, text: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let bytes = text.as_bytes();
        let read = py.detach(|| Text::read(bytes));
        read.map(Self).map_err(|failure| PyValueError::new_err((failure.line, failure.message)))
    }

    /// The words, the first one for lines without, each with the lines where it first stands behind an IPv4 and an IPv6
    /// prefix, 0 for nowhere.
    fn words(&self) -> Vec<(&str, usize, usize)> {
        self.0.words.iter().map(|word| (word.text.as_str(), word.line4, word.line6)).collect()
    }
}
