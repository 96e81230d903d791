//! The binding of work queues: the ends of posters and of dispatchers, and what the broker does.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyString};
use vnet_base::lock::Token;
use vnet_base::map::{memory_file, seal};
use vnet_base::sync::{AtomicBool, AtomicU32, Ordering};
use vnet_bus::forks::Origin;
use vnet_bus::queue::{
    Desk, DeskMemory, Ended, Life, Memory, PAGE, Poster, Queue, Refused, Shape, Spin, Waited, Worker, eventfd,
};
use vnet_drivers::ring::Ring;

use super::port::Port;
use super::{duplicate, error, gone, seconds};

/// The longest sleep in one go; after it the caller looks whether everybody is still there.
const SLICE: Duration = Duration::from_millis(100);

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
struct Holder {
    origin: Origin,
    ring: Option<Arc<Ring>>,
}

impl Holder {
    /// Raises what makes the end unusable, if something does.
    #[inline]
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if !self.origin.is_here() {
            let message = "this queue was opened by the parent process; open it anew after fork()";
            return Err(error(py, "ForkedNic", message));
        }
        match &self.ring {
            Some(ring) => ring.check().map_err(|why| gone(py, why)),
            None => Ok(()),
        }
    }

    fn new(port: Option<&Port>) -> Self {
        Self { origin: Origin::here(), ring: port.map(|port| Arc::clone(&port.ring)) }
    }
}

/// A guest's desk: the doorbell of all queues that it works on.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct WorkDesk {
    desk: Arc<Desk>,
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
    fn life(&self) -> PyResult<Option<Life>> {
        Ok(self.life.as_ref().map(OwnedFd::try_clone).transpose()?.map(Life::new))
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

    #[pyo3(signature = (item, priority=0, block=false, timeout=None))]
    fn post(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        priority: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let timeout = seconds("timeout", timeout)?;
        this.ready(py, priority)?;
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

    #[pyo3(signature = (items, priority=0, block=false, timeout=None))]
    fn post_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        priority: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<usize> {
        let (py, this) = (slf.py(), slf.get());
        let timeout = seconds("timeout", timeout)?;
        this.ready(py, priority)?;
        let kept = this.items(items)?;
        let bytes: Vec<&[u8]> = kept.iter().map(|item| item.as_bytes()).collect();
        match this.post_slowly(slf, priority, &bytes, block, timeout)? {
            // What ended the queue says the next call, so that it is known how many were taken.
            (0, Some(refused @ Refused::Ended(_))) => Err(this.refusal(py, refused)),
            (taken, _) => Ok(taken),
        }
    }

    /// Counts: posted and taken by priority, refused, publications, interrupts.
    fn counters(&self) -> PyResult<(Vec<u64>, Vec<u64>, u64, u64, u64)> {
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

    fn with<T>(&self, work: impl FnOnce(&Poster) -> T) -> Option<T> {
        self.opened().as_ref().map(|opened| work(&opened.poster))
    }

    fn closed(&self) -> PyErr {
        PyValueError::new_err(format!("{} is closed here", self.title))
    }

    /// Looks at what can be known without the queue.
    #[inline]
    fn ready(&self, py: Python<'_>, priority: usize) -> PyResult<()> {
        self.holder.check(py)?;
        if priority >= self.shape.priorities() {
            let most = self.shape.priorities() - 1;
            return Err(PyValueError::new_err(format!("{} has priorities 0 to {most}, not {priority}", self.title)));
        }
        if self.looks.fetch_add(1, Ordering::Relaxed) % LOOKS == 0 {
            self.look(py)?;
        }
        Ok(())
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
                    let _ = py.detach(|| poster.wait_for_room(priority, slice));
                }
                Refused::Locked => stuck = false,
            }
            py.check_signals()?;
        }
    }

    #[cold]
    fn refusal(&self, py: Python<'_>, refused: Refused) -> PyErr {
        let title = &self.title;
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

/// How many items of a queue the taker gives at a time, and whether in place.
#[derive(Clone, Copy)]
struct Manner {
    number: u32,
    most: u64,
    in_place: bool,
}

struct Taking {
    worker: Worker,
    manners: Vec<Manner>,
    /// A queue that was found damaged, still to be told of.
    damaged: Option<u32>,
}

/// Takes the items of a guest's queues: what `vnet.queues.Dispatcher` is made of.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Taker {
    desk: Arc<Desk>,
    holder: Holder,
    life: Option<Life>,
    taking: Mutex<Taking>,
    woken: AtomicBool,
    pollable: OnceLock<OwnedFd>,
}

