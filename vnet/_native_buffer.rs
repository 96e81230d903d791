//! Buffers of Python objects, used in place.
//!
//! The buffer protocol became part of the stable ABI with Python 3.11, in the form that it has had since 3.0. This module
//! is built for 3.10 and later, so it says itself what that form is: 3.10 changes no more.

use std::os::raw::{c_char, c_int, c_void};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;

/// `Py_buffer`, `Include/cpython/object.h` of 3.10 and `Include/pybuffer.h` since.
#[repr(C)]
struct View {
    bytes: *mut c_void,
    object: *mut PyObject,
    length: isize,
    item: isize,
    read_only: c_int,
    dimensions: c_int,
    format: *mut c_char,
    shape: *mut isize,
    strides: *mut isize,
    sub_offsets: *mut isize,
    internal: *mut c_void,
}

const SIMPLE: c_int = 0;
const WRITABLE: c_int = 1;

unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut View, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut View);
}

/// The contiguous bytes of an object, which cannot be resized or freed while this lives.
pub(crate) struct Bytes {
    // In a place of its own: exporters may point into the structure that they filled in.
    view: Box<View>,
}

// SAFETY: the bytes are pinned until the release, which happens with the interpreter attached, in whatever thread.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// Bytes to be read.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, SIMPLE)
    }

    /// Bytes to be written.
    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, WRITABLE)
    }

    fn get(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(View {
            bytes: std::ptr::null_mut(),
            object: std::ptr::null_mut(),
            length: 0,
            item: 0,
            read_only: 0,
            dimensions: 0,
            format: std::ptr::null_mut(),
            shape: std::ptr::null_mut(),
            strides: std::ptr::null_mut(),
            sub_offsets: std::ptr::null_mut(),
            internal: std::ptr::null_mut(),
        });
        // SAFETY: the object is alive, the interpreter attached, and the view has the form that the call fills in.
        if unsafe { PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } != 0 {
            return Err(PyErr::take(object.py()).unwrap_or_else(|| PyBufferError::new_err("no buffer")));
        }
        Ok(Self { view })
    }

    /// The bytes. Another thread of the program may change them meanwhile, as with every call that takes a buffer and
    /// lets others run; what is read then is some mixture of both.
    pub(crate) fn bytes(&self) -> &[u8] {
        let length = usize::try_from(self.view.length).unwrap_or(0);
        if length == 0 {
            return &[];
        }
        // SAFETY: the exporter vouches for so many contiguous bytes until the release.
        unsafe { std::slice::from_raw_parts(self.view.bytes.cast(), length) }
    }

    /// The bytes, of a view that was asked for as writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let length = usize::try_from(self.view.length).unwrap_or(0);
        if length == 0 || self.view.read_only != 0 {
            return &mut [];
        }
        // SAFETY: as above, and the exporter vouches that they may be written.
        unsafe { std::slice::from_raw_parts_mut(self.view.bytes.cast(), length) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: the view was filled in by `PyObject_GetBuffer` and is released once, with the interpreter attached.
        Python::attach(|_| unsafe { PyBuffer_Release(&raw mut *self.view) });
    }
}
