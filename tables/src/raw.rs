//! Turns mapped bytes into typed rows. All that is unsafe in this crate is here.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use crate::host::{Bucket4, Bucket6};
use crate::layout::{Geometry, Header, NETWORKS};
use crate::network::NetworkRow;
use crate::nic::NicRow;

/// The rows of a tables segment.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) header: &'static Header,
    pub(crate) networks: &'static [NetworkRow],
    pub(crate) nics: &'static [NicRow],
    pub(crate) hosts4: &'static [Bucket4],
    pub(crate) hosts6: &'static [Bucket6],
}

/// The header alone, to read the geometry from.
///
/// # Safety
///
/// `start` points to at least one page of mapped memory, aligned to a page, that stays mapped while the result is used.
pub(crate) unsafe fn header(start: NonNull<u8>) -> &'static Header {
    // SAFETY: the caller vouches for the page; a header is made of atomics, for which every bit pattern is valid.
    unsafe { start.cast().as_ref() }
}

/// All rows.
///
/// # Safety
///
/// `start` points to `geometry.tables_bytes()` bytes of mapped memory, aligned to a page, that stay mapped while the
/// result is used; `geometry` is sound.
pub(crate) unsafe fn rows(start: NonNull<u8>, geometry: &Geometry) -> Rows {
    // SAFETY: each section lies inside `tables_bytes()` by construction of the geometry and starts at a multiple of 64;
    // every row is made of atomics, for which every bit pattern is valid and shared writing is no data race.
    unsafe {
        Rows {
            header: header(start),
            networks: section(start, geometry.networks_at(), NETWORKS as usize),
            nics: section(start, geometry.nics_at(), geometry.nics as usize),
            hosts4: section(start, geometry.hosts4_at(), geometry.buckets4 as usize),
            hosts6: section(start, geometry.hosts6_at(), geometry.buckets6 as usize),
        }
    }
}

/// # Safety
///
/// `at + count * size_of::<T>()` bytes from `start` on are mapped, aligned for `T`, valid for `T` whatever they hold.
unsafe fn section<T>(start: NonNull<u8>, at: u64, count: usize) -> &'static [T] {
    // SAFETY: as the caller vouches.
    unsafe { core::slice::from_raw_parts(start.as_ptr().add(at as usize).cast(), count) }
}
