//! The binding of the measuring loops of `vnet bench`.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use vnet_base::tables::lpm::{Prefix, Text};
use vnet_bench::routes::{Which, Who};
use vnet_bench::{bare, ours, pipes, queues, routes, sockets};

use super::duplicate;
use super::pipe::PipeEnd;
use super::port::Port;
use super::queue::QueueEnd;
use super::taker::Taker;

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

    fn copies_send(&self, py: Python<'_>, ring: usize, piece: &[u8], count: u64) -> PyResult<()> {
        py.detach(|| bare::copies_send(&self.0, ring, piece, count)).map_err(peer_lost)
    }

    fn copies_receive(&self, py: Python<'_>, ring: usize, size: usize, count: u64) -> PyResult<f64> {
        py.detach(|| bare::copies_receive(&self.0, ring, size, count)).map_err(peer_lost)
    }

    fn bytes_send(&self, py: Python<'_>, socket: i32, piece: &[u8], count: u64) -> PyResult<()> {
        let socket = duplicate(socket)?;
        py.detach(|| sockets::bytes_send(&self.0, socket.as_fd(), piece, count)).map_err(peer_lost)
    }

    fn bytes_receive(&self, py: Python<'_>, socket: i32, size: usize, count: u64) -> PyResult<f64> {
        let socket = duplicate(socket)?;
        py.detach(|| sockets::bytes_receive(&self.0, socket.as_fd(), size, count)).map_err(peer_lost)
    }

    fn pipe_send(&self, py: Python<'_>, pipe: &PipeEnd, piece: &[u8], count: u64) -> PyResult<()> {
        let end = pipe.open_end(py)?;
        py.detach(|| pipes::stream_send(&self.0, &end, piece, count)).map_err(peer_lost)
    }

    fn pipe_receive(&self, py: Python<'_>, pipe: &PipeEnd, size: usize, count: u64) -> PyResult<f64> {
        let end = pipe.open_end(py)?;
        py.detach(|| pipes::stream_receive(&self.0, &end, size, count)).map_err(peer_lost)
    }

    fn pipe_round_trips(
        &self,
        py: Python<'_>,
        pipe: &PipeEnd,
        message: &[u8],
        first: bool,
        count: u64,
    ) -> PyResult<f64> {
        let end = pipe.open_end(py)?;
        py.detach(|| pipes::round_trips(&self.0, &end, message, first, count)).map_err(peer_lost)
    }

    fn queue_round_trips(
        &self,
        py: Python<'_>,
        queue: &QueueEnd,
        taker: &Taker,
        item: &[u8],
        first: bool,
        count: u64,
    ) -> PyResult<f64> {
        let poster = queue.poster().ok_or_else(|| PyRuntimeError::new_err("the queue is closed"))?;
        let work = || {
            taker.with_worker(|worker, desk| queues::round_trips(&self.0, &poster, worker, desk, item, first, count))
        };
        py.detach(work).map_err(peer_lost)
    }

    /// Ends this half's loops, now and from now on: its peer has died.
    fn lose(&self) {
        self.0.lose();
    }

    /// Waits until the peer is here too.
    fn gate(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.gate()).map_err(peer_lost)
    }
}

fn peer_lost(_: vnet_bench::PeerLost) -> PyErr {
    PyRuntimeError::new_err("the other process of the measurement did not do its part in time")
}

/// Look-ups in the route table, and in plain DIR-24-8 arrays of the same routes.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct RouteBench {
    bench: Mutex<routes::RouteBench>,
    compiled: f64,
}

#[pymethods]
impl RouteBench {
    /// Of a list of prefixes, each with one of so many classes.
    #[new]
    fn new(py: Python<'_>, text: &[u8], classes: u16) -> PyResult<Self> {
        let made = py.detach(|| {
            let text = Text::read(text).map_err(|failure| format!("line {}: {failure}", failure.line))?;
            let prefixes: Vec<Prefix> = text.prefixes.into_iter().map(|(prefix, _)| prefix).collect();
            routes::RouteBench::new(&prefixes, classes)
        });
        let (bench, took) = made.map_err(PyRuntimeError::new_err)?;
        Ok(Self { bench: Mutex::new(bench), compiled: took.as_secs_f64() })
    }

    /// Seconds to lay the table out.
    #[getter]
    fn compiled(&self) -> f64 {
        self.compiled
    }

    /// IPv4 and IPv6 routes, bytes of the table, of the array with cells of 32 bits and of that with 16.
    fn sizes(&self) -> (u32, u32, u64, u64, u64) {
        let bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
        let (counted, arrays) = (bench.anatomy(), bench.array_bytes());
        (counted.routes4, counted.routes6, counted.bytes, arrays.0, arrays.1)
    }

    /// Seconds for so many look-ups one after the other, and the sum of the classes found.
    fn look_up(&self, py: Python<'_>, who: &str, which: &str, count: u64) -> PyResult<(f64, u64)> {
        let unknown = || PyRuntimeError::new_err("no such look-up");
        let who = match who {
            "ours" => Who::Ours,
            "array32" => Who::Array32,
            "array16" => Who::Array16,
            _ => return Err(unknown()),
        };
        let which = match which {
            "any4" => Which::Any4,
            "routed4" => Which::Routed4,
            "routed6" => Which::Routed6,
            _ => return Err(unknown()),
        };
        Ok(py.detach(|| self.bench.lock().unwrap_or_else(PoisonError::into_inner).look_up(who, which, count)))
    }

    /// Look-ups a second without another thread, beside one that changes nothing, and beside one that changes routes;
    /// and changes a second.
    fn update(
        &self,
        py: Python<'_>,
        processors: (usize, usize),
        rate: u64,
        seconds: f64,
        rounds: usize,
    ) -> PyResult<(Vec<[f64; 3]>, f64)> {
        let length = Duration::try_from_secs_f64(seconds).map_err(|why| PyRuntimeError::new_err(why.to_string()))?;
        let work = || {
            let mut bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
            bench.update(processors, rate, length, rounds)
        };
        py.detach(work).map_err(PyRuntimeError::new_err)
    }
}
