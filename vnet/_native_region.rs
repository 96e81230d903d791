//! The binding of regions: their memory files, and where processes have them.

use std::os::fd::{AsFd, IntoRawFd};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_bus::region;

use super::{duplicate, system};

/// Makes a region's memory file.
#[pyfunction]
pub(super) fn region_make(name: &str, bytes: u64, huge: bool) -> PyResult<i32> {
    Ok(region::make(name, bytes, huge).map_err(system)?.into_raw_fd())
}

/// Seals its seals, and with `one_writer` all writable mappings that are not there yet.
#[pyfunction]
pub(super) fn region_settle(file: i32, one_writer: bool) -> PyResult<()> {
    region::settle(duplicate(file)?.as_fd(), one_writer).map_err(system)
}

/// Opens it for reading alone.
#[pyfunction]
pub(super) fn region_reading(file: i32) -> PyResult<i32> {
    Ok(region::reading(duplicate(file)?.as_fd()).map_err(system)?.into_raw_fd())
}

/// Where a process, or this one, has it mapped: first address, bytes, whether it can be written.
#[pyfunction]
#[pyo3(signature = (pid, file))]
pub(super) fn region_ranges(pid: Option<u32>, file: i32) -> PyResult<Vec<(u64, u64, bool)>> {
    let found = region::ranges(pid, duplicate(file)?.as_fd()).map_err(system)?;
    Ok(found.into_iter().map(|range| (range.start, range.bytes, range.writable)).collect())
}

/// The page frames behind a range of a process, 8 bytes each; `None` where the kernel does not tell.
#[pyfunction]
#[pyo3(signature = (pid, start, bytes))]
pub(super) fn region_frames<'py>(
    py: Python<'py>,
    pid: Option<u32>,
    start: u64,
    bytes: u64,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let frames = py.detach(|| region::frames(pid, start, bytes)).map_err(system)?;
    let packed = |frames: Vec<u64>| frames.iter().flat_map(|frame| frame.to_ne_bytes()).collect::<Vec<u8>>();
    Ok(frames.map(|frames| PyBytes::new(py, &packed(frames))))
}
