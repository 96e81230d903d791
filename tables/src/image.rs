//! The image: sections of a routing segment, compiled, in a file that later LANs map instead of compiling them again.
//!
//! ```text
//!  0          ┌──────────────────────────────────────────────┐
//!             │ header: what the file is and what is in it   │ one page
//!  4096       ├──────────────────────────────────────────────┤
//!             │ first section, then zeros up to a whole page │ words of 32 bits, in the machine's byte order
//!             ├──────────────────────────────────────────────┤
//!             │ second section …                             │
//!             └──────────────────────────────────────────────┘ file_bytes: exactly the length of the file
//!
//!  the header
//!    0 magic [u8; 8] │   8 byte_order u32 │  12 version u32 │ 16 abi u32 │ 20 word_bits u32
//!   24 machine [u8; 16] │ 40 sections u32 │ 44 header_checksum u32 │ 48 file_bytes u64 │ 56 (zero) u64
//!   64 key [u8; 32] │ 96 label [u8; 160]
//!  256 Entry × 16 │ 768 zeros …
//!
//!  an entry: 0 kind u32 │ 4 checksum u32 │ 8 at u64 │ 16 words u64 │ 24 (zero) u64
//! ```
//!
//! A section means the same wherever it is mapped: positions in it count from its beginning. Sections lie one behind the
//! other, each from a page on, so every byte of the file belongs to the header or to one section, and each of these has a
//! checksum over all of its bytes: there is no place where a bit can change unseen. The header is written last. A file
//! whose writer was killed begins with zeros and is no image.
//!
//! What is checked, in this order, because a later test understands only what the earlier ones let through: that it is
//! an image; of this byte order, version of the format, ABI of the segments and machine; that the header is whole; that it
//! was compiled from what the caller has in mind; that the file has its length; that each section is whole. Checksums
//! tell accidents, not malice: images are only ever taken from files of the same user, who could as well change vnet.

use core::cmp::Ordering;
use core::mem::{offset_of, size_of};
use std::io::{self, Seek, SeekFrom, Write};

use thiserror::Error;

use crate::layout::{ABI, PAGE};

/// The first bytes of an image.
pub const MAGIC: [u8; 8] = *b"vnet-img";

/// The version of the format of the file. What the sections mean is the business of [`ABI`].
pub const VERSION: u32 = 1;

/// Reads otherwise on a machine of another byte order.
pub const BYTE_ORDER: u32 = 0x0102_0304;

/// Sections that an image can have.
pub const MOST_SECTIONS: usize = 16;

/// Bytes of the text that says what an image was compiled from.
pub const LABEL_BYTES: usize = 160;

/// Largest section, in words: what a root of the routing segment can say.
pub const MOST_WORDS: u64 = u32::MAX as u64;

/// What is read at a time to be checked: stays in the cache of one processor.
const CHUNK: usize = 128 << 10;

const PAGE_BYTES: usize = PAGE as usize;

/// What an image was compiled from: the hash of a canonical form of it.
pub type Key = [u8; 32];

/// The parts of a routing segment, by the numbers that they have in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Kind {
    /// Who comes after whom.
    Plan = 0,
    /// Programs that decide what may pass.
    Filters = 1,
    /// The route table.
    Routes = 2,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Self; 3] = [Self::Plan, Self::Filters, Self::Routes];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Filters => "filters",
            Self::Routes => "routes",
        }
    }
}

