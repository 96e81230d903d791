//! The binding of work queues: their ends, and what the broker does.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use pyo3::Borrowed;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyString};
use vnet_base::lock::Token;
use vnet_base::map::{memory_file, seal};
use vnet_base::sync::{AtomicU32, Ordering};
use vnet_bus::forks::Origin;
use vnet_bus::queue::{Desk, DeskMemory, Ended, Life, Memory, PAGE, Poster, Queue, Refused, Shape, eventfd};
use vnet_drivers::ring::Ring;

use super::port::Port;
use super::{duplicate, error, gone, seconds};

/// The longest sleep in one go; after it the caller looks whether everybody is still there.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// Posts between two looks whether the base is still there.
const LOOKS: u32 = 64;

fn shape_of(capacity: u32, item_size: u32, priorities: u32) -> PyResult<Shape> {
    Shape::new(capacity, item_size, priorities).map_err(|wrong| PyValueError::new_err(wrong.to_string()))
}

/// Bytes that a queue takes when it has been full.
#[pyfunction]
pub(super) fn queue_bytes(capacity: u32, item_size: u32, priorities: u32) -> PyResult<u64> {
    Ok(shape_of(capacity, item_size, priorities)?.full_bytes())
}

/// Makes the memory file of a queue.
#[pyfunction]
pub(super) fn queue_make(name: &str, capacity: u32, item_size: u32, priorities: u32) -> PyResult<i32> {
    let file = memory_file(name, shape_of(capacity, item_size, priorities)?.file_bytes())?;
    seal(&file, false)?;
    Ok(file.into_raw_fd())
}

/// Makes the memory file of a desk, and the eventfd that rings there.
#[pyfunction]
pub(super) fn desk_make(name: &str) -> PyResult<(i32, i32)> {
    let file = memory_file(name, PAGE)?;
    seal(&file, false)?;
    let event = eventfd()?;
    Ok((file.into_raw_fd(), event.into_raw_fd()))
}

/// Whoever holds an end: the process that opened it, and its NIC where it has one.
pub(super) struct Holder {
    pub(super) origin: Origin,
    ring: Option<Arc<Ring>>,
}

impl Holder {
    /// Raises what makes the end unusable, if something does.
    #[inline]
    pub(super) fn check(&self, py: Python<'_>) -> PyResult<()> {
        if !self.origin.is_here() {
            let message = "this queue was opened by the parent process; open it anew after fork()";
            return Err(error(py, "ForkedNic", message));
        }
        match &self.ring {
            Some(ring) => ring.check().map_err(|why| gone(py, why)),
            None => Ok(()),
        }
    }

    pub(super) fn new(port: Option<&Port>) -> Self {
        Self { origin: Origin::here(), ring: port.map(|port| Arc::clone(&port.ring)) }
    }
}

/// A guest's desk: the doorbell of all queues that it works on.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct WorkDesk {
    pub(super) desk: Arc<Desk>,
    life: Option<OwnedFd>,
}

#[pymethods]
impl WorkDesk {
    #[new]
    #[pyo3(signature = (file, event, life=None))]
    fn new(file: i32, event: i32, life: Option<i32>) -> PyResult<Self> {
        let memory = DeskMemory::map(duplicate(file)?)?;
        let desk = Arc::new(Desk::new(memory, duplicate(event)?));
        Ok(Self { desk, life: life.map(duplicate).transpose()? })
    }

    /// Wakes whoever works at the desk, whatever it says.
    fn force(&self) {
        self.desk.force();
    }

    /// Whether whoever works at the desk says that it waits.
    #[getter]
    fn idle(&self) -> bool {
        self.desk.is_idle()
    }
}

impl WorkDesk {
    pub(super) fn life(&self) -> PyResult<Option<Life>> {
        Ok(self.life.as_ref().map(OwnedFd::try_clone).transpose()?.map(Life::new))
    }
}

/// A priority that Python passed. One that no word holds is as little a queue's as the largest that one does.
#[derive(Clone, Copy)]
struct Priority(i64);