#[pymethods]
impl Taker {
    #[new]
    #[pyo3(signature = (desk, port=None))]
    fn new(desk: &WorkDesk, port: Option<&Port>) -> PyResult<Self> {
        let taking = Taking { worker: Worker::new(Arc::clone(&desk.desk)), manners: Vec::new(), damaged: None };
        Ok(Self {
            desk: Arc::clone(&desk.desk),
            holder: Holder::new(port),
            life: desk.life()?,
            taking: Mutex::new(taking),
            woken: AtomicBool::new(false),
            pollable: OnceLock::new(),
        })
    }

    /// Serves a queue, up to `most` items at a time; `in_place`: one, left where it is until [`Taker::done`].
    fn serve(&self, end: &QueueEnd, most: u64, in_place: bool) -> PyResult<u32> {
        let poster = end.poster().ok_or_else(|| end.closed())?;
        let mut taking = self.taking();
        let number = taking.worker.serve(Arc::clone(poster.queue()));
        taking.manners.push(Manner { number, most: most.max(1), in_place });
        Ok(number)
    }

    /// Serves the queue of this number no more.
    fn leave(&self, number: u32) {
        let mut taking = self.taking();
        taking.worker.leave(number);
        taking.manners.retain(|manner| manner.number != number);
    }

    /// Takes what is most urgent: the queue's number and priority, how many items, and the item, a list of items, or where
    /// in the memory file the item lies with its length; `None` where nothing waits. A queue that is found damaged comes
    /// with 0 items, once.
    #[pyo3(signature = (limit=None))]
    fn take(&self, py: Python<'_>, limit: Option<u64>) -> PyResult<Option<(u32, usize, u64, Py<PyAny>)>> {
        if !self.holder.origin.is_here() {
            self.holder.check(py)?;
        }
        let taken = self.taking().take(py, limit.unwrap_or(u64::MAX));
        let Some((number, priority, count, what)) = taken.unwrap_or_else(|number| Some((number, 0, 0, What::Damage)))
        else {
            return Ok(None);
        };
        let what = match what {
            What::Item(item) => item.into_any().unbind(),
            What::Items(items) => PyList::new(py, items)?.into_any().unbind(),
            What::Place(at, length) => (at, length).into_pyobject(py)?.into_any().unbind(),
            What::Damage => py.None(),
        };
        Ok(Some((number, priority, count, what)))
    }

    /// Gives the place of an item that was left in place back.
    fn done(&self, number: u32, priority: usize) {
        self.taking().worker.done(number, priority);
    }

