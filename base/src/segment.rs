//! The segment: the memory files of a LAN, mapped into this process.
//!
//! The tables and the routing file are sealed with `F_SEAL_FUTURE_WRITE` once the base has mapped them: every other
//! mapping can only read. The buffers file is writable for all who got its descriptor from the base.
//! [`vnet_tables::layout`] draws tables and buffers, [`crate::routing`] the rest.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::event::EventfdFlags;
use thiserror::Error;
use vnet_tables::layout::{CONTROL_BYTES, Geometry, MIN_RING, PAGE, WORKER_BYTES, WORKERS};
use vnet_tables::{NicRow, SlotId, Tables, TablesError, Writer};

use crate::area::Area;
use crate::buffer::InputBuffer;
use crate::control::{Control, WorkerBlock};
use crate::doorbell::Listener;
use crate::filter::Shelf;
use crate::map::{Mapping, memory_file, release, seal};
use crate::routing::{self, Root, Roots, Section};
use crate::sync::{Alarm, AtomicU32};

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

/// The memory files of a LAN, as descriptors.
pub struct Files<F> {
    /// The tables.
    pub tables: F,
    /// Input buffers, control and worker blocks.
    pub buffers: F,
    /// Plan, filters and routes.
    pub routing: F,
    /// What the sections of routing lie in instead, by their numbers, as far as images were adopted for them.
    pub images: [Option<F>; Section::ALL.len()],
}

struct Image {
    map: Mapping,
    file: OwnedFd,
}

/// The memory files, mapped. Everything that points into them holds an `Arc` of this.
pub struct Segment {
    tables: Tables,
    tables_map: Mapping,
    buffers_map: Mapping,
    routing_map: Mapping,
    tables_file: OwnedFd,
    buffers_file: OwnedFd,
    routing_file: OwnedFd,
    images: [OnceLock<Image>; Section::ALL.len()],
    shelf: Shelf,
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
        let routing_file = memory_file(&format!("vnet:{name}:routing"), routing::BYTES)?;
        let routing_map = Mapping::new(&routing_file, true)?;
        seal(&routing_file, true)?;
        // SAFETY: a new memory file is zeroed and this is the only writable mapping of it that can ever be; the mapping
        // lives in the segment, which the base keeps as long as the writer.
        let writer = unsafe { Writer::create(tables_map.start(), geometry, lan) };
        let tables = *writer.tables();
        let alarm = || rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let alarms = [alarm(), alarm(), alarm(), alarm()];
        let [a, b, c, d] = alarms.map(|made| made.map_err(io::Error::from));
        let alarms = [a?, b?, c?, d?];
        let images = [const { OnceLock::new() }; _];
        let segment = Self {
            tables,
            tables_map,
            buffers_map,
            routing_map,
            tables_file,
            buffers_file,
            routing_file,
            images,
            shelf: Shelf::default(),
            alarms,
        };
        Ok((Arc::new(segment), writer))
    }

    /// Maps the segment that a base handed out: the buffers for writing, the others for reading. `alarms` are those of
    /// its base workers, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Tables`] when it is not a LAN, or one of another ABI version; [`SegmentError::System`].
    pub fn attach(files: Files<OwnedFd>, alarms: [OwnedFd; WORKERS as usize]) -> Result<Arc<Self>, SegmentError> {
        let Files { tables: tables_file, buffers: buffers_file, routing: routing_file, images: image_files } = files;
        let tables_map = Mapping::new(&tables_file, false)?;
        // SAFETY: the mapping is stored beside the tables and outlives them.
        let tables = unsafe { Tables::open(tables_map.start(), tables_map.bytes()) }?;
        let buffers_map = Mapping::new(&buffers_file, true)?;
        if buffers_map.bytes() < tables.geometry().buffers_bytes() {
            return Err(TablesError::Damaged.into());
        }
        let routing_map = Mapping::new(&routing_file, false)?;
        if routing_map.bytes() < routing::BYTES {
            return Err(TablesError::Damaged.into());
        }
        let images = [const { OnceLock::new() }; _];
        let segment = Self {
            tables,
            tables_map,
            buffers_map,
            routing_map,
            tables_file,
            buffers_file,
            routing_file,
            images,
            shelf: Shelf::default(),
            alarms,
        };
        for (section, file) in Section::ALL.into_iter().zip(image_files) {
            if let Some(file) = file {
                segment.map_image(section, file)?;
            }
        }
        Ok(Arc::new(segment))
    }

    /// The tables.
    #[must_use]
    #[inline]
    pub fn tables(&self) -> &Tables {
        debug_assert!(self.tables_map.bytes() >= self.tables.geometry().tables_bytes());
        &self.tables
    }

    /// The descriptors of the memory files.
    #[must_use]
    pub fn files(&self) -> Files<BorrowedFd<'_>> {
        Files {
            tables: self.tables_file.as_fd(),
            buffers: self.buffers_file.as_fd(),
            routing: self.routing_file.as_fd(),
            images: self.images.each_ref().map(|image| image.get().map(|image| image.file.as_fd())),
        }
    }

    /// Maps the image in which a section lies for reading, beside the routing segment. False where one is mapped for it
    /// already: a section has one image as long as the segment lives.
    ///
    /// # Errors
    ///
    /// [`SegmentError::System`].
    pub fn map_image(&self, section: Section, file: OwnedFd) -> Result<bool, SegmentError> {
        let map = Mapping::new(&file, false)?;
        Ok(self.images[section as usize].set(Image { map, file }).is_ok())
    }

    /// Bytes of the image that is mapped for a section, 0 where none is.
    #[must_use]
    pub fn image_bytes(&self, section: Section) -> u64 {
        self.images[section as usize].get().map_or(0, |image| image.map.bytes())
    }

    /// Where the sections of routing lie.
    #[must_use]
    #[inline]
    pub fn roots(&self) -> &'static Roots {
        // SAFETY: the first page of the mapping is there, as its size says; roots are made of atomics, for which every bit
        // pattern is valid. The lifetime is the mapping's: users hold the segment.
        unsafe { self.routing_map.start().cast().as_ref() }
    }

    /// The words of a section as it lies now; none where it is empty, or its root leads out of what is mapped here.
    #[must_use]
    #[inline]
    pub fn section(&self, section: Section) -> &'static [AtomicU32] {
        let root = self.roots().root(section);
        self.words(section, root).unwrap_or(&[])
    }

    /// The words that a root of a section leads to, if they are mapped here.
    #[must_use]
    pub fn words(&self, section: Section, root: Root) -> Option<&'static [AtomicU32]> {
        let map = if root.in_image() { &self.images[section as usize].get()?.map } else { &self.routing_map };
        let end = root.at() + root.words() as u64 * 4;
        if end > map.bytes() {
            return None;
        }
        // SAFETY: the range was just checked and starts on a page; words are atomics, for which every bit pattern is valid.
        // In what is mapped for reading only nobody stores: the writing side is the base's alone. The lifetime is the
        // mapping's: users hold the segment, and an image stays once it is mapped.
        Some(unsafe { core::slice::from_raw_parts(map.start().add(root.at() as usize).cast().as_ptr(), root.words()) })
    }

    /// The filters that senders of this process have read.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
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
