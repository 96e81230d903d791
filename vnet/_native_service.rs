//! The binding of services on built-in hosts.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vnet_base::tables::SlotId;
use vnet_drivers::service::{Action, Offer, Service as Served, Standing};
use vnet_drivers::stack::OpenError;

use super::{Base, HostCalls, error};

/// How long a host may take to turn to what was asked of it: its worker serves many.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service of a built-in host.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Service {
    service: Arc<Served>,
    slot: SlotId,
}

/// Offers a service on a host's port; `text` is what HTTP answers.
#[pyfunction]
pub(crate) fn offer(
    py: Python<'_>,
    base: &Base,
    host: &HostCalls,
    tcp: bool,
    port: u16,
    action: &str,
    text: &[u8],
) -> PyResult<Service> {
    let action = match action {
        "discard" => Action::Discard,
        "echo" => Action::Echo,
        "http" => Action::Http(text.into()),
        _ => return Err(PyValueError::new_err("action is discard, echo or http")),
    };
    let (app, service) = Served::start(Offer { tcp, port, action });
    host.inbox.run(app);
    base.worker(0).call(host.slot);
    match py.detach(|| service.wait(PATIENCE)) {
        Standing::Open => Ok(Service { service, slot: host.slot }),
        Standing::Failed(failure @ OpenError::Taken(_)) => Err(error(py, "PortTaken", &failure.to_string())),
        Standing::Failed(failure) => Err(error(py, "VnetError", &failure.to_string())),
        Standing::Over => Err(error(py, "NicClosed", "the host is off the LAN")),
        Standing::Starting => Err(error(py, "VnetError", "the host did not take the service up in time")),
    }
}

/// Ends a service. True once it has ended: its port is free.
#[pyfunction]
pub(crate) fn withdraw(py: Python<'_>, base: &Base, service: &Service) -> bool {
    service.service.end();
    base.worker(0).call(service.slot);
    py.detach(|| service.service.wait_over(PATIENCE))
}
