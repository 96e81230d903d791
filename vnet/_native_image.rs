//! Images: the files are written and checked here, found and published in Python.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use vnet_base::routing::Section;
use vnet_base::sync::Ordering;
use vnet_base::tables::image::{self, Image, ImageError, Key, Kind};
use vnet_base::tables::layout::PAGE;

use super::{Base, PyOSError, PyValueError, duplicate, error, lan_error};

/// Key, label, bytes of the file, and its sections: kind, where in the file in bytes, how many words.
type Told<'py> = (Bound<'py, PyBytes>, String, u64, Vec<(&'static str, u64, u64)>);

/// Writes an image at the beginning of an empty file. Sections are kinds and words of 32 bits, in the machine's byte order.
#[pyfunction]
pub(super) fn image_write(
    py: Python<'_>,
    fd: i32,
    key: Key,
    label: &str,
    sections: Vec<(String, Bound<'_, PyBytes>)>,
) -> PyResult<u64> {
    let sections = sections.into_iter().map(|(name, bytes)| Ok((kind(&name)?, words(bytes.as_bytes())?)));
    let sections = sections.collect::<PyResult<Vec<_>>>()?;
    for (index, (kind, _)) in sections.iter().enumerate() {
        if sections[..index].iter().any(|(other, _)| other == kind) {
            return Err(PyValueError::new_err(format!("section {:?} is there twice", kind.name())));
        }
    }
    let borrowed: Vec<(Kind, &[u32])> = sections.iter().map(|(kind, words)| (*kind, &words[..])).collect();
    let mut file = BufWriter::new(File::from(duplicate(fd)?));
    let written = py.detach(|| {
        let bytes = image::write(&mut file, &key, label, &borrowed)?;
        file.flush()?;
        Ok::<_, std::io::Error>(bytes)
    });
    written.map_err(|failure| PyOSError::new_err((failure.raw_os_error(), failure.to_string())))
}

/// Checks all of an image; the exception says what is wrong with it.
#[pyfunction]
pub(super) fn image_check<'py>(py: Python<'py>, fd: i32, key: Option<Key>) -> PyResult<Told<'py>> {
    let file = File::from(duplicate(fd)?);
    let checked = py.detach(|| {
        let length = file.metadata()?.len();
        image::check_with(length, key.as_ref(), &mut |at, into| file.read_exact_at(into, at))
    });
    told(py, checked)
}

/// Checks the header of an image only, and the length of the file; the exception says what is wrong with it.
#[pyfunction]
#[pyo3(signature = (fd, key=None))]
pub(super) fn image_peek<'py>(py: Python<'py>, fd: i32, key: Option<Key>) -> PyResult<Told<'py>> {
    let file = File::from(duplicate(fd)?);
    let peeked = py.detach(|| {
        let length = file.metadata()?.len();
        let mut page = vec![0; length.min(PAGE) as usize];
        file.read_exact_at(&mut page, 0)?;
        image::peek(&page, length, key.as_ref())
    });
    told(py, peeked)
}

fn told<'py>(py: Python<'py>, read: Result<Image, ImageError>) -> PyResult<Told<'py>> {
    let image = read.map_err(|unfit| error(py, "ImageError", &unfit.to_string()))?;
    let sections = image.sections.iter().map(|section| (section.kind.name(), section.at, section.words)).collect();
    Ok((PyBytes::new(py, &image.key), image.label, image.bytes, sections))
}

/// The words of a section as it lies now.
#[pyfunction]
pub(super) fn section_words<'py>(py: Python<'py>, base: &Base, section: &str) -> PyResult<Bound<'py, PyBytes>> {
    let words = base.lan.segment().section(self::section(section)?);
    // Relaxed: the base alone writes, in the thread that asks.
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
    Ok(PyBytes::new(py, &bytes))
}

/// Has a section lie in an image, of which this keeps a duplicate.
#[pyfunction]
pub(super) fn adopt_image(py: Python<'_>, base: &Base, section: &str, fd: i32, at: u64, words: usize) -> PyResult<()> {
    let (section, file) = (self::section(section)?, duplicate(fd)?);
    py.detach(|| base.lan.adopt_image(section, file, at, words)).map_err(|failure| lan_error(py, &failure))
}

/// A section of a LAN's routing by its name.
pub(super) fn section(name: &str) -> PyResult<Section> {
    let found = Section::ALL.into_iter().find(|section| section.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("{name:?} is no section: plan, filters, routes")))
}

fn kind(name: &str) -> PyResult<Kind> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("{name:?} is no section: plan, filters, routes")))
}

fn words(bytes: &[u8]) -> PyResult<Vec<u32>> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err("a section is whole words of 32 bits"));
    }
    Ok(words.iter().map(|word| u32::from_ne_bytes(*word)).collect())
}
