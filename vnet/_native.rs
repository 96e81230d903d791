//! The binding of the vnet crates to Python: converts, delegates, wraps. It holds no logic.

use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use vnet_base::forward::Side;
use vnet_base::lan::BASE;
use vnet_base::tables::layout::WORKERS;
use vnet_base::tables::{Geometry, NetworkId, Prefixes, SlotId, TablesError};
use vnet_base::{LanError, NicRequest, SegmentError, Sender, Verdict};
use vnet_drivers::capture::Hub;
use vnet_drivers::host::{Host, HostInbox};
use vnet_drivers::lease::Undertaker;
use vnet_drivers::loopback::Loopback;
use vnet_drivers::ping::PingRequest;
use vnet_drivers::ring::{Gone, Ring};
use vnet_drivers::worker::Worker;
use vnet_drivers::{Driver, Port as DriverPort, clock};

#[path = "_native_arena.rs"]
mod arena;
#[path = "_native_buffer.rs"]
mod buffer;
#[path = "_native_capture.rs"]
mod capture;
#[path = "_native_explain.rs"]
mod explain;
#[path = "_native_filter.rs"]
mod filter;
#[path = "_native_host.rs"]
mod host;
#[path = "_native_image.rs"]
mod image;
#[path = "_native_pipe.rs"]
mod pipe;
#[path = "_native_port.rs"]
mod port;
#[path = "_native_queue.rs"]
mod queue;
#[path = "_native_region.rs"]
mod region;
#[path = "_native_routes.rs"]
mod routes;
#[path = "_native_routing.rs"]
mod routing;
#[path = "_native_segment.rs"]
mod segment;
#[path = "_native_service.rs"]
mod service;
#[path = "_native_stack.rs"]
mod stack;
#[path = "_native_taker.rs"]
mod taker;
#[path = "_native_tap.rs"]
mod tap;
#[path = "_native_traffic.rs"]
mod traffic;
#[path = "_native_udp.rs"]
mod udp;

use host::{HostCalls, PingRun};
use segment::Segment;

/// An exception of `vnet.errors` by its name.
fn error(py: Python<'_>, name: &str, message: &str) -> PyErr {
    let make = || py.import("vnet.errors")?.getattr(name)?.call1((message,));
    make().map_or_else(|failure| failure, PyErr::from_value)
}

fn lan_error(py: Python<'_>, failure: &LanError) -> PyErr {
    let name = match failure {
        LanError::Segment(failure) => return segment_error(py, failure),
        LanError::Tables(_) | LanError::Full(_) => "LanFull",
        LanError::Gone => "NicClosed",
        LanError::Stuck | LanError::Sections => "VnetError",
    };
    error(py, name, &failure.to_string())
}

fn segment_error(py: Python<'_>, failure: &SegmentError) -> PyErr {
    match failure {
        SegmentError::Tables(TablesError::Abi { .. }) => error(py, "AbiMismatch", &failure.to_string()),
        SegmentError::Tables(_) => error(py, "ProtocolError", &failure.to_string()),
        SegmentError::System(system) => PyOSError::new_err((system.raw_os_error(), failure.to_string())),
    }
}

fn gone(py: Python<'_>, why: Gone) -> PyErr {
    match why {
        Gone::Lan => error(py, "LanClosed", "the base of this LAN has ended"),
        Gone::Nic => error(py, "NicClosed", "this NIC is off the LAN: it was closed, or the base took it off"),
        Gone::Forked => {
            error(py, "ForkedNic", "this NIC belongs to the parent process; attach one of its own after fork()")
        }
        Gone::Stacked => PyValueError::new_err(
            "what comes to this NIC goes to its stack: receive with the stack's sockets, or close the stack",
        ),
        Gone::Damaged => error(py, "VnetError", "the NIC's input buffer is damaged: some process wrote over it"),
    }
}

/// The members of `vnet.verdict.Verdict`, by number.
fn verdict_object(py: Python<'_>, verdict: Verdict) -> PyResult<Py<PyAny>> {
    static MEMBERS: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();
    let members = MEMBERS.get_or_try_init(py, || {
        let class = py.import("vnet.verdict")?.getattr("Verdict")?;
        Verdict::ALL.iter().map(|verdict| Ok(class.call1((*verdict as u8,))?.unbind())).collect::<PyResult<Vec<_>>>()
    })?;
    Ok(members[verdict as usize].clone_ref(py))
}

fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    let invalid = || PyValueError::new_err(format!("{name} is in seconds and at least 0"));
    let Some(value) = value else { return Ok(None) };
    if value.is_nan() || value < 0.0 {
        return Err(invalid());
    }
    // Longer than the clock can count is for ever.
    Ok(Duration::try_from_secs_f64(value).ok())
}

fn addresses(texts: &[String]) -> PyResult<Vec<IpAddr>> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|_| PyValueError::new_err(format!("{text:?} is no IP address"))))
        .collect()
}

/// Bytes of a datagram that Python passed: `bytes` as it is, everything else bytes-like or with `__bytes__` converted.
fn datagram_bytes<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let py = object.py();
    if let Ok(array) = object.cast::<PyByteArray>() {
        return Ok(PyBytes::new(py, &array.to_vec()));
    }
    let wrong = object.is_instance_of::<PyInt>()
        || object.is_instance_of::<PyString>()
        || object.is_instance_of::<PyList>()
        || object.is_instance_of::<PyTuple>();
    if wrong || object.is_none() {
        let kind = object.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a datagram is bytes-like or a scapy packet, not {kind}")));
    }
    let converted = py.get_type::<PyBytes>().call1((object,)).map_err(|failure| {
        if failure.is_instance_of::<PyTypeError>(py) {
            let kind = object.get_type().name().map_or_else(|_| "this".into(), |name| name.to_string());
            PyTypeError::new_err(format!("a datagram is bytes-like or a scapy packet, not {kind}"))
        } else {
            failure
        }
    })?;
    Ok(converted.cast_into::<PyBytes>()?)
}

/// A descriptor of its own for one that Python keeps.
fn duplicate(fd: i32) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(PyValueError::new_err("a file descriptor is not negative"));
    }
    // SAFETY: borrowed for the call only; a number that is no open descriptor fails in the kernel.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(system)
}

/// An `OSError` with its number, which the conversion that comes by itself leaves out.
fn system(error: std::io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else { return error.into() };
    let text = error.to_string();
    let said = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((number, said))
}

/// The base of a LAN in this process.
#[pyclass(frozen, module = "vnet._native")]
struct Base {
    lan: Arc<vnet_base::Lan>,
    workers: [Worker; WORKERS as usize],
    taps: tap::Taps,
    undertaker: Undertaker,
    injector: Mutex<()>,
    captures: Arc<Hub>,
    plan: routing::Latest,
    routes: Arc<routes::Table>,
}

#[pymethods]
impl Base {
    #[new]
    fn new(py: Python<'_>, name: &str, max_nics: u32, stride: u64, lan: u64) -> PyResult<Self> {
        let geometry = Geometry::new(max_nics, stride);
        let lan = vnet_base::Lan::create(name, &geometry, lan).map_err(|failure| lan_error(py, &failure))?;
        let lan = Arc::new(lan);
        let workers = std::array::from_fn(|index| Worker::new(Arc::clone(&lan), index as u32, clock::monotonic));
        let undertaker = Undertaker::new(Arc::clone(&lan))?;
        let captures = Arc::new(Hub::new(Arc::clone(&lan)));
        let (taps, injector, plan) = (tap::Taps::default(), Mutex::new(()), routing::Latest::default());
        let routes = Arc::new(routes::Table::new(Arc::clone(&lan)));
        Ok(Self { lan, workers, taps, undertaker, injector, captures, plan, routes })
    }

    fn segment(&self) -> Segment {
        Segment(Arc::clone(self.lan.segment()))
    }

