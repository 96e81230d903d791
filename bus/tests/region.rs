//! Regions against the kernel: what it lets a process do to them, and where it says that they are.

use std::os::fd::AsFd;

use rustix::fs::{SealFlags, fcntl_get_seals, ftruncate};
use rustix::io::Errno;
use vnet_base::map::Mapping;
use vnet_bus::region::{frames, make, ranges, reading, settle};

const PAGE: u64 = 4096;

#[test]
fn nobody_changes_the_size() {
    let file = make("vnet:test:region", 3 * PAGE, false).expect("a memory file");
    assert_eq!(ftruncate(&file, PAGE), Err(Errno::PERM));
    assert_eq!(ftruncate(&file, 4 * PAGE), Err(Errno::PERM));
    assert_eq!(rustix::fs::fstat(&file).expect("it is open").st_size, 3 * PAGE as i64);
}

#[test]
fn a_descriptor_for_reading_gives_no_writable_mapping() {
    let file = make("vnet:test:region", PAGE, false).expect("a memory file");
    let reader = reading(&file).expect("opened for reading");
    let mapping = Mapping::new(&reader, true).map(|_| ());
    assert_eq!(mapping.expect_err("EACCES").raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
    assert_eq!(rustix::io::write(&reader, b"x"), Err(Errno::BADF));
    Mapping::new(&reader, false).expect("readable");
}

#[test]
fn with_one_writer_the_mappings_that_are_there_are_the_last_writable_ones() {
    let file = make("vnet:test:region", PAGE, false).expect("a memory file");
    let before = Mapping::new(&file, true).expect("writable");
    settle(&file, true).expect("sealed");
    let after = Mapping::new(&file, true).map(|_| ());
    assert_eq!(after.expect_err("EPERM").raw_os_error(), Some(Errno::PERM.raw_os_error()));
    assert_eq!(rustix::io::write(&file, b"x"), Err(Errno::PERM));
    Mapping::new(&file, false).expect("readable");
    let found = ranges(None, &file).expect("own maps");
    assert!(found.iter().any(|range| range.start == before.start().as_ptr() as u64 && range.writable));
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    assert_eq!(fcntl_get_seals(&file), Ok(all));
}

#[test]
fn the_ranges_are_where_it_was_mapped_each_by_itself() {
    let file = make("vnet:test:region", 2 * PAGE, false).expect("a memory file");
    assert_eq!(ranges(None, &file).expect("own maps"), []);
    let reader = reading(&file).expect("opened for reading");
    let mut expected: Vec<_> = [true, true, false]
        .map(|writable| {
            let file = if writable { file.as_fd() } else { reader.as_fd() };
            Mapping::new(file, writable).expect("mapped")
        })
        .into();
    let mut starts: Vec<_> = expected.iter().map(|mapping| mapping.start().as_ptr() as u64).collect();
    starts.sort_unstable();
    let found = ranges(Some(std::process::id()), &file).expect("own maps");
    assert_eq!(found.iter().map(|range| range.start).collect::<Vec<_>>(), starts);
    assert!(found.iter().all(|range| range.bytes == 2 * PAGE));
    assert_eq!(found.iter().filter(|range| range.writable).count(), 2);
    expected.truncate(1);
    assert_eq!(ranges(None, &file).expect("own maps").len(), 1);
}

#[test]
fn two_mappings_of_a_file_have_the_same_frames_where_the_kernel_tells() {
    let file = make("vnet:test:region", 3 * PAGE, false).expect("a memory file");
    rustix::io::pwrite(&file, b"first", 0).expect("written");
    rustix::io::pwrite(&file, b"third", 2 * PAGE).expect("written");
    let (a, b) = (Mapping::new(&file, true).expect("mapped"), Mapping::new(&file, false).expect("mapped"));
    let untouched = frames(None, a.start().as_ptr() as u64, 3 * PAGE).expect("own pagemap");
    assert_eq!(untouched, Some(vec![0, 0, 0]), "no page is in this process before it is touched");
    let list: Vec<_> = [&a, &b]
        .map(|mapping| {
            // Has the kernel put the pages into this process that the file has.
            let all = rustix::mm::Advice::LinuxPopulateRead;
            populate(mapping, 1, all);
            populate(mapping, 3, all);
            frames(None, mapping.start().as_ptr() as u64, 3 * PAGE).expect("own pagemap")
        })
        .into();
    assert_eq!(list[0], list[1]);
    if let Some(frames) = &list[0] {
        // Around a fault the kernel maps neighbours that are there; the second page is nowhere.
        assert!(frames[0] != 0 && frames[2] != 0 && frames[0] != frames[2]);
    }
}

/// Has the kernel map the page `number`, from 1, of a mapping.
#[allow(unsafe_code)]
fn populate(mapping: &Mapping, number: usize, advice: rustix::mm::Advice) {
    let start = mapping.start().as_ptr().wrapping_add((number - 1) * PAGE as usize);
    // SAFETY: the range is within the mapping, and populating it for reading changes nothing in it.
    unsafe { rustix::mm::madvise(start.cast(), PAGE as usize, advice) }.expect("populated");
}