    /// Waits until there is an item, [`Taker::wake`] was called or a slice of `timeout` seconds is over. False: it is over.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = seconds("timeout", timeout)?.map_or(SLICE, |timeout| timeout.min(SLICE));
        self.holder.check(py)?;
        let waited = py.detach(|| {
            let mut taking = self.taking();
            match taking.worker.wait(!timeout.is_zero()) {
                Ok(Waited::Asleep) => {}
                Ok(Waited::NotYet) => return false,
                Ok(Waited::Ready) | Err(_) => {
                    // Damage is told by the next take.
                    return true;
                }
            }
            drop(taking);
            // Partners with `wake()`, whose swap of the bell comes before the worker's, and this look finds it; or after.
            if self.woken.swap(false, Ordering::AcqRel) {
                self.taking().worker.set_busy();
                return true;
            }
            let start = Instant::now();
            let _ = self.desk.sleep(Some(timeout));
            start.elapsed() < timeout
        });
        py.check_signals()?;
        if !waited {
            self.holder.check(py)?;
        }
        Ok(waited)
    }

    /// Makes whoever waits look again.
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.desk.force();
    }

    /// Whether the base has ended.
    #[getter]
    fn orphan(&self) -> bool {
        self.life.as_ref().is_some_and(Life::is_over)
    }

    /// Items that wait in all queues.
    fn backlog(&self) -> u64 {
        self.taking().worker.backlog()
    }

    /// The descriptor that is readable while work waits, whenever nobody runs the taker, and once the base has ended.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.holder.check(py)?;
        if self.pollable.get().is_none() {
            let made = self.desk.pollable(self.life.as_ref())?;
            // Another thread may have been first.
            let _ = self.pollable.set(made);
        }
        self.taking().worker.poll_descriptor();
        self.pollable.get().map(AsRawFd::as_raw_fd).ok_or_else(|| PyValueError::new_err("no descriptor"))
    }

    /// Leaves the desk until there is work again.
    fn rest(&self) {
        if self.holder.origin.is_here() {
            self.taking().worker.rest();
        }
    }

    /// Polls before sleeping: "never", "adaptive" or "always".
    fn set_spin(&self, spin: &str) -> PyResult<()> {
        let spin = match spin {
            "never" => Spin::Never,
            "adaptive" => Spin::Adaptive,
            "always" => Spin::Always,
            _ => return Err(PyValueError::new_err("spin is never, adaptive or always")),
        };
        self.taking().worker.set_spin(spin);
        Ok(())
    }

    /// Takes `count` items off all queues and throws them away, at most for `timeout` seconds: for measurements. Returns
    /// how many it took.
    fn drain(&self, py: Python<'_>, count: u64, timeout: f64) -> PyResult<u64> {
        let limit = seconds("timeout", Some(timeout))?.unwrap_or(Duration::MAX);
        Ok(py.detach(|| {
            let start = Instant::now();
            let mut taking = self.taking();
            let (mut taken, mut sum) = (0, 0u64);
            while taken < count && start.elapsed() < limit {
                let found = taking.worker.find();
                if let Ok(Some(found)) = found {
                    let visit = |item: &[u8]| {
                        sum = sum.wrapping_add(item.first().copied().map_or(0, u64::from));
                        true
                    };
                    taken += taking.worker.take(&found, count - taken, visit).unwrap_or(0);
                } else if taking.worker.wait(true) == Ok(Waited::Asleep) {
                    let _ = self.desk.sleep(Some(SLICE));
                }
            }
            std::hint::black_box(sum);
            taken
        }))
    }
}

impl Taker {
    /// For measurements, which do what a dispatcher does, without Python.
    pub(super) fn with_worker<T>(&self, work: impl FnOnce(&mut Worker, &Desk) -> T) -> T {
        work(&mut self.taking().worker, &self.desk)
    }

    fn taking(&self) -> MutexGuard<'_, Taking> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was taken, before it is made objects of.
enum What<'py> {
    Item(Bound<'py, PyBytes>),
    Items(Vec<Bound<'py, PyBytes>>),
    Place(u64, usize),
    Damage,
}

impl Taking {
    /// The queue's number and priority, how many items, and which. Makes nothing of which Python keeps count for its
    /// collector: that may run then, and end something that wants the taker.
    fn take<'py>(&mut self, py: Python<'py>, limit: u64) -> Result<Option<(u32, usize, u64, What<'py>)>, u32> {
        if let Some(number) = self.damaged.take() {
            return Err(number);
        }
        let Some(found) = self.worker.find()? else { return Ok(None) };
        let (number, priority) = (found.number, found.priority);
        let manner = self.manners.iter().find(|manner| manner.number == number);
        let manner = manner.copied().unwrap_or(Manner { number, most: 1, in_place: false });
        if manner.in_place {
            let (at, length) = self.worker.hold(&found)?;
            return Ok(Some((number, priority, 1, What::Place(at, length))));
        }
        let most = manner.most.min(limit);
        let mut items = Vec::with_capacity(found.items.min(most).min(1 << 16) as usize);
        let copy = |item: &[u8]| {
            items.push(PyBytes::new(py, item));
            true
        };
        let taken = self.worker.take(&found, most, copy);
        if items.is_empty() {
            taken?;
        } else {
            // What lies before the damage was posted whole.
            self.damaged = taken.err();
        }
        let count = items.len() as u64;
        let what =
            if manner.most > 1 { What::Items(items) } else { items.pop().map_or(What::Items(Vec::new()), What::Item) };
        Ok(Some((number, priority, count, what)))
    }
}
