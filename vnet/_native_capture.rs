//! The binding of captures and their filters.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use vnet_base::filter::machine::Program;
use vnet_drivers::capture::{Capture as Running, Direction, End, Hub, RingFiles, Target, Wanted};

use super::duplicate;

/// A checked filter: a program of classic BPF.
#[pyclass(frozen, module = "vnet._native")]
#[derive(Clone)]
pub(crate) struct Filter(Program);

#[pymethods]
impl Filter {
    #[new]
    fn new(program: &[u8]) -> PyResult<Self> {
        Program::new(program).map(Self).map_err(|wrong| PyValueError::new_err(wrong.to_string()))
    }

    #[pyo3(signature = (datagram, length=None))]
    fn run(&self, datagram: &[u8], length: Option<u32>) -> u32 {
        self.0.run(datagram, length.unwrap_or(datagram.len() as u32))
    }
}

/// A running capture.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Capture(Running);

/// What ended a capture, as Python gets it: a word, the number of the system's error, and words.
type Ended = (&'static str, Option<i32>, String);

fn ended(end: End) -> Ended {
    match end {
        End::Stopped => ("stopped", None, String::new()),
        End::Limit => ("limit", None, String::new()),
        End::ReaderGone => ("reader", None, String::new()),
        End::Failed(number, words) => ("failed", number, words),
    }
}

#[pymethods]
impl Capture {
    fn counts(&self) -> (u64, u64, u64) {
        let counts = self.0.counts();
        (counts.packets, counts.datagrams, counts.missed)
    }

    fn end(&self) -> Option<&'static str> {
        self.0.end().map(|end| ended(end).0)
    }

    /// Waits up to `timeout` seconds until it is over. Returns whether it is.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = super::seconds("timeout", Some(timeout))?.unwrap_or(Duration::MAX);
        Ok(py.detach(|| self.0.wait(timeout)))
    }

    fn stop(&self, py: Python<'_>) -> Ended {
        ended(py.detach(|| self.0.stop()))
    }

    fn discard(&self, py: Python<'_>) {
        py.detach(|| self.0.discard());
    }
}

/// The arguments of a capture, as keywords.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Arguments {
    nics: Option<Vec<String>>,
    direction: String,
    filter: Option<(Py<Filter>, String)>,
    drops: bool,
    limit: Option<u64>,
    snaplen: Option<u32>,
    /// Directory, stem, suffix, bytes of a file, files to keep.
    ring: Option<(i32, String, String, u64, usize)>,
}

pub(crate) fn start(py: Python<'_>, hub: &Arc<Hub>, file: i32, arguments: Arguments) -> PyResult<Capture> {
    let direction = match arguments.direction.as_str() {
        "both" => Direction::Both,
        "in" => Direction::In,
        "out" => Direction::Out,
        other => return Err(PyValueError::new_err(format!("direction is both, in or out, not {other:?}"))),
    };
    let file_bytes = arguments.ring.as_ref().map(|ring| ring.3);
    let target = match arguments.ring {
        Some((directory, stem, suffix, _, keep)) => {
            Target::Ring(RingFiles { directory: duplicate(directory)?, stem, suffix, keep })
        }
        None => Target::File(File::from(duplicate(file)?)),
    };
    let wanted = Wanted {
        nics: arguments.nics.map(|nics| nics.into_iter().collect()),
        direction,
        filter: arguments.filter.map(|(filter, words)| (filter.get().0.clone(), words)),
        drops: arguments.drops,
        limit: arguments.limit,
        snap_length: arguments.snaplen,
        file_bytes,
    };
    let capture = py.detach(|| hub.start(target, wanted)).map_err(|failure| match failure.raw_os_error() {
        Some(number) => PyOSError::new_err((number, failure.to_string())),
        None => super::error(py, "CaptureError", &failure.to_string()),
    })?;
    Ok(Capture(capture))
}
