//! A queue and a desk in memory: mapped files, or loom's models of them.
#![allow(unsafe_code)]

use vnet_base::area::Area;

use super::layout::Shape;
#[cfg(loom)]
use super::layout::{DeskPage, Head};

/// A queue's memory, mapped. Ends of the queue share it.
pub struct Memory {
    shape: Shape,
    rings: Vec<Area>,
    // Named last: what points into it goes first.
    #[cfg(not(loom))]
    mapping: vnet_base::map::Mapping,
    #[cfg(loom)]
    head: Head,
}

/// A desk's memory, mapped.
pub struct DeskMemory {
    #[cfg(not(loom))]
    mapping: vnet_base::map::Mapping,
    #[cfg(loom)]
    page: DeskPage,
}

#[cfg(not(loom))]
mod real {
    use std::io;
    use std::os::fd::AsFd;

    use vnet_base::area::Area;
    use vnet_base::map::Mapping;

    use super::super::layout::{DeskPage, Head, PAGE, Shape};
    use super::{DeskMemory, Memory};

    fn mapped(file: impl AsFd, bytes: u64, what: &str) -> io::Result<Mapping> {
        let mapping = Mapping::new(file, true)?;
        if mapping.bytes() != bytes {
            let why = format!("the memory file of a {what} has {} bytes instead of {bytes}", mapping.bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(mapping)
    }

    impl Memory {
        /// Maps a queue's memory file.
        ///
        /// # Errors
        ///
        /// Those of mapping; invalid data where the file is not as large as a queue of this shape.
        pub fn map(file: impl AsFd, shape: Shape) -> io::Result<Self> {
            let mapping = mapped(file, shape.file_bytes(), "queue")?;
            let ring = |priority| {
                let at = shape.ring_at(priority) as usize;
                // SAFETY: `ring_at` is a whole number of pages, and `ring_bytes`, a power of two, lie from there on inside
                // the file, whose size was checked; the mapping lives as long as the areas, which never leave this struct.
                unsafe { Area::new(mapping.start().add(at), shape.ring_bytes()) }
            };
            let rings = (0..shape.priorities()).map(ring).collect();
            Ok(Self { shape, rings, mapping })
        }

        #[inline]
        pub(crate) fn head(&self) -> &Head {
            // SAFETY: the file is longer than a head, its start is page-aligned, and all in a head is atomics, of which
            // every value is valid.
            unsafe { self.mapping.start().cast().as_ref() }
        }
    }

    impl DeskMemory {
        /// Maps a desk's memory file.
        ///
        /// # Errors
        ///
        /// As of [`Memory::map`].
        pub fn map(file: impl AsFd) -> io::Result<Self> {
            Ok(Self { mapping: mapped(file, PAGE, "desk")? })
        }

        #[inline]
        pub(crate) fn page(&self) -> &DeskPage {
            // SAFETY: as for `Memory::head()`.
            unsafe { self.mapping.start().cast().as_ref() }
        }
    }
}

impl Memory {
    /// How large the queue is.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The ring of a priority.
    #[inline]
    pub(crate) fn ring(&self, priority: usize) -> &Area {
        &self.rings[priority]
    }

    /// Where in its ring item number `number` lies.
    #[inline]
    pub(crate) fn slot(&self, number: u64) -> u64 {
        (number & self.shape.slot_mask()) * self.shape.stride()
    }
}

#[cfg(loom)]
impl Memory {
    /// A queue for models.
    #[must_use]
    pub fn model(shape: Shape) -> Self {
        let rings = (0..shape.priorities()).map(|_| Area::model(shape.ring_bytes())).collect();
        Self { shape, rings, head: Head::default() }
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }
}

#[cfg(loom)]
impl DeskMemory {
    /// A desk for models.
    #[must_use]
    pub fn model() -> Self {
        Self { page: DeskPage::default() }
    }

    pub(crate) fn page(&self) -> &DeskPage {
        &self.page
    }
}
