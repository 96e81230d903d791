//! The binding of the route table: the routers' own prefixes, and what `vnet/routes.py` says of what lies outside.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_base::Lan;
use vnet_base::tables::lpm::{Layers, Prefix, PrefixError, Route, RouteWriter, RoutesError, Text};

use super::error;

/// The route table of a LAN; made when the first route comes.
pub(crate) struct Table {
    lan: Arc<Lan>,
    layers: Mutex<Option<Layers<'static>>>,
}

impl Table {
    pub(crate) fn new(lan: Arc<Lan>) -> Self {
        Self { lan, layers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Layers<'static>>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the layers; `none` where there was no route yet.
    fn ask<T>(&self, py: Python<'_>, none: T, question: impl FnOnce(&Layers<'static>) -> T + Send) -> T
    where
        T: Send,
    {
        py.detach(|| match &*self.lock() {
            Some(layers) => question(layers),
            None => none,
        })
    }

    /// Changes the layers, and has senders compose their paths anew.
    fn change<T>(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&mut Layers<'static>) -> Result<T, RoutesError> + Send,
    ) -> PyResult<T>
    where
        T: Send,
    {
        let changed = py.detach(|| {
            let mut guard = self.lock();
            if guard.is_none() {
                let place = self.lan.routes_place();
                *guard = Some(Layers::new(RouteWriter::new(place)?));
                self.lan.lead_to_routes(place.len());
            }
            let changed = guard.as_mut().map(change).transpose();
            self.lan.bump_routing();
            changed
        });
        match changed {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(error(py, "VnetError", "the route table could not be made")),
            Err(RoutesError::NoClass) => Err(PyValueError::new_err(RoutesError::NoClass.to_string())),
            Err(failure) => Err(error(py, "LanFull", &failure.to_string())),
        }
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
    /// Enters a prefix or changes its class; returns the class that it had, 0 for none.
    #[pyo3(signature = (prefix, class_))]
    fn insert(&self, py: Python<'_>, prefix: &str, class_: u16) -> PyResult<u16> {
        let route = Route { prefix: self::prefix(prefix)?, class: class_ };
        Ok(self.0.change(py, |layers| layers.insert(route))?.unwrap_or(0))
    }

    /// Takes a prefix out; returns the class that it had, 0 for none.
    fn remove(&self, py: Python<'_>, prefix: &str) -> PyResult<u16> {
        let prefix = self::prefix(prefix)?;
        Ok(self.0.change(py, |layers| layers.remove(prefix))?.unwrap_or(0))
    }

    /// Enters the prefixes of a list, each with the class that `classes` has for its word.
    fn extend(&self, py: Python<'_>, list: &RouteList, classes: Vec<u16>) -> PyResult<()> {
        if classes.len() != list.0.words.len() {
            return Err(PyValueError::new_err("there must be a class for each word"));
        }
        self.0.change(py, |layers| {
            let routes = list.0.prefixes.iter().map(|(prefix, word)| {
                let class = classes.get(*word as usize).copied().unwrap_or(0);
                Route { prefix: *prefix, class }
            });
            layers.extend(routes.collect())
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
        Ok(self.0.ask(py, 0, |layers| layers.get(prefix).unwrap_or(0)))
    }

    /// What look-ups of an address find: the class and the prefix, and whether the prefix is the routers' own.
    fn look_up(&self, py: Python<'_>, address: &str) -> PyResult<Option<(u16, String, bool)>> {
        let address: IpAddr =
            address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is no IP address")))?;
        let host = Prefix::new(address, if address.is_ipv4() { 32 } else { 128 });
        let host = host.map_err(|failure| PyValueError::new_err(failure.to_string()))?;
        Ok(self.0.ask(py, None, |layers| {
            // The words themselves answer, as they do for senders; the prefix is what the routes say of them.
            let table = layers.writer().table();
            let class = match address {
                IpAddr::V4(address) => table.look_up4(address.to_bits()),
                IpAddr::V6(address) => table.look_up6((address.to_bits() >> 64) as u64, address.to_bits() as u64),
            };
            let route = layers.writer().longest(host)?;
            Some((class, route.prefix.to_string(), layers.is_own(route.prefix)))
        }))
    }

    /// The longest prefix outside that has all of this one's addresses: its length and its class.
    fn covering(&self, py: Python<'_>, prefix: &str) -> PyResult<Option<(u8, u16)>> {
        let prefix = self::prefix(prefix)?;
        Ok(self.0.ask(py, None, |layers| layers.covering(prefix).map(|route| (route.prefix.length(), route.class))))
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.0.ask(py, 0, Layers::len)
    }

    /// At most `count` prefixes with their classes, in order, from the one behind `after` on.
    #[pyo3(signature = (after, count))]
    fn page(&self, py: Python<'_>, after: Option<&str>, count: usize) -> PyResult<Vec<(String, u16)>> {
        let after = after.map(prefix).transpose()?;
        Ok(self.0.ask(py, Vec::new(), |layers| layers.routes_after(after).take(count).map(told).collect()))
    }

    /// IPv4 and IPv6 routes of the whole table, the bytes that look-ups can touch, those up to the last block used.
    fn anatomy(&self, py: Python<'_>) -> (u32, u32, u64, u64) {
        self.0.ask(py, (0, 0, 0, 0), |layers| {
            let counted = layers.writer().anatomy();
            (counted.routes4, counted.routes6, counted.bytes, counted.extent)
        })
    }
}

/// Prefixes that were read from text.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct RouteList(Text);

#[pymethods]
impl RouteList {
    /// Reads one prefix a line, and behind it perhaps a word; the exception has line and reason as its arguments.
    #[new]
    fn new(py: Python<'_>, text: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let bytes = text.as_bytes();
        let read = py.detach(|| Text::read(bytes));
        read.map(Self).map_err(|failure| PyValueError::new_err((failure.line, failure.message)))
    }

    fn __len__(&self) -> usize {
        self.0.prefixes.len()
    }

    /// The words, each with the line in which it comes first; the first one is "" with the line of the first prefix
    /// that has none, or 0.
    fn words(&self) -> Vec<(String, usize)> {
        self.0.words.clone()
    }

    /// The prefixes that one of these is: the first of them that the list has, and its line number among prefixes.
    fn first_of(&self, prefixes: Vec<String>) -> PyResult<Option<(String, usize)>> {
        let wanted = prefixes.iter().map(|text| prefix(text)).collect::<PyResult<std::collections::BTreeSet<_>>>()?;
        let found = self.0.prefixes.iter().position(|(prefix, _)| wanted.contains(prefix));
        Ok(found.map(|index| (self.0.prefixes[index].0.to_string(), index)))
    }
}