impl<'py> FromPyObject<'_, 'py> for Priority {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract::<i64>() {
            Ok(priority) => Ok(Self(priority)),
            Err(failure) if failure.is_instance_of::<PyOverflowError>(object.py()) => {
                Ok(Self(if object.lt(0)? { i64::MIN } else { i64::MAX }))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// An end of a queue: what `vnet.queues.WorkQueue` is made of.
#[pyclass(frozen, subclass, module = "vnet._native")]
pub(crate) struct QueueEnd {
    title: String,
    shape: Shape,
    holder: Holder,
    /// `None` once it is closed. Whoever posts has it read-locked, so that whoever closes waits for that.
    poster: RwLock<Option<Opened>>,
    looks: AtomicU32,
}

/// As Python sees what a queue counted; see [`QueueEnd::counters`].
type Counters = (Vec<u64>, Vec<u64>, u64, u64, u64);

/// What an end has as long as it is open; `life` tells of the base's end.
struct Opened {
    poster: Arc<Poster>,
    life: Option<Life>,
}

#[pymethods]
impl QueueEnd {
    #[new]
    #[pyo3(signature = (title, file, desk, capacity, item_size, priorities, token, port=None))]
    #[allow(clippy::too_many_arguments, reason = "they are what the broker's answer says")]
    fn new(
        title: String,
        file: i32,
        desk: &WorkDesk,
        capacity: u32,
        item_size: u32,
        priorities: u32,
        token: u32,
        port: Option<&Port>,
    ) -> PyResult<Self> {
        let shape = shape_of(capacity, item_size, priorities)?;
        let queue = Arc::new(Queue::new(Memory::map(duplicate(file)?, shape)?));
        let poster = Arc::new(Poster::new(queue, Arc::clone(&desk.desk), Token(token)));
        let opened = Opened { poster, life: desk.life()? };
        Ok(Self {
            title,
            shape,
            holder: Holder::new(port),
            poster: RwLock::new(Some(opened)),
            looks: AtomicU32::new(0),
        })
    }

    #[pyo3(signature = (item, priority=Priority(0), block=false, timeout=None), text_signature = "($self, item, priority=0, block=False, timeout=None)")]
    fn post(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        priority: Priority,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let timeout = seconds("timeout", timeout)?;
        let priority = this.ready(py, priority)?;
        let item = this.item(item)?;
        let at_once = this.with(|poster| poster.try_post(priority, item.as_bytes()));
        if at_once == Some(Ok(())) {
            return Ok(());
        }
        let items = [item.as_bytes()];
        let (_, refused) = this.post_slowly(slf, priority, &items, block, timeout)?;
        match refused {
            None => Ok(()),
            Some(refused) => Err(this.refusal(py, refused)),
        }
    }

    #[pyo3(signature = (items, priority=Priority(0), block=false, timeout=None), text_signature = "($self, items, priority=0, block=False, timeout=None)")]
    fn post_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        priority: Priority,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<usize> {
        let (py, this) = (slf.py(), slf.get());
        let timeout = seconds("timeout", timeout)?;
        let priority = this.ready(py, priority)?;
        let kept = this.items(items)?;
        let bytes: Vec<&[u8]> = kept.iter().map(|item| item.as_bytes()).collect();
        match this.post_slowly(slf, priority, &bytes, block, timeout)? {
            // What ended the queue says the next call, so that it is known how many were taken.
            (0, Some(refused @ Refused::Ended(_))) => Err(this.refusal(py, refused)),
            (taken, _) => Ok(taken),
        }
    }

    /// Counts: posted and taken by priority, refused, publications, interrupts.
    fn counters(&self) -> PyResult<Counters> {
        let poster = self.poster().ok_or_else(|| self.closed())?;
        let statistics = poster.queue().statistics();
        let priorities = self.shape.priorities();
        Ok((
            statistics.posted[..priorities].to_vec(),
            statistics.taken[..priorities].to_vec(),
            statistics.refused,
            statistics.publications,
            statistics.interrupts,
        ))
    }

    /// Why the queue takes no more items, here: "closed", "gone", "lan" or "damaged".
    #[getter]
    fn ended(&self) -> Option<&'static str> {
        let ended = self.poster().map_or(Some(Ended::Closed), |poster| poster.queue().ended());
        Some(match ended? {
            Ended::Closed => "closed",
            Ended::Gone => "gone",
            Ended::Lan => "lan",
            Ended::Damaged => "damaged",
        })
    }

    /// Ends the queue for all, as "closed", "gone", "lan" or "damaged".
    fn end(&self, why: &str) -> PyResult<()> {
        let why = match why {
            "closed" => Ended::Closed,
            "gone" => Ended::Gone,
            "lan" => Ended::Lan,
            "damaged" => Ended::Damaged,
            _ => return Err(PyValueError::new_err("a queue ends closed, gone, lan or damaged")),
        };
        if let Some(poster) = self.poster() {
            poster.queue().end(why);
        }
        Ok(())
    }

    /// Whose token the lock holds; `None` where nobody's.
    fn lock_owner(&self) -> Option<u32> {
        self.poster()?.queue().owner().map(|token| token.0)
    }

    /// Unlocks in the name of a poster that is dead.
    fn bury(&self, token: u32) -> bool {
        self.poster().is_some_and(|poster| poster.queue().bury(Token(token)))
    }

    /// Whether the lock can be had by nobody, though nobody has it.
    fn is_jammed(&self) -> bool {
        self.poster().is_some_and(|poster| poster.queue().is_jammed())
    }

    /// Lets go of the memory, once no thread posts any more. False when that was done before.
    fn shut(&self, py: Python<'_>) -> bool {
        // Not while the interpreter is held: whoever posts may want it before it gives the end back.
        py.detach(|| self.poster.write().unwrap_or_else(PoisonError::into_inner).take()).is_some()
    }
}