    fn add_network(
        &self,
        py: Python<'_>,
        v4: Option<(String, u8)>,
        v6: Option<(String, u8)>,
        mtu: u32,
    ) -> PyResult<u16> {
        let invalid = |_| PyValueError::new_err("not a prefix");
        let prefixes = Prefixes {
            v4: v4.map(|(address, bits)| Ok::<_, PyErr>((address.parse().map_err(invalid)?, bits))).transpose()?,
            v6: v6.map(|(address, bits)| Ok::<_, PyErr>((address.parse().map_err(invalid)?, bits))).transpose()?,
        };
        let network = self.lan.add_network(&prefixes, mtu).map_err(|failure| lan_error(py, &failure))?;
        Ok(network.0)
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (name, network, addresses, mac, mtu, ring_bytes, served, up, *, bridges=false, port=0))]
    fn add_nic(
        &self,
        py: Python<'_>,
        name: String,
        network: u16,
        addresses: Vec<String>,
        mac: u64,
        mtu: u32,
        ring_bytes: u64,
        served: bool,
        up: bool,
        bridges: bool,
        port: u32,
    ) -> PyResult<(u16, u32)> {
        let request = NicRequest {
            name,
            network: NetworkId(network),
            addresses: self::addresses(&addresses)?,
            mac,
            mtu,
            ring_bytes,
            worker: served.then_some(0),
            up,
            offloads: 0,
            bridges,
            port,
        };
        self.taps.coming(&request);
        let added = py.detach(|| self.lan.add_nic(request)).map_err(|failure| lan_error(py, &failure))?;
        Ok((added.0.0, added.1))
    }

    /// Says which NICs lead the guest of a NIC out of its network; false where that NIC has gone.
    fn set_gateways(&self, slot: u16, generation: u32, v4: u16, v6: u16) -> bool {
        self.lan.set_gateways(SlotId(slot), generation, SlotId(v4), SlotId(v6))
    }

    fn set_plan(
        &self,
        py: Python<'_>,
        routers: Vec<routing::Router>,
        ports: Vec<routing::Port>,
        classes: Vec<routing::Class>,
        hash_ports: bool,
    ) -> PyResult<()> {
        routing::set_plan(py, self, routers, ports, classes, hash_ports)
    }

    fn set_ports(&self, py: Python<'_>, changes: Vec<routing::Change>) -> PyResult<()> {
        routing::set_ports(py, self, changes)
    }

    fn routes_insert(&self, py: Python<'_>, entries: Vec<(String, u16)>) -> PyResult<()> {
        self.routes.insert_own(py, &entries)
    }

    fn routes_remove(&self, py: Python<'_>, prefixes: Vec<String>) -> PyResult<()> {
        self.routes.remove_own(py, &prefixes)
    }

    /// What lies outside of the LAN.
    fn routes(&self) -> routes::Routes {
        routes::Routes::new(Arc::clone(&self.routes))
    }

    fn hold(&self, py: Python<'_>, slot: u16) -> PyResult<u32> {
        py.detach(|| self.lan.hold(SlotId(slot), None)).map_err(|failure| lan_error(py, &failure))
    }

    fn take_down(&self, py: Python<'_>, slot: u16, generation: u32) -> bool {
        py.detach(|| self.lan.take_down(SlotId(slot), generation))
    }

    fn remove(&self, py: Python<'_>, slot: u16, generation: u32) -> bool {
        py.detach(|| {
            if let Some(worker) = self.lan.segment().tables().nic(SlotId(slot)).worker() {
                self.worker(worker).dismiss(SlotId(slot));
            }
            self.taps.leaving(&self.lan, SlotId(slot), generation);
            self.lan.remove(SlotId(slot), generation)
        })
    }

    fn is_up(&self, slot: u16, generation: u32) -> bool {
        self.lan.is_up(SlotId(slot), generation)
    }

    fn new_token(&self) -> u32 {
        self.lan.new_token().0
    }

    fn watch(&self, slot: u16, generation: u32, token: u32, socket: i32, pid: Option<i32>) -> PyResult<u64> {
        let token = vnet_base::lock::Token(token);
        Ok(self.undertaker.watch(SlotId(slot), generation, token, duplicate(socket)?, pid)?)
    }

    fn forget(&self, watch: u64) {
        self.undertaker.forget(watch);
    }

    fn serve_host(
        &self,
        slot: u16,
        generation: u32,
        addresses: Vec<(String, u8)>,
        mtu: usize,
        seed: u64,
    ) -> PyResult<HostCalls> {
        if addresses.len() > Host::ADDRESSES {
            return Err(PyValueError::new_err(format!("a built-in host has at most {} addresses", Host::ADDRESSES)));
        }
        let (texts, bits): (Vec<_>, Vec<_>) = addresses.into_iter().unzip();
        let sources = self::addresses(&texts)?;
        let with_bits: Vec<_> = sources.iter().copied().zip(bits).collect();
        let inbox = Arc::new(HostInbox::default());
        let host = Host::new(&with_bits, mtu, seed, Arc::clone(&inbox));
        self.serve(slot, generation, Box::new(host))?;
        Ok(HostCalls { inbox, sources, slot: SlotId(slot), ident: Mutex::new(0) })
    }

    /// Serves a guest behind a TAP device, of which this keeps a duplicate.
    #[pyo3(signature = (slot, generation, fd, *, bridges=false))]
    fn serve_tap(&self, py: Python<'_>, slot: u16, generation: u32, fd: i32, bridges: bool) -> PyResult<()> {
        let file = duplicate(fd)?;
        py.detach(|| self.taps.serve(&self.lan, &self.workers, SlotId(slot), generation, file, bridges))
            .map_err(|failure| PyOSError::new_err((failure.raw_os_error(), failure.to_string())))
    }

    fn tap_counters<'py>(&self, py: Python<'py>, slot: u16) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        for (reason, count) in self.taps.counters(SlotId(slot)) {
            counts.set_item(reason, count)?;
        }
        Ok(counts)
    }

    fn set_gateway(&self, network: u16, slot: u16) {
        self.lan.set_gateway(NetworkId(network), (slot != 0).then_some(SlotId(slot)));
    }

    fn serve_loopback(&self, slot: u16, generation: u32) -> PyResult<()> {
        self.serve(slot, generation, Box::new(Loopback::default()))
    }

    #[allow(clippy::too_many_arguments)]
    fn ping(
        &self,
        host: &HostCalls,
        destination: &str,
        count: u32,
        interval: f64,
        timeout: f64,
        size: usize,
        hop_limit: u8,
    ) -> PyResult<PingRun> {
        let nanoseconds = |name, value| {
            Ok::<_, PyErr>(seconds(name, Some(value))?.map_or(u64::MAX / 4, |time| time.as_nanos() as u64))
        };
        let request = PingRequest {
            destination: destination.parse().map_err(|_| PyValueError::new_err("not an IP address"))?,
            count,
            interval: nanoseconds("interval", interval)?,
            timeout: nanoseconds("timeout", timeout)?,
            size,
            hop_limit,
        };
        let mut ident = host.ident.lock().unwrap_or_else(PoisonError::into_inner);
        *ident = ident.wrapping_add(1);
        let run = host.inbox.ping(request, &host.sources, *ident);
        self.worker(0).call(host.slot);
        Ok(PingRun(run))
    }

    #[pyo3(signature = (slot, datagrams, block=false, timeout=None))]
    fn inject<'py>(
        &self,
        py: Python<'py>,
        slot: u16,
        datagrams: &Bound<'py, PyAny>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let deadline = Ring::deadline(seconds("timeout", timeout)?);
        let kept = keep(datagrams)?;
        let bytes: Vec<&[u8]> = kept.iter().map(|datagram| datagram.as_bytes()).collect();
        let mut verdicts = Vec::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.lan.segment().tables().closed() {
                return Err(gone(py, Gone::Lan));
            }
            // In slices of the injector's time, so that signals are answered while a buffer stays full.
            let done = py.detach(|| self.inject_some(SlotId(slot), rest, block, deadline));
            py.check_signals()?;
            rest = &rest[done.len()..];
            verdicts.extend(done);
        }
        verdict_list(py, &verdicts)
    }

    fn capture(&self, py: Python<'_>, file: i32, arguments: capture::Arguments) -> PyResult<capture::Capture> {
        capture::start(py, &self.captures, file, arguments)
    }

    /// Lets go of threads and connections in a forked child: they are the parent's.
    fn abandon(&self) {
        self.workers.iter().for_each(Worker::abandon);
        self.taps.abandon();
        self.undertaker.abandon();
        self.captures.abandon();
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.lan.close();
            self.workers.iter().for_each(Worker::stop);
            self.taps.close();
            self.undertaker.stop();
        });
    }
}

