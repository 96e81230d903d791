//! What `vnet_base::explain` says, as the dictionaries that `vnet/explain.py` makes sentences of.

use core::net::IpAddr;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use vnet_base::buffer::Outlook;
use vnet_base::explain::{Answer, Explanation, Flaw, Header, LookUp, Place, Ring, Rule, Write};
use vnet_base::foresee::{Journey, Stop};
use vnet_base::path::{End, Refusal};
use vnet_base::tables::NicState;

use super::verdict_object;

/// A dictionary of these names and values.
macro_rules! dict {
    ($py:expr; $($name:literal: $value:expr),* $(,)?) => {{
        let dict = PyDict::new($py);
        $(dict.set_item($name, $value)?;)*
        dict
    }};
}

pub(crate) fn as_dict<'py>(py: Python<'py>, length: usize, told: &Explanation) -> PyResult<Bound<'py, PyDict>> {
    let rules = told.rules.iter().map(|rule| rule_dict(py, rule)).collect::<PyResult<Vec<_>>>()?;
    let writes = told.writes.iter().map(|write| write_dict(py, write)).collect::<PyResult<Vec<_>>>()?;
    Ok(dict! {py;
        "length": length,
        "verdict": verdict_object(py, told.verdict)?,
        "header": told.read.as_ref().ok().map(|header| header_dict(py, header)).transpose()?,
        "flaw": told.read.err().map(|flaw| flaw_dict(py, flaw)).transpose()?,
        "look_up": told.look_up.map(|look_up| look_up_dict(py, &look_up)).transpose()?,
        "rules": PyList::new(py, rules)?,
        "writes": PyList::new(py, writes)?,
        "journey": told.journey.as_ref().map(|journey| journey_dict(py, journey)).transpose()?,
        "answer": told.answer.as_ref().map(|answer| answer_dict(py, answer)).transpose()?,
    })
}

fn journey_dict<'py>(py: Python<'py>, journey: &Journey) -> PyResult<Bound<'py, PyDict>> {
    let stops = journey.stops.iter().map(|stop| stop_dict(py, stop)).collect::<PyResult<Vec<_>>>()?;
    Ok(dict! {py; "stops": PyList::new(py, stops)?, "end": end_dict(py, journey.end)?})
}

fn stop_dict<'py>(py: Python<'py>, stop: &Stop) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict! {py;
        "router": stop.router.0,
        "into": stop.into.map(|port| port.0),
        "out": stop.out.map(|port| port.0),
        "ttl": stop.ttl,
        "mtu": stop.mtu,
        "cut": stop.cut,
    })
}

fn end_dict(py: Python<'_>, end: End) -> PyResult<Bound<'_, PyDict>> {
    Ok(match end {
        End::Nic { network, address } => {
            let address = IpAddr::from(address).to_string();
            dict! {py; "kind": "nic", "network": network.0, "address": address}
        }
        End::Guest(slot) => dict! {py; "kind": "guest", "slot": slot.0},
        End::Router(..) => dict! {py; "kind": "router"},
        End::Refused(.., refusal) => {
            let why = match refusal {
                Refusal::NoRoute => "no_route",
                Refusal::Unreachable => "unreachable",
                Refusal::Prohibited => "prohibit",
                Refusal::Blackhole => "blackhole",
            };
            dict! {py; "kind": "refused", "why": why}
        }
        End::Nobody => dict! {py; "kind": "nobody"},
        End::Circle => dict! {py; "kind": "circle"},
        End::Elsewhere => dict! {py; "kind": "elsewhere"},
    })
}

fn answer_dict<'py>(py: Python<'py>, answer: &Answer) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict! {py;
        "router": answer.router.map(|router| router.0),
        "datagram": PyBytes::new(py, &answer.datagram),
    })
}

fn flaw_dict(py: Python<'_>, flaw: Flaw) -> PyResult<Bound<'_, PyDict>> {
    Ok(match flaw {
        Flaw::TooLong { most } => dict! {py; "kind": "too_long", "most": most},
        Flaw::Empty => dict! {py; "kind": "empty"},
        Flaw::Version(version) => dict! {py; "kind": "version", "version": version},
        Flaw::Cut { version, needs } => dict! {py; "kind": "cut", "version": version, "needs": needs},
    })
}

fn header_dict<'py>(py: Python<'py>, header: &Header) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict! {py;
        "version": header.version,
        "header_bytes": header.header_bytes,
        "claimed": header.claimed,
        "protocol": header.protocol,
        "hops": header.hops,
        "source": header.source.to_string(),
        "destination": header.destination.to_string(),
        "checksum": header.checksum,
    })
}

fn look_up_dict<'py>(py: Python<'py>, look_up: &LookUp) -> PyResult<Bound<'py, PyDict>> {
    let row = look_up.row.map(|row| {
        let state = match row.state {
            NicState::Up => "up",
            NicState::Down => "down",
            NicState::Free => "free",
        };
        Ok::<_, PyErr>(
            dict! {py; "bucket": row.bucket, "slot": row.slot.0, "generation": row.generation, "state": state},
        )
    });
    Ok(dict! {py;
        "network": look_up.network.0,
        "bucket": look_up.bucket,
        "buckets": look_up.buckets,
        "row": row.transpose()?,
        "everyone": look_up.everyone,
        "bridged": look_up.bridged,
        "gateway": look_up.gateway.map(|slot| slot.0),
        "refused": look_up.refused.map(|verdict| verdict_object(py, verdict)).transpose()?,
    })
}

fn rule_dict<'py>(py: Python<'py>, rule: &Rule) -> PyResult<Bound<'py, PyDict>> {
    Ok(match rule {
        Rule::Mtu { most, kept } => dict! {py; "rule": "mtu", "most": most, "kept": kept},
        Rule::Filter { place, finding } => {
            let (kind, identity, direction) = match place {
                Place::In(slot) => ("nic", slot.0, "in"),
                Place::Out(slot) => ("nic", slot.0, "out"),
                Place::Network(network) => ("network", network.0, "in"),
            };
            dict! {py;
                "rule": "filter",
                "kind": kind,
                "identity": identity,
                "direction": direction,
                "matched": finding.rule,
                "says": finding.judgement as u32,
                "kept": rule.kept(),
            }
        }
    })
}

fn write_dict<'py>(py: Python<'py>, write: &Write) -> PyResult<Bound<'py, PyDict>> {
    let (ring, worker) = match write.ring {
        None => (None, None),
        Some(Ring::Nobody) => (Some("nobody"), None),
        Some(Ring::Guest) => (Some("guest"), None),
        Some(Ring::Worker(worker)) => (Some("worker"), Some(worker)),
    };
    Ok(dict! {py;
        "slot": write.slot.0,
        "generation": write.generation,
        "buffer": write.buffer.map(|buffer| buffer_dict(py, &buffer)).transpose()?,
        "verdict": verdict_object(py, write.verdict)?,
        "ring": ring,
        "worker": worker,
    })
}

fn buffer_dict<'py>(py: Python<'py>, buffer: &Outlook) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict! {py;
        "size": buffer.size,
        "used": buffer.used,
        "needed": buffer.needed,
        "fits": buffer.fits,
        "locked": buffer.owner.is_some(),
    })
}