/// Why a file cannot be used as the image that somebody wants. Each is a sentence about the file.
#[derive(Debug, Error)]
pub enum ImageError {
    /// It does not begin as an image does.
    #[error("it is no image")]
    NotAnImage,
    /// Written by a machine whose numbers begin at the other end.
    #[error("it is of a machine of the other byte order")]
    ByteOrder,
    /// Its format is that of another vnet.
    #[error("its format has version {found}, this vnet has {VERSION}")]
    Version {
        /// What the file says.
        found: u32,
    },
    /// What is in it is laid out for another vnet.
    #[error("it has ABI version {found}, this vnet has {ABI}")]
    Abi {
        /// What the file says.
        found: u32,
    },
    /// Compiled on another kind of machine.
    #[error(
        "it was compiled on a machine of {bits} bits called {machine:?}, this one has {} and is called {:?}",
        usize::BITS,
        std::env::consts::ARCH
    )]
    Machine {
        /// Bits of an address there.
        bits: u32,
        /// What its architecture is called.
        machine: String,
    },
    /// The header does not have its checksum, or says what cannot be.
    #[error("its header is damaged")]
    Header,
    /// Compiled from something else.
    #[error("it was compiled from something else: its key is {}", hex(found))]
    Key {
        /// What the file says.
        found: Key,
    },
    /// The file ends early.
    #[error("it is truncated: {found} of {expected} bytes are there")]
    Truncated {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have, as far as is known.
        expected: u64,
    },
    /// There is more behind its end.
    #[error("there are {found} bytes in it where there should be {expected}")]
    TooLong {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A section does not have its checksum.
    #[error("its section {:?} is damaged", .0.name())]
    Section(Kind),
    /// The system could not read it.
    #[error("it cannot be read: {0}")]
    System(#[from] io::Error),
}

/// A key as its hexadecimal digits.
#[must_use]
pub fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[repr(C)]
struct Header {
    magic: [u8; 8],
    byte_order: u32,
    version: u32,
    abi: u32,
    word_bits: u32,
    machine: [u8; 16],
    sections: u32,
    header_checksum: u32,
    file_bytes: u64,
    zero: u64,
    key: Key,
    label: [u8; LABEL_BYTES],
    entries: [Entry; MOST_SECTIONS],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    kind: u32,
    checksum: u32,
    at: u64,
    words: u64,
    zero: u64,
}

const ENTRIES_AT: usize = offset_of!(Header, entries);
const CHECKSUM_AT: usize = offset_of!(Header, header_checksum);

const _: () = {
    assert!(offset_of!(Header, magic) == 0);
    assert!(offset_of!(Header, byte_order) == 8);
    assert!(offset_of!(Header, version) == 12);
    assert!(offset_of!(Header, abi) == 16);
    assert!(offset_of!(Header, word_bits) == 20);
    assert!(offset_of!(Header, machine) == 24);
    assert!(offset_of!(Header, sections) == 40);
    assert!(CHECKSUM_AT == 44);
    assert!(offset_of!(Header, file_bytes) == 48);
    assert!(offset_of!(Header, zero) == 56);
    assert!(offset_of!(Header, key) == 64);
    assert!(offset_of!(Header, label) == 96);
    assert!(ENTRIES_AT == 256);
    assert!(offset_of!(Entry, kind) == 0);
    assert!(offset_of!(Entry, checksum) == 4);
    assert!(offset_of!(Entry, at) == 8);
    assert!(offset_of!(Entry, words) == 16);
    assert!(offset_of!(Entry, zero) == 24);
    assert!(size_of::<Entry>() == 32);
    assert!(size_of::<Header>() == 768 && size_of::<Header>() <= PAGE_BYTES);
    assert!(CHUNK.is_multiple_of(PAGE_BYTES));
};

/// A section of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which it is.
    pub kind: Kind,
    /// Where it begins in the file, in bytes: at a page.
    pub at: u64,
    /// How many words of 32 bits it has.
    pub words: u64,
}

/// What an image says about itself, after it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What it was compiled from.
    pub key: Key,
    /// The same in words, for people.
    pub label: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// What is in it, one behind the other.
    pub sections: Vec<Section>,
}

impl Image {
    /// The section of a kind.
    #[must_use]
    pub fn section(&self, kind: Kind) -> Option<Section> {
        self.sections.iter().copied().find(|section| section.kind == kind)
    }
}

/// Writes an image of `sections` at the beginning of `out`, its header last.
///
/// `label` says in words what it was compiled from; what does not fit is cut off.
///
/// # Errors
///
/// What writing said.
///
/// # Panics
///
/// With more sections than an image can have, twice the same one, or one of more than [`MOST_WORDS`] words.
pub fn write(out: &mut (impl Write + Seek), key: &Key, label: &str, sections: &[(Kind, &[u32])]) -> io::Result<u64> {
    assert!(sections.len() <= MOST_SECTIONS, "an image has at most {MOST_SECTIONS} sections");
    let mut entries = Vec::new();
    let mut at = PAGE;
    out.seek(SeekFrom::Start(at))?;
    for (index, (kind, words)) in sections.iter().enumerate() {
        assert!(words.len() as u64 <= MOST_WORDS, "a section is too long for its root");
        assert!(sections[..index].iter().all(|(other, _)| other != kind), "a section is there twice");
        let (bytes, checksum) = write_section(out, words)?;
        entries.push(Entry { kind: *kind as u32, checksum, at, words: words.len() as u64, zero: 0 });
        at += bytes;
    }
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&header(key, label, at, &entries))?;
    Ok(at)
}

