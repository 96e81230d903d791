//! To be written.

use pyo3::prelude::*;

/// Bound beside its kind.
#[pyfunction]
pub(super) fn pipe_version() -> u32 {
    1
}
