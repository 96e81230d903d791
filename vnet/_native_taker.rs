//! The binding of those who take items off queues.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use vnet_base::sync::{AtomicBool, Ordering};
use vnet_bus::queue::{Desk, Life, Spin, Waited, Worker};

use super::port::Port;
use super::queue::{Holder, QueueEnd, SLICE, WorkDesk};
use super::seconds;

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
    fn take(&self, py: Python<'_>, limit: Option<u64>) -> PyResult<Option<Taken>> {
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

/// As Python sees what was taken; see [`Taker::take`].
type Taken = (u32, usize, u64, Py<PyAny>);

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
        let Some(found) = self.worker.find()?.filter(|_| limit > 0) else { return Ok(None) };
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
