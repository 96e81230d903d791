//! The binding of the measuring loops of `vnet bench`.

use std::fs::File;
use std::os::fd::AsFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use vnet_bench::{bare, ours, sockets};

use super::duplicate;
use super::port::Port;

/// The memory that the two processes of a measurement share, and the halves of the measurements.
///
/// Each call is one half; the peer process makes the other at the same time. Results are in seconds, or in seconds a
/// round trip, or datagrams a second for sockets. Raises `RuntimeError` when the peer does not do its part.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Arena(vnet_bench::arena::Arena);

#[pymethods]
impl Arena {
    #[new]
    fn new(file: i32) -> PyResult<Self> {
        Ok(Self(vnet_bench::arena::Arena::map(&File::from(duplicate(file)?))?))
    }

    fn ring_send(&self, py: Python<'_>, datagram: &[u8], count: u64) -> PyResult<()> {
        py.detach(|| bare::ring_send(&self.0, datagram, count)).map_err(peer_lost)
    }

    fn ring_receive(&self, py: Python<'_>, size: usize, count: u64) -> PyResult<f64> {
        py.detach(|| bare::ring_receive(&self.0, size, count)).map_err(peer_lost)
    }

    fn line_ping_pong(&self, py: Python<'_>, first: bool, count: u64) -> PyResult<f64> {
        py.detach(|| bare::line_ping_pong(&self.0, first, count)).map_err(peer_lost)
    }

    fn futex_ping_pong(&self, py: Python<'_>, first: bool, count: u32) -> PyResult<f64> {
        py.detach(|| bare::futex_ping_pong(&self.0, first, count)).map_err(peer_lost)
    }

    fn lan_send(&self, py: Python<'_>, port: &Port, datagram: &[u8], count: u64) -> PyResult<()> {
        let work = || port.ring.with_ends(|sender, _| ours::stream_send(&self.0, sender, datagram, count));
        py.detach(work).map_err(peer_lost)
    }

    fn lan_receive(&self, py: Python<'_>, port: &Port, size: usize, count: u64) -> PyResult<f64> {
        let work = || port.ring.with_ends(|_, receiver| ours::stream_receive(&self.0, receiver, size, count));
        py.detach(work).map_err(peer_lost)
    }

    fn lan_round_trips(
        &self,
        py: Python<'_>,
        port: &Port,
        datagram: &[u8],
        first: bool,
        sleep: bool,
        count: u64,
    ) -> PyResult<f64> {
        let work = || {
            port.ring.with_ends(|sender, receiver| {
                ours::round_trips(&self.0, sender, receiver, datagram, first, sleep, count)
            })
        };
        py.detach(work).map_err(peer_lost)
    }

    fn socket_send(&self, py: Python<'_>, socket: i32, datagram: &[u8], count: u64) -> PyResult<()> {
        let socket = duplicate(socket)?;
        py.detach(|| sockets::stream_send(&self.0, socket.as_fd(), datagram, count)).map_err(peer_lost)
    }

    fn socket_receive(&self, py: Python<'_>, socket: i32, size: usize, count: u64) -> PyResult<f64> {
        let socket = duplicate(socket)?;
        py.detach(|| sockets::stream_receive(&self.0, socket.as_fd(), size, count)).map_err(peer_lost)
    }

    fn socket_round_trips(
        &self,
        py: Python<'_>,
        socket: i32,
        datagram: &[u8],
        first: bool,
        count: u64,
    ) -> PyResult<f64> {
        let socket = duplicate(socket)?;
        py.detach(|| sockets::round_trips(&self.0, socket.as_fd(), datagram, first, count)).map_err(peer_lost)
    }

    /// Waits until the peer is here too.
    fn gate(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.gate()).map_err(peer_lost)
    }
}

fn peer_lost(_: vnet_bench::PeerLost) -> PyErr {
    PyRuntimeError::new_err("the other process of the measurement did not do its part in time")
}