/// Writes words, and zeros up to a whole page. Returns how many bytes that was, and their checksum.
fn write_section(out: &mut impl Write, words: &[u32]) -> io::Result<(u64, u32)> {
    let mut checksum = crc32fast::Hasher::new();
    let mut bytes = Vec::with_capacity(CHUNK);
    let mut written = 0;
    for words in words.chunks(CHUNK / 4) {
        bytes.clear();
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        checksum.update(&bytes);
        out.write_all(&bytes)?;
        written += bytes.len() as u64;
    }
    Ok((written, checksum.finalize()))
}

fn header(key: &Key, label: &str, file_bytes: u64, entries: &[Entry]) -> Vec<u8> {
    let mut page = vec![0; PAGE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset_of!(Header, magic), &MAGIC);
    put(offset_of!(Header, byte_order), &BYTE_ORDER.to_ne_bytes());
    put(offset_of!(Header, version), &VERSION.to_ne_bytes());
    put(offset_of!(Header, abi), &ABI.to_ne_bytes());
    put(offset_of!(Header, word_bits), &usize::BITS.to_ne_bytes());
    put(offset_of!(Header, machine), &machine());
    put(offset_of!(Header, sections), &(entries.len() as u32).to_ne_bytes());
    put(offset_of!(Header, file_bytes), &file_bytes.to_ne_bytes());
    put(offset_of!(Header, key), key);
    put(offset_of!(Header, label), &label.as_bytes()[..label.floor_char_boundary(LABEL_BYTES)]);
    for (index, entry) in entries.iter().enumerate() {
        let at = ENTRIES_AT + index * size_of::<Entry>();
        put(at + offset_of!(Entry, kind), &entry.kind.to_ne_bytes());
        put(at + offset_of!(Entry, checksum), &entry.checksum.to_ne_bytes());
        put(at + offset_of!(Entry, at), &entry.at.to_ne_bytes());
        put(at + offset_of!(Entry, words), &entry.words.to_ne_bytes());
    }
    let checksum = crc32fast::hash(&page);
    page[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_ne_bytes());
    page
}

/// What this machine's architecture is called, in the room that the header has for it.
fn machine() -> [u8; 16] {
    let mut room = [0; 16];
    let name = std::env::consts::ARCH.as_bytes();
    let length = name.len().min(room.len());
    room[..length].copy_from_slice(&name[..length]);
    room
}

/// Checks the bytes of an image, all of them.
///
/// # Errors
///
/// Any of [`ImageError`]; [`ImageError::Key`] only where a `key` is wanted.
pub fn check(bytes: &[u8], key: Option<&Key>) -> Result<Image, ImageError> {
    let mut read = |at: u64, into: &mut [u8]| {
        let end = io::Error::from(io::ErrorKind::UnexpectedEof);
        let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..into.len())).ok_or(end)?;
        into.copy_from_slice(from);
        Ok(())
    };
    check_with(bytes.len() as u64, key, &mut read)
}

