//! The binding of pipes.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pyo3::exceptions::{
    PyBrokenPipeError, PyConnectionResetError, PyEOFError, PyOSError, PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use vnet_bus::pipe::{End, Failure, Files, Wait, make};

use super::buffer::Bytes;
use super::{error, seconds};

/// Bytes up to which a copy is not worth letting other threads run.
const SHORT: usize = 16 * 1024;

fn os_error(code: i32, text: impl Into<String>) -> PyErr {
    PyOSError::new_err((code, text.into()))
}

fn system(failure: std::io::Error) -> PyErr {
    match failure.kind() {
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
            PyValueError::new_err(failure.to_string())
        }
        _ => PyOSError::new_err((failure.raw_os_error(), failure.to_string())),
    }
}

fn failed(py: Python<'_>, failure: Failure) -> PyErr {
    let text = failure.to_string();
    match failure {
        Failure::Closed => PyValueError::new_err(text),
        Failure::Broken | Failure::Shut => PyBrokenPipeError::new_err((libc::EPIPE, text)),
        Failure::Reset => PyConnectionResetError::new_err((libc::ECONNRESET, text)),
        Failure::Late => PyTimeoutError::new_err(text),
        Failure::Nonsense => os_error(libc::EPROTO, text),
        Failure::TooLong(..) => os_error(libc::EMSGSIZE, text),
        Failure::Forked => error(py, "ForkedNic", &format!("{text}; connect anew after fork()")),
        Failure::NotNow => os_error(libc::EAGAIN, text),
        Failure::Interrupted => os_error(libc::EINTR, text),
    }
}

/// Makes a pipe: the descriptors of its first end and of its second.
#[pyfunction]
#[pyo3(signature = (size, messages=false, *, name="vnet:pipe"))]
pub(super) fn pipe_make(size: u64, messages: bool, name: &str) -> PyResult<(Vec<i32>, Vec<i32>)> {
    let (first, second) = make(name, size, messages).map_err(system)?;
    let numbers = |files: Files| [files.memory, files.outer, files.inner].map(IntoRawFd::into_raw_fd).to_vec();
    Ok((numbers(first), numbers(second)))
}

/// Takes over descriptors that are open; none of them where one is not.
fn take_over(files: &[i32]) -> PyResult<Files> {
    let [memory, outer, inner] = *files else {
        return Err(PyValueError::new_err(format!("an end of a pipe has 3 descriptors, not {}", files.len())));
    };
    if memory == outer || outer == inner || inner == memory {
        return Err(PyValueError::new_err("an end of a pipe has 3 descriptors that differ"));
    }
    for file in [memory, outer, inner] {
        // SAFETY: asks whether the number is open; a wrong one does no harm.
        if file < 0 || unsafe { libc::fcntl(file, libc::F_GETFD) } < 0 {
            return Err(os_error(libc::EBADF, format!("{file} is no open descriptor")));
        }
    }
    // SAFETY: they are open, and the caller gives them up.
    let owned = |file| unsafe { OwnedFd::from_raw_fd(file) };
    Ok(Files { memory: owned(memory), outer: owned(outer), inner: owned(inner) })
}

/// One end of a pipe.
#[pyclass(frozen, weakref, module = "vnet._native")]
pub(super) struct PipeEnd {
    end: Mutex<Option<Arc<End>>>,
    size: u64,
    messages: bool,
}

#[pymethods]
impl PipeEnd {
    #[new]
    #[pyo3(signature = (files, first, *, largest=67108864))]
    fn new(files: Vec<i32>, first: bool, largest: u64) -> PyResult<Self> {
        let end = End::open(take_over(&files)?, first, largest).map_err(system)?;
        let (size, messages) = (end.size(), end.messages());
        Ok(Self { end: Mutex::new(Some(Arc::new(end))), size, messages })
    }

    /// Bytes of each ring.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    #[getter]
    fn messages(&self) -> bool {
        self.messages
    }

    #[getter]
    fn closed(&self) -> bool {
        self.end().is_none_or(|end| end.closed())
    }

    #[getter]
    fn peer_gone(&self) -> bool {
        self.end().is_some_and(|end| end.peer_gone())
    }

    #[getter]
    fn peer_closed_write(&self) -> bool {
        self.end().is_some_and(|end| end.peer_closed_write())
    }