impl QueueEnd {
    pub(super) fn poster(&self) -> Option<Arc<Poster>> {
        self.opened().as_ref().map(|opened| Arc::clone(&opened.poster))
    }

    fn opened(&self) -> RwLockReadGuard<'_, Option<Opened>> {
        self.poster.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the base has ended, as far as this end can tell.
    fn is_orphan(&self) -> bool {
        self.opened().as_ref().is_none_or(|opened| opened.life.as_ref().is_none_or(Life::is_over))
    }

    fn with<T>(&self, work: impl FnOnce(&Poster) -> T) -> Option<T> {
        self.opened().as_ref().map(|opened| work(&opened.poster))
    }

    pub(super) fn closed(&self) -> PyErr {
        PyValueError::new_err(format!("{} is closed here", self.title))
    }

    /// Looks at what can be known without the queue. Returns the priority.
    #[inline]
    fn ready(&self, py: Python<'_>, priority: Priority) -> PyResult<usize> {
        self.holder.check(py)?;
        let priorities = self.shape.priorities();
        let Some(wanted) = usize::try_from(priority.0).ok().filter(|wanted| *wanted < priorities) else {
            let (title, most) = (&self.title, priorities - 1);
            return Err(PyValueError::new_err(format!("{title} has priorities 0 to {most}, not {}", priority.0)));
        };
        if self.looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKS) {
            self.look(py)?;
        }
        Ok(wanted)
    }

    /// Tells all who use the queue where the base has ended, and raises it.
    #[cold]
    fn look(&self, py: Python<'_>) -> PyResult<()> {
        self.holder.check(py)?;
        if self.opened().as_ref().and_then(|opened| opened.life.as_ref()).is_some_and(Life::is_over) {
            self.with(|poster| poster.queue().end(Ended::Lan));
            return Err(self.refusal(py, Refused::Ended(Ended::Lan)));
        }
        Ok(())
    }

    /// An item that Python passed: `bytes` as it is, anything else that is bytes-like copied.
    #[inline]
    fn item<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let item = match object.cast::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) => copied(object)?,
        };
        let (length, most) = (item.as_bytes().len(), self.shape.item_bytes());
        if length > most {
            let message =
                format!("an item of {length} bytes does not fit: those of {} have at most {most}", self.title);
            return Err(PyValueError::new_err(message));
        }
        Ok(item)
    }

    fn items<'py>(&self, objects: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        if let Ok(list) = objects.cast::<PyList>() {
            return list.iter().map(|object| self.item(&object)).collect();
        }
        if objects.is_instance_of::<PyBytes>()
            || objects.is_instance_of::<PyByteArray>()
            || objects.is_instance_of::<PyString>()
        {
            return Err(PyTypeError::new_err("several items are a list or another iterable, not one bytes object"));
        }
        objects.try_iter()?.map(|object| self.item(&object?)).collect()
    }

    /// Posts all, or up to where there is no room and no time to wait for some. Returns how many, and why not all.
    fn post_slowly(
        &self,
        slf: &Bound<'_, Self>,
        priority: usize,
        items: &[&[u8]],
        block: bool,
        timeout: Option<Duration>,
    ) -> PyResult<(usize, Option<Refused>)> {
        let py = slf.py();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (mut done, mut stuck) = (0, false);
        loop {
            let posted = py.detach(|| self.with(|poster| poster.post(priority, &items[done..])));
            let Some((taken, refused)) = posted else { return Err(self.closed()) };
            done += taken;
            let Some(refused) = refused else { return Ok((done, None)) };
            self.look(py)?;
            let time_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match refused {
                Refused::Ended(_) => return Ok((done, Some(refused))),
                // The broker knows who is dead, and whom it has given a token.
                Refused::Locked if !stuck => {
                    stuck = true;
                    slf.call_method0("_stuck")?;
                }
                _ if !block || time_over => {
                    self.with(|poster| poster.refuse((items.len() - done) as u64));
                    return Ok((done, Some(refused)));
                }
                Refused::Full => {
                    stuck = false;
                    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    let slice = left.map_or(SLICE, |left| left.min(SLICE));
                    // Not with the end in the hand: whoever closes it does not wait for room.
                    let poster = self.poster().ok_or_else(|| self.closed())?;
                    let _ = py.detach(|| poster.wait_for_room(priority, items.len() - done, slice));
                }
                Refused::Locked => stuck = false,
            }
            py.check_signals()?;
        }
    }

    #[cold]
    fn refusal(&self, py: Python<'_>, refused: Refused) -> PyErr {
        let title = &self.title;
        let refused = match refused {
            // Whoever has the queue can have written that there; the base itself says it by its death.
            Refused::Ended(Ended::Lan) if !self.is_orphan() => Refused::Ended(Ended::Damaged),
            refused => refused,
        };
        let (name, message) = match refused {
            Refused::Full => {
                let capacity = self.shape.capacity();
                ("QueueFull", format!("{title} is full: {capacity} items of this priority wait"))
            }
            Refused::Locked => {
                ("QueueFull", format!("{title} takes nothing: another poster is stopped in the middle of posting"))
            }
            Refused::Ended(Ended::Closed) => {
                ("QueueClosed", format!("{title} was closed by the guest that works on it"))
            }
            Refused::Ended(Ended::Gone) => {
                ("QueueClosed", format!("{title} is gone: the guest that works on it left the LAN or died"))
            }
            Refused::Ended(Ended::Lan) => ("LanClosed", format!("the LAN of {title} has ended")),
            Refused::Ended(Ended::Damaged) => (
                "QueueClosed",
                format!("{title} is damaged: some process wrote over it, and nobody can use it any more"),
            ),
        };
        error(py, name, &message)
    }
}

#[cold]
fn copied<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    // memoryview() takes what has the buffer protocol and nothing else; bytes() would take a number, too.
    let view = py.import("builtins")?.getattr("memoryview")?.call1((object,)).map_err(|_| {
        let kind = object.get_type().name().map_or_else(|_| "this".into(), |name| name.to_string());
        PyTypeError::new_err(format!("an item is bytes-like, not {kind}"))
    })?;
    Ok(view.call_method0("tobytes")?.cast_into::<PyBytes>()?)
}