/// Checks an image of `length` bytes that `read(at, into)` reads.
///
/// Reading copies what is read, so a file that changes or becomes shorter meanwhile is an error like others, which it
/// would not be to a reader of mapped memory.
///
/// # Errors
///
/// As for [`check`].
pub fn check_with(
    length: u64,
    key: Option<&Key>,
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> Result<Image, ImageError> {
    let mut page = vec![0; length.min(PAGE) as usize];
    read(0, &mut page)?;
    let (image, checksums) = read_header(&page, length, key)?;
    let mut chunk = vec![0; CHUNK];
    for (section, expected) in image.sections.iter().zip(checksums) {
        let mut checksum = crc32fast::Hasher::new();
        let (mut at, end) = (section.at, section.at + padded(section.words));
        while at < end {
            let bytes = &mut chunk[..(end - at).min(CHUNK as u64) as usize];
            read(at, bytes)?;
            checksum.update(bytes);
            at += bytes.len() as u64;
        }
        if checksum.finalize() != expected {
            return Err(ImageError::Section(section.kind));
        }
    }
    Ok(image)
}

/// Checks what can be checked of an image of `length` bytes by its header alone: its first page, or all of a shorter file.
///
/// # Errors
///
/// As for [`check`], but for sections.
pub fn peek(page: &[u8], length: u64, key: Option<&Key>) -> Result<Image, ImageError> {
    read_header(page, length, key).map(|(image, _)| image)
}

/// Reads and checks the first page. Returns what it says, and the checksums of the sections.
fn read_header(page: &[u8], length: u64, key: Option<&Key>) -> Result<(Image, Vec<u32>), ImageError> {
    if page.get(..MAGIC.len()) != Some(&MAGIC[..]) {
        return Err(ImageError::NotAnImage);
    }
    let page: &[u8; PAGE_BYTES] =
        page.try_into().map_err(|_| ImageError::Truncated { found: length, expected: PAGE })?;
    let byte_order = u32_at(page, offset_of!(Header, byte_order));
    if byte_order == BYTE_ORDER.swap_bytes() {
        return Err(ImageError::ByteOrder);
    }
    let found = u32_at(page, offset_of!(Header, version));
    if found != VERSION {
        return Err(ImageError::Version { found });
    }
    let found = u32_at(page, offset_of!(Header, abi));
    if found != ABI {
        return Err(ImageError::Abi { found });
    }
    let bits = u32_at(page, offset_of!(Header, word_bits));
    let name: [u8; 16] = array_at(page, offset_of!(Header, machine));
    if bits != usize::BITS || name != machine() {
        let machine = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
        return Err(ImageError::Machine { bits, machine });
    }
    let mut blank = *page;
    blank[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
    if crc32fast::hash(&blank) != u32_at(page, CHECKSUM_AT) || byte_order != BYTE_ORDER {
        return Err(ImageError::Header);
    }
    let image = read_contents(page).ok_or(ImageError::Header)?;
    if key.is_some_and(|key| *key != image.key) {
        return Err(ImageError::Key { found: image.key });
    }
    let (found, expected) = (length, image.bytes);
    match found.cmp(&expected) {
        Ordering::Less => return Err(ImageError::Truncated { found, expected }),
        Ordering::Greater => return Err(ImageError::TooLong { found, expected }),
        Ordering::Equal => {}
    }
    let checksum = |index| u32_at(page, ENTRIES_AT + index * size_of::<Entry>() + offset_of!(Entry, checksum));
    let checksums = (0..image.sections.len()).map(checksum).collect();
    Ok((image, checksums))
}

/// What a header with a right checksum says, unless it cannot be: sections that are unknown, twice there, or not one
/// behind the other.
fn read_contents(page: &[u8; PAGE_BYTES]) -> Option<Image> {
    let count = u32_at(page, offset_of!(Header, sections)) as usize;
    if count > MOST_SECTIONS {
        return None;
    }
    let mut sections: Vec<Section> = Vec::with_capacity(count);
    let mut end = PAGE;
    for index in 0..count {
        let entry = ENTRIES_AT + index * size_of::<Entry>();
        let number = u32_at(page, entry + offset_of!(Entry, kind));
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u32 == number)?;
        let at = u64_at(page, entry + offset_of!(Entry, at));
        let words = u64_at(page, entry + offset_of!(Entry, words));
        if at != end || words > MOST_WORDS || sections.iter().any(|section| section.kind == kind) {
            return None;
        }
        end += padded(words);
        sections.push(Section { kind, at, words });
    }
    let bytes = u64_at(page, offset_of!(Header, file_bytes));
    let label: [u8; LABEL_BYTES] = array_at(page, offset_of!(Header, label));
    let label = String::from_utf8_lossy(&label).trim_end_matches('\0').to_owned();
    (bytes == end).then(|| Image { key: array_at(page, offset_of!(Header, key)), label, bytes, sections })
}

/// Bytes of whole pages that so many words take; at most a hundredth of what 64 bits hold.
const fn padded(words: u64) -> u64 {
    (words * 4).next_multiple_of(PAGE)
}

fn array_at<const N: usize>(page: &[u8; PAGE_BYTES], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&page[at..at + N]);
    found
}

fn u32_at(page: &[u8; PAGE_BYTES], at: usize) -> u32 {
    u32::from_ne_bytes(array_at(page, at))
}

fn u64_at(page: &[u8; PAGE_BYTES], at: usize) -> u64 {
    u64::from_ne_bytes(array_at(page, at))
}
