//! To be written.

use pyo3::prelude::*;

/// Bound beside its kind.
#[pyfunction]
pub(super) fn region_version() -> u32 {
    1
}
