//! The binding of pipes.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyo3::exceptions::{
    PyBrokenPipeError, PyConnectionResetError, PyEOFError, PyOSError, PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_bus::pipe::{End, Failure, Files, Progress, Tally, Wait, make};

use super::buffer::Bytes;
use super::{error, seconds};

/// Bytes up to which a copy is not worth letting other threads run.
const SHORT: usize = 16 * 1024;
/// Bytes that are shown without being taken, at most.
const PEEK: usize = 8 * 1024;

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

/// A message of which a part has gone, by the object that it was given as: who is told to come again comes with that.
type Begun = Option<(Py<PyAny>, Progress)>;

/// One end of a pipe.
#[pyclass(frozen, weakref, module = "vnet._native")]
pub(super) struct PipeEnd {
    end: Mutex<Option<Arc<End>>>,
    tally: Arc<Tally>,
    begun: Mutex<Begun>,
    size: u64,
    largest: u64,
    messages: bool,
}

#[pymethods]
impl PipeEnd {
    #[new]
    #[pyo3(signature = (files, first, *, largest=268435456))]
    fn new(files: Vec<i32>, first: bool, largest: u64) -> PyResult<Self> {
        let end = End::open(take_over(&files)?, first, largest).map_err(system)?;
        let (size, messages, tally) = (end.size(), end.messages(), end.tally());
        Ok(Self { end: Mutex::new(Some(Arc::new(end))), tally, begun: Mutex::new(None), size, largest, messages })
    }

    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    #[getter]
    fn largest(&self) -> u64 {
        self.largest
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

    #[getter]
    fn bytes_written(&self) -> u64 {
        self.tally.counters().written
    }

    #[getter]
    fn bytes_read(&self) -> u64 {
        self.tally.counters().read
    }

    #[getter]
    fn writes(&self) -> u64 {
        self.tally.counters().writes
    }

    #[getter]
    fn reads(&self) -> u64 {
        self.tally.counters().reads
    }

    #[getter]
    fn rung(&self) -> u64 {
        self.tally.counters().rung
    }

    #[getter]
    fn saved(&self) -> u64 {
        self.tally.counters().saved
    }

    #[getter]
    fn slept(&self) -> u64 {
        self.tally.counters().slept
    }

    #[pyo3(signature = (data, block=true, timeout=None))]
    fn write(&self, data: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<Option<usize>> {
        let py = data.py();
        let end = self.open_end(py)?;
        let held = Bytes::of(data)?;
        let until = until(block, timeout)?;
        if self.messages {
            self.write_message(data, &end, held.bytes(), until)
        } else {
            write(py, &end, held.bytes(), until)
        }
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

    #[pyo3(signature = (size, block=true, timeout=None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.of_bytes(true)?;
        let end = self.open_end(py)?;
        let until = until(block, timeout)?;
        let there = end.waiting().map_err(|failure| failed(py, failure))?;
        let count = there.min(size as u64) as usize;
        if count > 0 || size == 0 {
            let mut taken = Ok(0);
            let bytes = PyBytes::new_with(py, count, |target| {
                taken = end.read(target, Wait::Quick);
                Ok(())
            })?;
            match taken {
                Ok(taken) if taken == count => return Ok(Some(bytes)),
                // Another thread took some of it, or all.
                Ok(taken) => return Ok(Some(PyBytes::new(py, &bytes.as_bytes()[..taken]))),
                Err(Failure::NotNow) => {}
                Err(failure) => return Err(failed(py, failure)),
            }
        }
        // The end, and what is wrong, are told by a read that would wait otherwise.
        let mut one = [0; 1];
        match again(py, until, |wait| end.read(&mut one, wait))? {
            None => Ok(None),
            Some(0) => Ok(Some(PyBytes::new(py, b""))),
            Some(_) => more(py, &end, one, size).map(Some),
        }
    }

    #[pyo3(signature = (size=0))]
    fn peek<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.of_bytes(true)?;
        let end = self.open_end(py)?;
        let mut bytes = [0; PEEK];
        let most = if size == 0 { PEEK } else { size.min(PEEK) };
        match end.peek(&mut bytes[..most]) {
            Ok(count) => Ok(PyBytes::new(py, &bytes[..count])),
            Err(Failure::NotNow | Failure::Reset) => Ok(PyBytes::new(py, b"")),
            Err(failure) => Err(failed(py, failure)),
        }
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
        loop {
            let make = |length, fill: &mut dyn FnMut(&mut [u8])| {
                PyBytes::new_with(py, length, |bytes| {
                    fill(bytes);
                    Ok(())
                })
            };
            match end.read_message_into(Wait::Quick, make) {
                Ok(Some(message)) => return message.map(Some),
                Ok(None) => return Err(PyEOFError::new_err("the other end of the pipe has ended what it wrote")),
                Err(Failure::NotNow) => {}
                Err(failure) => return Err(failed(py, failure)),
            }
            if again(py, until, |wait| end.await_readable(wait))?.is_none() {
                return Ok(None);
            }
        }
    }

    #[pyo3(signature = (read, write, timeout=None))]
    fn wait(&self, py: Python<'_>, read: bool, write: bool, timeout: Option<f64>) -> PyResult<bool> {
        if !read && !write {
            return Err(PyValueError::new_err("wait for reading, for writing or for both"));
        }
        let end = self.open_end(py)?;
        let deadline = deadline(timeout)?;
        match again(py, Wait::Until(deadline), |_| end.await_either(read, write, deadline)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_instance_of::<PyTimeoutError>(py) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn available(&self, py: Python<'_>) -> PyResult<u64> {
        self.open_end(py)?.waiting().map_err(|failure| failed(py, failure))
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

    fn shut_read(&self, py: Python<'_>) -> PyResult<()> {
        self.open_end(py)?.shut_read().map_err(|failure| failed(py, failure))
    }

    fn close(&self, py: Python<'_>) {
        // Not in the condition: the lock would be held there until the interpreter is had again, by whose holder it may
        // be wanted.
        let end = self.lock_end().take();
        // What is mapped goes when the last call that another thread is in has returned.
        if let Some(end) = end {
            py.detach(|| {
                end.close();
                drop(end);
            });
        }
        // Outside the lock: dropping an object may run code of the program's.
        let begun = self.lock_begun().take();
        drop(begun);
    }
}

impl PipeEnd {
    fn lock_end(&self) -> MutexGuard<'_, Option<Arc<End>>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Option<Arc<End>> {
        self.lock_end().clone()
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

    fn write_message(&self, data: &Bound<'_, PyAny>, end: &End, bytes: &[u8], until: Wait) -> PyResult<Option<usize>> {
        let py = data.py();
        let begun = self.lock_begun().take();
        let mut progress = match begun {
            Some((object, progress)) if object.is(data) => progress,
            _ => Progress::default(),
        };
        if bytes.len() <= SHORT && !progress.begun() {
            match end.write_message(bytes, Wait::Quick, &mut progress, &mut || false) {
                Ok(()) => return Ok(Some(bytes.len())),
                Err(Failure::NotNow) => {}
                Err(failure) => return Err(failed(py, failure)),
            }
        }
        let result = write_whole(py, end, bytes, until, &mut progress);
        if !matches!(result, Ok(Some(_))) && progress.begun() {
            // Outside the lock: dropping an object may run code of the program's.
            let other = self.lock_begun().replace((data.clone().unbind(), progress));
            drop(other);
        }
        result
    }
}

fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    Ok(seconds("timeout", timeout)?.and_then(|timeout| Instant::now().checked_add(timeout)))
}

fn until(block: bool, timeout: Option<f64>) -> PyResult<Wait> {
    let deadline = deadline(timeout)?;
    Ok(if block { Wait::Until(deadline) } else { Wait::No })
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

/// What is there behind the byte that was waited for.
fn more<'py>(py: Python<'py>, end: &End, first: [u8; 1], size: usize) -> PyResult<Bound<'py, PyBytes>> {
    let there = end.waiting().unwrap_or(0).min(size as u64 - 1) as usize;
    let mut taken = 0;
    let bytes = PyBytes::new_with(py, 1 + there, |target| {
        target[0] = first[0];
        // What fails now fails again at the next call: the byte is to be had first.
        taken = end.read(&mut target[1..], Wait::Quick).unwrap_or(0);
        Ok(())
    })?;
    if taken == there { Ok(bytes) } else { Ok(PyBytes::new(py, &bytes.as_bytes()[..1 + taken])) }
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
    let written = again(py, until, |wait| match end.write(bytes, wait, &mut done) {
        // What was taken before the time was over is told.
        Err(Failure::Late) if done > 0 => Ok(()),
        result => result,
    })?;
    Ok((written.is_some() || done > 0).then_some(done))
}

/// Writes a message, other threads running meanwhile but none of them writing.
fn write_whole(
    py: Python<'_>,
    end: &End,
    bytes: &[u8],
    until: Wait,
    progress: &mut Progress,
) -> PyResult<Option<usize>> {
    loop {
        let mut raised = None;
        let mut interrupted = || {
            raised = Python::attach(|py| py.check_signals()).err();
            raised.is_none()
        };
        let result = py.detach(|| end.write_message(bytes, until, progress, &mut interrupted));
        if let Some(raised) = raised {
            return Err(raised);
        }
        match result {
            Ok(()) => return Ok(Some(bytes.len())),
            Err(Failure::NotNow) => return Ok(None),
            Err(Failure::Interrupted) => py.check_signals()?,
            Err(failure) => return Err(failed(py, failure)),
        }
    }
}
