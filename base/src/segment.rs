//! The segment: the two memory files of a LAN, mapped into this process.
//!
//! The tables file is sealed with `F_SEAL_FUTURE_WRITE` once the base has mapped it: every other mapping can only read.
//! The buffers file is writable for all who got its descriptor from the base. [`vnet_tables::layout`] draws both.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::EventfdFlags;
use thiserror::Error;
use vnet_tables::layout::{CONTROL_BYTES, Geometry, MIN_RING, PAGE, WORKER_BYTES, WORKERS};
use vnet_tables::{NicRow, SlotId, Tables, TablesError, Writer};

use crate::area::Area;
use crate::buffer::InputBuffer;
use crate::control::{Control, WorkerBlock};
use crate::doorbell::Listener;
use crate::map::{Mapping, memory_file, release, seal};
use crate::sync::Alarm;

/// Why a segment cannot be made or mapped.
#[derive(Debug, Error)]
pub enum SegmentError {
    /// The tables are not those of a LAN of this version.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The system refused memory or a mapping.
    #[error("the shared memory cannot be mapped: {0}")]
    System(#[from] io::Error),
}

/// The two memory files, mapped. Everything that points into them holds an `Arc` of this.
pub struct Segment {
    tables: Tables,
    tables_map: Mapping,
    buffers_map: Mapping,
    tables_file: OwnedFd,
    buffers_file: OwnedFd,
    alarms: [OwnedFd; WORKERS as usize],
}

impl Segment {
    /// Makes the segment of a new LAN, and the writing side of its tables.
    ///
    /// # Errors
    ///
    /// [`SegmentError::System`].
    pub fn create(name: &str, geometry: &Geometry, lan: u64) -> Result<(Arc<Self>, Writer), SegmentError> {
        let tables_file = memory_file(&format!("vnet:{name}:tables"), geometry.tables_bytes())?;
        let buffers_file = memory_file(&format!("vnet:{name}:buffers"), geometry.buffers_bytes())?;
        let tables_map = Mapping::new(&tables_file, true)?;
        seal(&tables_file, true)?;
        let buffers_map = Mapping::new(&buffers_file, true)?;
        seal(&buffers_file, false)?;
        // SAFETY: a new memory file is zeroed and this is the only writable mapping of it that can ever be; the mapping
        // lives in the segment, which the base keeps as long as the writer.
        let writer = unsafe { Writer::create(tables_map.start(), geometry, lan) };
        let tables = *writer.tables();
        let alarm = || rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let alarms = [alarm(), alarm(), alarm(), alarm()];
        let [a, b, c, d] = alarms.map(|made| made.map_err(io::Error::from));
        let alarms = [a?, b?, c?, d?];
        Ok((Arc::new(Self { tables, tables_map, buffers_map, tables_file, buffers_file, alarms }), writer))
    }

    /// Maps the segment that a base handed out: the tables for reading, the buffers for writing. `alarms` are those of
    /// its base workers, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Tables`] when it is not a LAN, or one of another ABI version; [`SegmentError::System`].
    pub fn attach(
        tables_file: OwnedFd,
        buffers_file: OwnedFd,
        alarms: [OwnedFd; WORKERS as usize],
    ) -> Result<Arc<Self>, SegmentError> {
        let tables_map = Mapping::new(&tables_file, false)?;
        // SAFETY: the mapping is stored beside the tables and outlives them.
        let tables = unsafe { Tables::open(tables_map.start(), tables_map.bytes()) }?;
        let buffers_map = Mapping::new(&buffers_file, true)?;
        if buffers_map.bytes() < tables.geometry().buffers_bytes() {
            return Err(TablesError::Damaged.into());
        }
        Ok(Arc::new(Self { tables, tables_map, buffers_map, tables_file, buffers_file, alarms }))
    }

    /// The tables.
    #[must_use]
    #[inline]
    pub fn tables(&self) -> &Tables {
        debug_assert!(self.tables_map.bytes() >= self.tables.geometry().tables_bytes());
        &self.tables
    }

    /// The descriptors of the two memory files: tables, buffers.
    #[must_use]
    pub fn files(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.tables_file.as_fd(), self.buffers_file.as_fd())
    }

    /// The descriptors that wake base workers, in the order of their numbers.
    #[must_use]
    pub fn alarms(&self) -> [BorrowedFd<'_>; WORKERS as usize] {
        self.alarms.each_ref().map(AsFd::as_fd)
    }

    /// What wakes a base worker that sleeps on descriptors; that of worker 0 where there is no such worker.
    #[must_use]
    #[inline]
    pub fn alarm(&self, worker: u32) -> Alarm<'static> {
        let alarm = self.alarms.get(worker as usize).unwrap_or(&self.alarms[0]);
        // SAFETY: the descriptor is open as long as the segment, which whoever rings holds, as for `control()`.
        Alarm(unsafe { BorrowedFd::borrow_raw(alarm.as_raw_fd()) })
    }

    /// Whom the doorbell of a slot wakes.
    #[must_use]
    #[inline]
    pub fn listener(&self, slot: SlotId, row: &NicRow) -> Listener<'static> {
        row.worker().map_or(Listener::Guest, |worker| Listener::Worker(self.worker(worker), slot.0, self.alarm(worker)))
    }

    /// The control block of a slot; of slot 0 where there is no such slot.
    #[must_use]
    #[inline]
    pub fn control(&self, slot: SlotId) -> &'static Control {
        let geometry = self.tables.geometry();
        let slot = if u32::from(slot.0) < geometry.nics { u64::from(slot.0) } else { 0 };
        let at = geometry.controls_at() + slot * CONTROL_BYTES;
        // SAFETY: the block lies inside the mapping by construction of the geometry, is aligned to 1 KiB, and is made of
        // atomics, for which every bit pattern is valid. The lifetime is the mapping's: users hold the segment.
        unsafe { self.buffers_map.start().add(at as usize).cast().as_ref() }
    }

    /// The block of a base worker; of worker 0 where there is no such worker.
    #[must_use]
    #[inline]
    pub fn worker(&self, worker: u32) -> &'static WorkerBlock {
        let at = u64::from(if worker < WORKERS { worker } else { 0 }) * WORKER_BYTES;
        // SAFETY: as for `control()`.
        unsafe { self.buffers_map.start().add(at as usize).cast().as_ref() }
    }

    /// The input buffer of a slot, `None` where the row does not name a ring inside the segment.
    #[must_use]
    #[inline]
    pub fn buffer(&self, slot: SlotId, row: &NicRow) -> Option<InputBuffer> {
        let (at, bytes) = row.ring();
        let end = at.checked_add(bytes)?;
        if !bytes.is_power_of_two() || bytes < MIN_RING || at % PAGE != 0 || end > self.buffers_map.bytes() {
            return None;
        }
        // SAFETY: the range was just checked; users of the buffer hold the segment, and with it the mapping.
        let area = unsafe { Area::new(self.buffers_map.start().add(at as usize), bytes) };
        Some(InputBuffer { control: self.control(slot), area })
    }

    /// Where in the buffers file a position of a ring lies, in bytes.
    #[must_use]
    pub fn file_offset(&self, row: &NicRow, position: u64) -> u64 {
        let (at, bytes) = row.ring();
        at + (position & (bytes - 1))
    }

    /// Gives the memory of a ring back to the kernel.
    pub(crate) fn release_ring(&self, row: &NicRow) {
        let (at, bytes) = row.ring();
        // A kernel that refuses keeps the pages until the LAN ends; the zero word of the invariant is written anyway.
        let _ = release(self.buffers_file.as_fd(), at, bytes);
    }
}
