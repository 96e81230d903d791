//! Calls to built-in hosts: echo requests under way, and what came of them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;

use vnet_base::tables::SlotId;
use vnet_drivers::host::HostInbox;
use vnet_drivers::ping::{Answer, PingRun as Run};

use super::{seconds, verdict_object};

/// A built-in host, for calls to it.
#[pyclass(frozen, module = "vnet._native")]
pub(super) struct HostCalls {
    pub(super) inbox: Arc<HostInbox>,
    pub(super) sources: Vec<IpAddr>,
    pub(super) slot: SlotId,
    pub(super) ident: Mutex<u16>,
}

/// Echo requests under way.
#[pyclass(frozen, module = "vnet._native")]
pub(super) struct PingRun(pub(super) Arc<Run>);

#[pymethods]
impl PingRun {
    /// Round-trip times in seconds, or what came instead; `None` when not all are settled within `timeout` seconds.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Vec<Py<PyAny>>>> {
        let timeout = seconds("timeout", Some(timeout))?.unwrap_or(Duration::MAX);
        let Some(answers) = py.detach(|| self.0.wait(timeout)) else { return Ok(None) };
        let objects = answers.iter().map(|answer| match answer {
            Answer::Reply(nanoseconds) => Ok((*nanoseconds as f64 / 1e9).into_pyobject(py)?.into_any().unbind()),
            Answer::Verdict(verdict) => verdict_object(py, *verdict),
            Answer::Error(name, from) => Ok(PyString::new(py, &format!("{name} from {from}")).into_any().unbind()),
            Answer::Lost | Answer::Pending => Ok(py.None()),
        });
        objects.collect::<PyResult<Vec<_>>>().map(Some)
    }
}
