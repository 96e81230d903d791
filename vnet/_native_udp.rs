//! The binding of UDP sockets on a process's stack.

use std::net::SocketAddr;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_drivers::stack::process::{ProcessStack, Watched};
use vnet_drivers::stack::{Stack as Core, Udp, UdpError};

use super::stack::{
    Address, Holder, Mirror, address_of, closed, os_error, piece, release, remote_of, too_late, trouble, using, wait,
    watch,
};

/// A UDP port.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct UdpSocket {
    pub(super) stack: Arc<ProcessStack>,
    pub(super) udp: Holder<Udp>,
    pub(super) at: SocketAddr,
}

#[pymethods]
impl UdpSocket {
    fn sendto(&self, data: &Bound<'_, PyAny>, address: Address, timeout: Option<f64>) -> PyResult<usize> {
        let py = data.py();
        let remote = remote_of(address)?;
        let piece = piece(data, 0)?;
        let bytes = piece.as_bytes();
        let holder = &self.udp;
        let sent =
            wait(py, &self.stack, timeout, |stack| match using(holder, |udp| stack.send_to(udp, bytes, remote)) {
                Some(Err(UdpError::Full)) => None,
                Some(result) => Some(Some(result)),
                None => Some(None),
            })?;
        match sent.ok_or_else(|| too_late(timeout))?.ok_or_else(closed)? {
            Ok(()) => Ok(bytes.len()),
            Err(UdpError::TooLong) => Err(os_error(libc::EMSGSIZE)),
            Err(UdpError::Full) => Err(os_error(libc::EAGAIN)),
            Err(UdpError::Unaddressable) => {
                Err(os_error(if remote.port() == 0 { libc::EINVAL } else { libc::ENETUNREACH }))
            }
        }
    }

    fn recvfrom<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        timeout: Option<f64>,
    ) -> PyResult<(Bound<'py, PyBytes>, Address)> {
        let holder = &self.udp;
        let came = wait(py, &self.stack, timeout, |stack| {
            let take = |payload: &[u8], remote| (payload[..payload.len().min(size)].to_vec(), remote);
            match using(holder, |udp| stack.take_from(udp, take)) {
                Some(None) => None,
                Some(Some(datagram)) => Some(Some(datagram)),
                None => Some(None),
            }
        })?;
        let (payload, remote) = came.ok_or_else(|| too_late(timeout))?.ok_or_else(closed)?;
        Ok((PyBytes::new(py, &payload), address_of(remote)))
    }

    fn local(&self) -> Address {
        address_of(self.at)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.give_back());
    }

    fn ready(&self, py: Python<'_>) -> PyResult<(bool, bool)> {
        let look = |stack: &mut Core| using(&self.udp, |udp| stack.udp_ready(udp));
        py.detach(|| self.stack.with(look)).map_err(|why| trouble(py, why))?.ok_or_else(closed)
    }

    fn show_on(&self, py: Python<'_>, mirror: &Mirror) -> PyResult<()> {
        watch(py, &self.stack, &self.udp, mirror, Watched::udp)
    }
}

impl UdpSocket {
    fn give_back(&self) {
        if let Some(udp) = release(&self.stack, &self.udp) {
            let _ = self.stack.with(|stack| stack.close_udp(udp));
            self.stack.tell();
        }
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.give_back();
    }
}