impl Base {
    fn serve(&self, slot: u16, generation: u32, driver: Box<dyn Driver>) -> PyResult<()> {
        let port = DriverPort::new(self.lan.segment(), SlotId(slot), BASE)
            .ok_or_else(|| PyValueError::new_err("the slot has no ring"))?;
        Ok(self.worker(0).serve(SlotId(slot), generation, port, driver)?)
    }

    fn worker(&self, number: u32) -> &Worker {
        self.workers.get(number as usize).unwrap_or(&self.workers[0])
    }

    /// Sends in the name of a NIC, all of `datagrams`, or with `block` as many as find room within a slice.
    fn inject_some(&self, slot: SlotId, datagrams: &[&[u8]], block: bool, deadline: Option<Instant>) -> Vec<Verdict> {
        // The base's side of a NIC's counters has one writer.
        let one = self.injector.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sender = Sender::new(Arc::clone(self.lan.segment()), slot, BASE, Side::Base, clock::wall);
        if !block {
            return forward_all(&mut sender, datagrams);
        }
        let mut verdicts = Vec::new();
        for datagram in datagrams {
            let verdict = match sender.try_forward(datagram, false) {
                Some(verdict) => verdict,
                None => {
                    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    if left == Some(Duration::ZERO) {
                        sender.forward(datagram, false)
                    } else {
                        let nap = Duration::from_millis(50);
                        let room = sender.missing_room();
                        drop((sender, one));
                        let _ = room.is_none_or(|room| room.wait(left.map_or(nap, |left| left.min(nap))));
                        return verdicts;
                    }
                }
            };
            verdicts.push(verdict);
        }
        verdicts
    }
}