    #[pyo3(signature = (data, block=true, timeout=None))]
    fn write(&self, data: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<Option<usize>> {
        let py = data.py();
        let end = self.open_end(py)?;
        let held = Bytes::of(data)?;
        let bytes = held.bytes();
        let until = until(block, timeout)?;
        if self.messages { write_message(py, &end, bytes, until) } else { write(py, &end, bytes, until) }
    }

    #[pyo3(signature = (buffer, block=true, timeout=None))]
    fn readinto(&self, buffer: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<Option<usize>> {
        let py = buffer.py();
        self.of_bytes(true)?;
        let end = self.open_end(py)?;
        let mut held = Bytes::writable(buffer)?;
        let bytes = held.bytes_mut();
        let until = until(block, timeout)?;
        if bytes.len() <= SHORT {
            match end.read(bytes, Wait::Quick) {
                Err(Failure::NotNow) => {}
                result => return result.map(Some).map_err(|failure| failed(py, failure)),
            }
        }
        again(py, until, |wait| end.read(bytes, wait))
    }

    #[pyo3(signature = (block=true, timeout=None))]
    fn read_message<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.of_bytes(false)?;
        let end = self.open_end(py)?;
        let until = until(block, timeout)?;
        let message = match end.read_message(Wait::Quick) {
            Err(Failure::NotNow) => again(py, until, |wait| end.read_message(wait))?,
            result => Some(result.map_err(|failure| failed(py, failure))?),
        };
        match message {
            None => Ok(None),
            Some(Some(message)) => Ok(Some(PyBytes::new(py, &message))),
            Some(None) => Err(PyEOFError::new_err("the other end of the pipe has ended what it wrote")),
        }
    }

    /// Whether a read would not have to wait; waits for that.
    #[pyo3(signature = (timeout=None))]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let end = self.open_end(py)?;
        match again(py, until(true, timeout)?, |wait| end.await_readable(wait)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_instance_of::<PyTimeoutError>(py) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn available(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.open_end(py)?.readable().map_err(|failure| failed(py, failure))?.0)
    }

    fn room(&self, py: Python<'_>) -> PyResult<u64> {
        self.open_end(py)?.room().map_err(|failure| failed(py, failure))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let end = self.open_end(py)?;
        let number = end.descriptor().map(|file: BorrowedFd<'_>| file.as_raw_fd());
        number.map_err(|failure| failed(py, failure))
    }

    #[pyo3(signature = (timeout=None))]
    fn shut_write(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let end = self.open_end(py)?;
        again(py, until(true, timeout)?, |wait| end.shut_write(wait)).map(|_| ())
    }

    fn close(&self, py: Python<'_>) {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What is mapped goes when the last call that another thread is in has returned.
        if let Some(end) = end {
            py.detach(|| {
                end.close();
                drop(end);
            });
        }
    }

    /// What this end has counted.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.end().map(|end| end.counters()).unwrap_or_default();
        let counts = PyDict::new(py);
        counts.set_item("bytes_written", counters.written)?;
        counts.set_item("bytes_read", counters.read)?;
        counts.set_item("writes", counters.writes)?;
        counts.set_item("reads", counters.reads)?;
        counts.set_item("interrupts", counters.rung)?;
        counts.set_item("interrupts_saved", counters.saved)?;
        counts.set_item("sleeps", counters.slept)?;
        Ok(counts)
    }
}

impl PipeEnd {
    fn end(&self) -> Option<Arc<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn open_end(&self, py: Python<'_>) -> PyResult<Arc<End>> {
        self.end().ok_or_else(|| failed(py, Failure::Closed))
    }

    fn of_bytes(&self, bytes: bool) -> PyResult<()> {
        match (bytes, self.messages) {
            (true, true) => Err(PyTypeError::new_err("this pipe keeps the boundaries of messages: use read_message()")),
            (false, false) => Err(PyTypeError::new_err("this pipe is one of bytes: use readinto()")),
            _ => Ok(()),
        }
    }
}

fn until(block: bool, timeout: Option<f64>) -> PyResult<Wait> {
    let timeout = seconds("timeout", timeout)?;
    if !block {
        return Ok(Wait::No);
    }
    Ok(Wait::Until(timeout.and_then(|timeout| Instant::now().checked_add(timeout))))
}

/// Calls until it is no signal that ended the call, other threads running meanwhile. `None` where it would have to wait.
fn again<R: Send>(
    py: Python<'_>,
    wait: Wait,
    mut call: impl FnMut(Wait) -> Result<R, Failure> + Send,
) -> PyResult<Option<R>> {
    loop {
        match py.detach(|| call(wait)) {
            Ok(result) => return Ok(Some(result)),
            Err(Failure::NotNow) => return Ok(None),
            Err(Failure::Interrupted) => py.check_signals()?,
            Err(failure) => return Err(failed(py, failure)),
        }
    }
}

fn write(py: Python<'_>, end: &End, bytes: &[u8], until: Wait) -> PyResult<Option<usize>> {
    let mut done = 0;
    if bytes.len() <= SHORT {
        match end.write(bytes, Wait::Quick, &mut done) {
            Ok(()) if done == bytes.len() || until == Wait::No => return Ok(Some(done)),
            Ok(()) | Err(Failure::NotNow) => {}
            Err(failure) => return Err(failed(py, failure)),
        }
    }
    match again(py, until, |wait| match end.write(bytes, wait, &mut done) {
        // What was taken before the time was over is told.
        Err(Failure::Late) if done > 0 => Ok(()),
        result => result,
    }) {
        Ok(Some(())) => Ok(Some(done)),
        Ok(None) => Ok((done > 0).then_some(done)),
        Err(failure) => Err(failure),
    }
}

fn write_message(py: Python<'_>, end: &End, bytes: &[u8], until: Wait) -> PyResult<Option<usize>> {
    if bytes.len() <= SHORT {
        match end.write_message(bytes, Wait::Quick, &mut || false) {
            Ok(()) => return Ok(Some(bytes.len())),
            Err(Failure::NotNow | Failure::TooLong(..)) => {}
            Err(failure) => return Err(failed(py, failure)),
        }
    }
    let mut raised = None;
    let written = again(py, until, |wait| {
        end.write_message(bytes, wait, &mut || {
            Python::attach(|py| py.check_signals()).map_err(|failure| raised = Some(failure)).is_ok()
        })
        .map_err(|failure| if raised.is_some() { Failure::Shut } else { failure })
    });
    match raised {
        Some(failure) => Err(failure),
        None => Ok(written?.map(|()| bytes.len())),
    }
}
