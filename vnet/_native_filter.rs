//! The binding of filters: rules become words, and words those of a LAN.

use std::net::IpAddr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_base::filter::machine::Program;
use vnet_base::filter::table::{Addresses, Protocols, Set, Table};
use vnet_base::filter::words::{self, Draft, MOST_RULES, MOST_WORDS};
use vnet_base::filter::{Filter, Judgement};
use vnet_base::routing::Section;
use vnet_base::tables::{NetworkId, SlotId};
use vnet_base::{Lan, LanError};

use super::{Base, lan_error};

/// A prefix: an address and its length in bits.
type Prefix = (String, u8);
/// The first and the last of a range of ports.
type Ports = Vec<(u16, u16)>;
/// A table as Python writes it: from, to, protocols, from_ports, ports.
type Columns = (Option<Vec<Prefix>>, Option<Vec<Prefix>>, Option<Vec<u8>>, Option<Ports>, Option<Ports>);

/// The match of a rule as Python writes it; `None` matches everything.
#[derive(FromPyObject)]
enum Written<'py> {
    Program(Bound<'py, PyBytes>),
    Table(Columns),
}

/// A filter that was compiled and checked.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Rules {
    words: Vec<u32>,
    filter: Filter,
}

#[pymethods]
impl Rules {
    #[new]
    fn new(rules: Vec<(u32, Option<Written<'_>>)>, otherwise: u32) -> PyResult<Self> {
        if rules.len() > MOST_RULES {
            return Err(PyValueError::new_err(format!("a filter has at most {MOST_RULES} rules, not {}", rules.len())));
        }
        let mut drafts = Vec::with_capacity(rules.len());
        for (index, (says, written)) in rules.iter().enumerate() {
            let draft = match written {
                None => Draft::Everything,
                Some(Written::Program(bytes)) => {
                    // Here the error can say which rule it is.
                    let bytes = bytes.as_bytes();
                    Program::new(bytes)
                        .map_err(|wrong| PyValueError::new_err(format!("rule {}: {wrong}", index + 1)))?;
                    Draft::Program(bytes)
                }
                Some(Written::Table(columns)) => Draft::Table(table(columns)?),
            };
            drafts.push((judgement(*says)?, draft));
        }
        let words = words::write(&drafts, judgement(otherwise)?);
        if words.len() > MOST_WORDS {
            return Err(PyValueError::new_err(format!(
                "the filter is too large: compiled it has {} bytes, of {} at most",
                words.len() * 4,
                MOST_WORDS * 4
            )));
        }
        let filter = Filter::read(&words).ok_or_else(|| PyValueError::new_err("the filter does not compile"))?;
        Ok(Self { words, filter })
    }

    /// The compiled form.
    fn words<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        PyBytes::new(py, &bytes)
    }

    /// What it says of a datagram, and by which rule.
    fn judge(&self, datagram: &[u8]) -> (u32, Option<u32>) {
        let found = self.filter.judge(datagram);
        (found.judgement as u32, found.rule)
    }
}

fn judgement(number: u32) -> PyResult<Judgement> {
    match number {
        0 => Ok(Judgement::Allow),
        1 => Ok(Judgement::Deny),
        2 => Ok(Judgement::Reject),
        _ => Err(PyValueError::new_err("0 allows, 1 denies, 2 rejects")),
    }
}

fn table((from, to, protocols, from_ports, ports): &Columns) -> PyResult<Table> {
    let set = |ports: &Ports| Set::of(ports.iter().map(|(first, last)| (u32::from(*first), u32::from(*last))));
    Ok(Table {
        from: from.as_deref().map(addresses).transpose()?,
        to: to.as_deref().map(addresses).transpose()?,
        protocols: protocols.as_deref().map(Protocols::of),
        from_ports: from_ports.as_ref().map(set),
        ports: ports.as_ref().map(set),
    })
}

fn addresses(prefixes: &[Prefix]) -> PyResult<Addresses> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (text, bits) in prefixes {
        let wrong = || PyValueError::new_err(format!("{text}/{bits} is not a prefix"));
        match text.parse().map_err(|_| wrong())? {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr((*bits).into()).unwrap_or(0);
                if *bits > 32 {
                    return Err(wrong());
                }
                v4.push((address.to_bits() & !hosts, address.to_bits() | hosts));
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr((*bits).into()).unwrap_or(0);
                if *bits > 128 {
                    return Err(wrong());
                }
                v6.push((address.to_bits() & !hosts, address.to_bits() | hosts));
            }
        }
    }
    Ok(Addresses { v4: Set::of(v4), v6: Set::of(v6) })
}

/// Replaces the filters of a LAN; a filter's number is its place in the list. `serial` is another than the last time.
///
/// False where they do not fit.
#[pyfunction]
pub(crate) fn publish_filters(
    py: Python<'_>,
    base: &Base,
    serial: u32,
    filters: Vec<Option<Py<Rules>>>,
) -> PyResult<bool> {
    let words: Vec<_> = filters.iter().map(|filter| filter.as_ref().map(|rules| &rules.get().words[..])).collect();
    let lan: &Lan = &base.lan;
    match py.detach(|| lan.publish(Section::Filters, &words::section(serial, &words))) {
        Ok(()) => Ok(true),
        Err(LanError::Sections) => Ok(false),
        Err(failure) => Err(lan_error(py, &failure)),
    }
}

/// Says which filters a NIC has, inward and outward, by their numbers plus one; 0 for none. False where it has left.
#[pyfunction]
pub(crate) fn set_nic_filters(base: &Base, slot: u16, generation: u32, inward: u16, outward: u16) -> bool {
    base.lan.set_filters(SlotId(slot), generation, inward, outward)
}

/// Says which filter a network has, by its number plus one; 0 for none.
#[pyfunction]
pub(crate) fn set_network_filter(base: &Base, network: u16, filter: u16) {
    base.lan.set_network_filter(NetworkId(network), filter.into());
}