fn forward_all(sender: &mut Sender, datagrams: &[&[u8]]) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(datagrams.len());
    verdicts.extend(datagrams.iter().map(|datagram| sender.forward(datagram, true)));
    sender.ring();
    verdicts
}

/// Forwards what comes after those that have a verdict, up to the first that finds no room.
fn forward_while_room(sender: &mut Sender, datagrams: &[&[u8]], verdicts: &mut Vec<Verdict>) {
    while let Some(datagram) = datagrams.get(verdicts.len()) {
        match sender.try_forward(datagram, true) {
            Some(verdict) => verdicts.push(verdict),
            None => break,
        }
    }
    sender.ring();
}

fn verdict_list<'py>(py: Python<'py>, verdicts: &[Verdict]) -> PyResult<Bound<'py, PyList>> {
    let objects = verdicts.iter().map(|verdict| verdict_object(py, *verdict)).collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, objects)
}

/// Datagrams that Python passed as any iterable, kept alive.
fn keep<'py>(datagrams: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    if let Ok(list) = datagrams.cast::<PyList>() {
        return list.iter().map(|item| datagram_bytes(&item)).collect();
    }
    if datagrams.is_instance_of::<PyBytes>() || datagrams.is_instance_of::<PyByteArray>() {
        return Err(PyTypeError::new_err("several datagrams are a list or another iterable, not one bytes object"));
    }
    datagrams.try_iter()?.map(|item| datagram_bytes(&item?)).collect()
}

/// The native part of vnet.
#[pymodule]
mod _native {
    use super::{Py, PyAny, PyBool, PyResult, Python, Verdict};
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::Base;
    #[pymodule_export]
    use super::arena::{Arena, RouteBench};
    #[pymodule_export]
    use super::capture::{Capture, Filter};
    #[pymodule_export]
    use super::filter::{Rules, publish_filters, set_network_filter, set_nic_filters};
    #[pymodule_export]
    use super::host::{HostCalls, PingRun};
    #[pymodule_export]
    use super::image::{adopt_image, image_check, image_peek, image_write, section_words};
    #[pymodule_export]
    use super::pipe::{PipeEnd, pipe_make};
    #[pymodule_export]
    use super::port::{Held, Port};
    #[pymodule_export]
    use super::queue::{QueueEnd, WorkDesk, desk_make, queue_bytes, queue_make};
    #[pymodule_export]
    use super::region::{region_frames, region_make, region_ranges, region_reading, region_settle};
    #[pymodule_export]
    use super::routes::{RouteList, Routes};
    #[pymodule_export]
    use super::routing::{Plan, PlanDraft};
    #[pymodule_export]
    use super::segment::Segment;
    #[pymodule_export]
    use super::service::{Service, offer, withdraw};
    #[pymodule_export]
    use super::stack::{Mirror, Stack, TcpListener, TcpSocket};
    #[pymodule_export]
    use super::taker::Taker;
    #[pymodule_export]
    use super::traffic::{Program, TrafficGuest, start_on_host, wake_host};
    #[pymodule_export]
    use super::udp::UdpSocket;

    /// The version of the segments' layout; base and guest must agree on it.
    #[pymodule_export]
    const ABI: u32 = vnet_base::tables::ABI;

    /// The version of the format of images.
    #[pymodule_export]
    const IMAGE_VERSION: u32 = vnet_base::tables::image::VERSION;

    /// Base workers of a LAN, and alarms that wake them.
    #[pymodule_export]
    const WORKERS: u32 = super::WORKERS;

    /// Every verdict's name and number.
    #[pyfunction]
    fn verdicts() -> Vec<(&'static str, u8)> {
        Verdict::ALL.iter().map(|verdict| (verdict.name(), *verdict as u8)).collect()
    }

    /// Whether the module was built with optimisation; benchmarks refuse to run otherwise.
    #[pyfunction]
    fn optimised(py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(PyBool::new(py, !cfg!(debug_assertions)).to_owned().into_any().unbind())
    }
}
