//! The binding of a process's NIC.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use vnet_base::Verdict;
use vnet_base::receiver::Spin;
use vnet_base::tables::SlotId;
use vnet_drivers::ring::{Ring, Slice};

use super::{
    Segment, datagram_bytes, duplicate, error, forward_all, forward_while_room, gone, keep, seconds, verdict_list,
    verdict_object,
};

/// A NIC in this process: what `vnet.Nic` is made of.
#[pyclass(frozen, subclass, module = "vnet._native")]
pub(crate) struct Port {
    pub(crate) ring: Arc<Ring>,
}

#[pymethods]
impl Port {
    #[new]
    #[pyo3(signature = (segment, slot, generation, token, connection=None))]
    fn new(segment: &Segment, slot: u16, generation: u32, token: u32, connection: Option<i32>) -> PyResult<Self> {
        let connection = connection.map(duplicate).transpose()?;
        let token = vnet_base::lock::Token(token);
        let ring = Ring::new(Arc::clone(&segment.0), SlotId(slot), generation, token, connection)?;
        Ok(Self { ring: Arc::new(ring) })
    }

    #[pyo3(signature = (datagram, *, block=false, timeout=None))]
    fn send(&self, datagram: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let py = datagram.py();
        let timeout = seconds("timeout", timeout)?;
        if let Ok(bytes) = datagram.cast::<PyBytes>()
            && let Some(mut sender) = self.ring.try_sender()
        {
            self.ring.check().map_err(|why| gone(py, why))?;
            let bytes = bytes.as_bytes();
            let verdict = if block { sender.try_forward(bytes, false) } else { Some(sender.forward(bytes, false)) };
            if let Some(verdict) = verdict {
                return verdict_object(py, verdict);
            }
        }
        let bytes = datagram_bytes(datagram)?;
        let verdict = self.send_slowly(py, bytes.as_bytes(), block, Ring::deadline(timeout))?;
        verdict_object(py, verdict)
    }

    #[pyo3(signature = (datagrams, *, block=false, timeout=None))]
    fn send_many<'py>(
        &self,
        datagrams: &Bound<'py, PyAny>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = datagrams.py();
        let deadline = Ring::deadline(seconds("timeout", timeout)?);
        let kept = keep(datagrams)?;
        let bytes: Vec<&[u8]> = kept.iter().map(|datagram| datagram.as_bytes()).collect();
        self.ring.check().map_err(|why| gone(py, why))?;
        if !block {
            let forward = || Ok(forward_all(&mut *self.ring.usable_sender()?, &bytes));
            let verdicts = py.detach(forward).map_err(|why| gone(py, why))?;
            return verdict_list(py, &verdicts);
        }
        let mut verdicts = Vec::with_capacity(bytes.len());
        while verdicts.len() < bytes.len() {
            let forward = || {
                forward_while_room(&mut *self.ring.usable_sender()?, &bytes, &mut verdicts);
                Ok(())
            };
            py.detach(forward).map_err(|why| gone(py, why))?;
            if let Some(first) = bytes.get(verdicts.len()) {
                verdicts.push(self.send_slowly(py, first, true, deadline)?);
            }
        }
        verdict_list(py, &verdicts)
    }

    #[pyo3(signature = (timeout=None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let mut datagram = None;
        self.take(py, 1, timeout, |bytes| {
            datagram = Some(PyBytes::new(py, bytes));
            true
        })?;
        datagram.ok_or_else(|| error(py, "ReceiveTimeout", "no datagram came in time"))
    }

    #[pyo3(signature = (max=1024, timeout=None))]
    fn recv_many<'py>(&self, py: Python<'py>, max: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        if max == 0 {
            return Err(PyValueError::new_err("max is at least 1"));
        }
        let mut datagrams = Vec::new();
        self.take(py, max, timeout, |bytes| {
            datagrams.push(PyBytes::new(py, bytes));
            true
        })?;
        PyList::new(py, datagrams)
    }

    /// Waits for a record and leaves it in place: where it lies in the buffers file, its length, and what releases it.
    fn hold_record(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<(u64, usize, Held)> {
        let deadline = Ring::deadline(seconds("timeout", timeout)?);
        loop {
            self.ring.check().map_err(|why| gone(py, why))?;
            if let Some((record, at)) = self.ring.hold_record().map_err(|why| gone(py, why))? {
                return Ok((at, record.length, Held(record)));
            }
            self.wait(py, deadline)?;
        }
    }

    fn release_record(&self, py: Python<'_>, held: &Held) -> PyResult<()> {
        let record = held.0;
        py.detach(|| self.ring.release(&record)).map_err(|why| gone(py, why))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.ring.check().map_err(|why| gone(py, why))?;
        Ok(self.ring.pollable()?.as_raw_fd())
    }

    /// Polls before sleeping: "never", "adaptive" or "always".
    fn set_spin(&self, spin: &str) -> PyResult<()> {
        let spin = match spin {
            "never" => Spin::Never,
            "adaptive" => Spin::Adaptive,
            "always" => Spin::Always,
            _ => return Err(PyValueError::new_err("spin is never, adaptive or always")),
        };
        self.ring.set_spin(spin);
        Ok(())
    }

    #[getter]
    fn slot(&self) -> u16 {
        self.ring.slot().0
    }

    #[getter]
    fn segment(&self) -> Segment {
        Segment(Arc::clone(self.ring.segment()))
    }

    /// Raises what makes the NIC unusable, if something does.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.ring.check().map_err(|why| gone(py, why))
    }

    /// Lets go of the memory and the connection. False when that was done before, or in a forked child.
    fn shut(&self, py: Python<'_>) -> bool {
        py.detach(|| self.ring.close())
    }
}

