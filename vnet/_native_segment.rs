//! The shared memory of a LAN, as guests map it.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use vnet_base::forward::Side;
use vnet_base::lan::BASE;
use vnet_base::routing::Section;
use vnet_base::tables::SlotId;
use vnet_base::tables::layout::WORKERS;
use vnet_base::{Sender, Verdict};
use vnet_drivers::clock;

use super::{PyValueError, datagram_bytes, duplicate, explain, image, segment_error};

/// The shared memory of a LAN, mapped into this process.
#[pyclass(frozen, module = "vnet._native")]
pub(super) struct Segment(pub(super) Arc<vnet_base::Segment>);

#[pymethods]
impl Segment {
    #[staticmethod]
    #[pyo3(signature = (files, alarms, images=vec![]))]
    fn attach(py: Python<'_>, files: Vec<i32>, alarms: Vec<i32>, images: Vec<(String, i32)>) -> PyResult<Self> {
        let alarms = alarms.into_iter().map(duplicate).collect::<PyResult<Vec<_>>>()?;
        let alarms = alarms.try_into().map_err(|_| PyValueError::new_err(format!("a LAN has {WORKERS} alarms")))?;
        let [tables, buffers, routing] = files[..] else {
            return Err(PyValueError::new_err("a LAN has three memory files"));
        };
        let mut files = vnet_base::Files {
            tables: duplicate(tables)?,
            buffers: duplicate(buffers)?,
            routing: duplicate(routing)?,
            images: [const { None }; Section::ALL.len()],
        };
        for (section, file) in images {
            files.images[image::section(&section)? as usize] = Some(duplicate(file)?);
        }
        let segment = vnet_base::Segment::attach(files, alarms);
        segment.map(Self).map_err(|failure| segment_error(py, &failure))
    }

    fn files(&self) -> Vec<i32> {
        let files = self.0.files();
        [files.tables, files.buffers, files.routing].iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// The images that sections lie in, or lay in.
    fn images(&self) -> Vec<(&'static str, i32)> {
        let files = self.0.files().images;
        let sections = Section::ALL.into_iter().zip(files);
        sections.filter_map(|(section, file)| Some((section.name(), file?.as_raw_fd()))).collect()
    }

    fn alarms(&self) -> Vec<i32> {
        self.0.alarms().iter().map(AsRawFd::as_raw_fd).collect()
    }

    fn sizes(&self) -> (u64, u64) {
        let geometry = self.0.tables().geometry();
        (geometry.tables_bytes(), geometry.buffers_bytes())
    }

    fn counters(&self, slot: u16) -> (Vec<u64>, u64, u64, u64, u64, u64, u64) {
        let counters = self.0.control(SlotId(slot)).counters();
        let verdicts = counters.verdicts[..Verdict::ALL.len()].to_vec();
        let received = (counters.rx_datagrams, counters.rx_bytes, counters.rx_dropped);
        (verdicts, counters.tx_bytes, received.0, received.1, received.2, counters.rung, counters.saved)
    }

    fn explain<'py>(&self, slot: u16, datagram: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let bytes = datagram_bytes(datagram)?;
        let sender = Sender::new(Arc::clone(&self.0), SlotId(slot), BASE, Side::Base, clock::wall);
        explain::as_dict(datagram.py(), bytes.as_bytes().len(), &sender.explain(bytes.as_bytes()))
    }
}