impl Port {
    fn send_slowly(&self, py: Python<'_>, bytes: &[u8], block: bool, deadline: Option<Instant>) -> PyResult<Verdict> {
        loop {
            self.ring.check().map_err(|why| gone(py, why))?;
            if !block {
                return self.send_at_once(py, bytes);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let sent = py.detach(|| self.ring.send_or_wait(bytes, left)).map_err(|why| gone(py, why))?;
            match sent {
                Ok(verdict) => return Ok(verdict),
                Err(Slice::Interrupted) => py.check_signals()?,
                // The time is over: the loss is a loss now, and counted.
                Err(_) if left == Some(Duration::ZERO) => {
                    return self.send_at_once(py, bytes);
                }
                Err(_) => py.check_signals()?,
            }
        }
    }

    fn send_at_once(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Verdict> {
        py.detach(|| Ok(self.ring.usable_sender()?.forward(bytes, false))).map_err(|why| gone(py, why))
    }

    fn take(
        &self,
        py: Python<'_>,
        most: usize,
        timeout: Option<f64>,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> PyResult<()> {
        let timeout = seconds("timeout", timeout)?;
        // The common case reads no clock.
        self.ring.check().map_err(|why| gone(py, why))?;
        if self.ring.receive(most, &mut take).map_err(|why| gone(py, why))? > 0 {
            return Ok(());
        }
        let deadline = Ring::deadline(timeout);
        loop {
            self.wait(py, deadline)?;
            if self.ring.receive(most, &mut take).map_err(|why| gone(py, why))? > 0 {
                return Ok(());
            }
        }
    }

    /// Waits a slice without the GIL; raises when the time is over or the NIC is gone.
    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<()> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let slice = py.detach(|| self.ring.wait(left)).map_err(|why| gone(py, why))?;
        py.check_signals()?;
        if slice != Slice::Ready && left == Some(Duration::ZERO) {
            return Err(error(py, "ReceiveTimeout", "no datagram came in time"));
        }
        Ok(())
    }
}

/// A record that the receiver reads in place.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Held(vnet_base::buffer::Record);
