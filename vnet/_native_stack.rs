//! The binding of a process's stack: converts between its sockets and what Python's socket module would do.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice};

use vnet_drivers::stack::process::{Mirror as Shown, ProcessStack, Trouble, Waited, Watched, shown};
use vnet_drivers::stack::{Cause, Listening, Local, OpenError, Stack as Core, Tcp, TcpOptions, TcpState, UdpOptions};

use super::port::Port;
use super::udp::UdpSocket;
use super::{addresses, error, gone, seconds};

/// Most bytes that are taken over from an object other than bytes in one call.
const PIECE: usize = 1 << 20;

pub(super) type Address = (String, u16);
type LocalAddress = (Option<String>, u16);

pub(super) fn os_error(number: i32) -> PyErr {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    // "Connection refused (os error 111)": Python adds the number by itself.
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((number, text))
}

pub(super) fn trouble(py: Python<'_>, why: Trouble) -> PyErr {
    match why {
        Trouble::Gone(why) => gone(py, why),
        Trouble::Closed => error(py, "NicClosed", "the stack of this NIC was closed"),
        Trouble::Broken => error(py, "VnetError", "the stack of this NIC failed; close it and make another"),
    }
}

fn open_error(failure: &OpenError) -> PyErr {
    let number = match failure {
        OpenError::Taken(_) => libc::EADDRINUSE,
        OpenError::NoPort | OpenError::NotOurs(_) => libc::EADDRNOTAVAIL,
        OpenError::NoFamily(_) => libc::ENETUNREACH,
        OpenError::Nobody(_) => libc::EINVAL,
        OpenError::TooMany => libc::EMFILE,
    };
    PyOSError::new_err((number, failure.to_string()))
}

fn cause_error(cause: Cause, sending: bool) -> PyErr {
    os_error(match cause {
        Cause::Refused => libc::ECONNREFUSED,
        Cause::Reset => libc::ECONNRESET,
        Cause::TimedOut => libc::ETIMEDOUT,
        Cause::Unreachable => libc::EHOSTUNREACH,
        Cause::NoRoute => libc::ENETUNREACH,
        Cause::Finished if sending => libc::EPIPE,
        Cause::Finished => libc::ENOTCONN,
    })
}

fn local_of((address, port): LocalAddress) -> PyResult<Local> {
    let address = address.map(|text| Ok::<_, PyErr>(addresses(&[text])?[0])).transpose()?;
    Ok(Local { address, port })
}

pub(super) fn remote_of((address, port): Address) -> PyResult<SocketAddr> {
    Ok(SocketAddr::new(addresses(&[address])?[0], port))
}

pub(super) fn address_of(address: SocketAddr) -> Address {
    (address.ip().to_string(), address.port())
}

/// Waits for what `ready` returns, without the GIL, answering signals.
pub(super) fn wait<T: Send>(
    py: Python<'_>,
    stack: &ProcessStack,
    timeout: Option<f64>,
    mut ready: impl FnMut(&mut Core) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let timeout = seconds("timeout", timeout)?;
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut left = timeout;
    loop {
        match py.detach(|| stack.wait(left, &mut ready)).map_err(|why| trouble(py, why))? {
            Waited::Done(value) => return Ok(Some(value)),
            Waited::NotYet if left == Some(Duration::ZERO) => return Ok(None),
            Waited::NotYet | Waited::Interrupted => py.check_signals()?,
        }
        left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    }
}

/// What a wait for nothing raises: Python's sockets tell a look from a wait.
pub(super) fn too_late(timeout: Option<f64>) -> PyErr {
    if timeout == Some(0.0) { os_error(libc::EAGAIN) } else { PyTimeoutError::new_err("timed out") }
}

/// The bytes of any bytes-like object, from `start`; no more than a piece where they have to be copied.
pub(super) fn piece<'py>(data: &Bound<'py, PyAny>, start: usize) -> PyResult<Bound<'py, PyBytes>> {
    if start == 0
        && let Ok(bytes) = data.cast::<PyBytes>()
    {
        return Ok(bytes.clone());
    }
    let py = data.py();
    let view = py.import("builtins")?.getattr("memoryview")?.call1((data,)).map_err(|_| {
        let kind = data.get_type().name().map_or_else(|_| "this".into(), |name| name.to_string());
        PyTypeError::new_err(format!("a bytes-like object is required, not '{kind}'"))
    })?;
    let view = view.call_method1("cast", ("B",))?;
    let end = start.saturating_add(PIECE).min(isize::MAX as usize) as isize;
    let part = view.get_item(PySlice::new(py, start as isize, end, 1))?;
    Ok(part.call_method0("tobytes")?.cast_into::<PyBytes>()?)
}

/// What Python holds of a socket: closed, or the stack's end of it and the number of the mirror that shows it.
pub(super) struct Held<T> {
    socket: T,
    watched: Option<u64>,
}

pub(super) type Holder<T> = Mutex<Option<Held<T>>>;

pub(super) fn hold<T>(socket: T) -> Holder<T> {
    Mutex::new(Some(Held { socket, watched: None }))
}

fn lock<T>(holder: &Holder<T>) -> MutexGuard<'_, Option<Held<T>>> {
    holder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Uses a socket within a look at the stack; `None` when it was closed, by another thread perhaps.
pub(super) fn using<T, R>(holder: &Holder<T>, work: impl FnOnce(&T) -> R) -> Option<R> {
    lock(holder).as_ref().map(|held| work(&held.socket))
}

pub(super) fn closed() -> PyErr {
    os_error(libc::EBADF)
}

/// Has a mirror show a socket from now on.
pub(super) fn watch<T>(
    py: Python<'_>,
    stack: &Arc<ProcessStack>,
    holder: &Holder<T>,
    mirror: &Mirror,
    watched: impl FnOnce(&T) -> Watched + Send,
) -> PyResult<()>
where
    T: Send,
{
    let shown = mirror.shown().ok_or_else(closed)?;
    py.detach(|| {
        // Without the holder's lock: others take it with the stack's in their hand.
        let number = stack.watch(&shown, || using(holder, watched)).ok_or_else(closed)?;
        let former = match lock(holder).as_mut() {
            Some(held) => held.watched.replace(number),
            None => Some(number),
        };
        if let Some(former) = former {
            stack.unwatch(former);
        }
        mirror.shows(stack, number);
        Ok(())
    })
}

/// Takes a socket out of its holder, to be closed.
pub(super) fn release<T>(stack: &ProcessStack, holder: &Holder<T>) -> Option<T> {
    let held = lock(holder).take()?;
    if let Some(number) = held.watched {
        stack.unwatch(number);
    }
    Some(held.socket)
}

/// A descriptor that polls as a socket does: for `select`, `selectors` and asyncio.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Mirror {
    mirror: Mutex<Option<Arc<Mutex<Shown>>>>,
    source: Mutex<Option<(Arc<ProcessStack>, u64)>>,
}

#[pymethods]
impl Mirror {
    #[new]
    fn new(readable: bool, writable: bool) -> PyResult<Self> {
        let mut shown = Shown::new()?;
        shown.show(readable, writable);
        Ok(Self { mirror: Mutex::new(Some(Arc::new(Mutex::new(shown)))), source: Mutex::new(None) })
    }

    fn fileno(&self) -> RawFd {
        let shown = self.shown();
        shown.map_or(-1, |shown| shown.lock().unwrap_or_else(PoisonError::into_inner).descriptor().as_raw_fd())
    }

    fn show(&self, py: Python<'_>, readable: bool, writable: bool) {
        py.detach(|| {
            self.leave();
            if let Some(shown) = self.shown() {
                shown.lock().unwrap_or_else(PoisonError::into_inner).show(readable, writable);
            }
        });
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.leave();
            self.mirror.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
    }
}

impl Mirror {
    fn shown(&self) -> Option<Arc<Mutex<Shown>>> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shows(&self, stack: &Arc<ProcessStack>, number: u64) {
        self.leave();
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(stack), number));
    }

    /// Shows no socket any more.
    fn leave(&self) {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stack, number)) = source {
            stack.unwatch(number);
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A TCP/IP stack on a NIC of this process.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Stack(Arc<ProcessStack>);

#[pymethods]
impl Stack {
    #[new]
    fn new(py: Python<'_>, port: &Port, addresses: Vec<(String, u8)>, mtu: usize, seed: u64) -> PyResult<Self> {
        if addresses.len() > Core::ADDRESSES {
            return Err(PyValueError::new_err(format!("a stack has at most {} addresses", Core::ADDRESSES)));
        }
        let (texts, bits): (Vec<_>, Vec<_>) = addresses.into_iter().unzip();
        let with_bits: Vec<_> = self::addresses(&texts)?.into_iter().zip(bits).collect();
        port.ring.check().map_err(|why| gone(py, why))?;
        let stack = ProcessStack::new(Arc::clone(&port.ring), &with_bits, mtu, seed).map_err(|failure| {
            if failure.kind() == std::io::ErrorKind::ResourceBusy {
                PyValueError::new_err("this NIC has a stack already")
            } else {
                failure.into()
            }
        })?;
        Ok(Self(Arc::new(stack)))
    }

    #[pyo3(signature = (remote, local=None))]
    fn connect(&self, py: Python<'_>, remote: Address, local: Option<LocalAddress>) -> PyResult<TcpSocket> {
        let remote = remote_of(remote)?;
        let local = local.map_or(Ok(Local::port(0)), local_of)?;
        let opened = py.detach(|| {
            self.0.with(|stack| {
                let tcp = stack.connect(remote, local, &TcpOptions::default())?;
                let local = stack.ends(&tcp).map_or(SocketAddr::new(remote.ip(), 0), |(local, _)| local);
                Ok((tcp, local))
            })
        });
        let (tcp, local) = opened.map_err(|why| trouble(py, why))?.map_err(|failure| open_error(&failure))?;
        Ok(TcpSocket { stack: Arc::clone(&self.0), tcp: hold(tcp), local, remote })
    }

    fn listen(&self, py: Python<'_>, local: LocalAddress, backlog: Option<usize>) -> PyResult<TcpListener> {
        let local = local_of(local)?;
        let opened = py.detach(|| {
            self.0.with(|stack| {
                let listening = match backlog {
                    Some(backlog) => stack.listen(local, backlog, &TcpOptions::default())?,
                    None => stack.bind(local, &TcpOptions::default())?,
                };
                let at = shown(&stack.listening_at(&listening), stack.addresses());
                Ok((listening, at))
            })
        });
        let (listening, at) = opened.map_err(|why| trouble(py, why))?.map_err(|failure| open_error(&failure))?;
        Ok(TcpListener { stack: Arc::clone(&self.0), listening: hold(listening), at })
    }

    fn udp(&self, py: Python<'_>, local: LocalAddress) -> PyResult<UdpSocket> {
        let local = local_of(local)?;
        let opened = py.detach(|| {
            self.0.with(|stack| {
                let udp = stack.open_udp(local, &UdpOptions::default())?;
                let at = shown(&stack.udp_at(&udp), stack.addresses());
                Ok((udp, at))
            })
        });
        let (udp, at) = opened.map_err(|why| trouble(py, why))?.map_err(|failure| open_error(&failure))?;
        Ok(UdpSocket { stack: Arc::clone(&self.0), udp: hold(udp), at })
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// An end of a TCP connection.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct TcpSocket {
    stack: Arc<ProcessStack>,
    tcp: Holder<Tcp>,
    local: SocketAddr,
    remote: SocketAddr,
}

#[pymethods]
impl TcpSocket {
    fn state(&self, py: Python<'_>) -> PyResult<&'static str> {
        let state = self.look(py, |stack, tcp| stack.state(tcp))?;
        Ok(match state {
            None | Some(TcpState::Ended(Cause::Finished)) => "closed",
            Some(TcpState::Connecting) => "connecting",
            Some(TcpState::Open) => "open",
            Some(TcpState::Ended(Cause::Refused)) => "refused",
            Some(TcpState::Ended(Cause::Reset)) => "reset",
            Some(TcpState::Ended(Cause::TimedOut)) => "timed_out",
            Some(TcpState::Ended(Cause::Unreachable | Cause::NoRoute)) => "unreachable",
        })
    }

    fn local(&self) -> Address {
        address_of(self.local)
    }

    fn remote(&self) -> Address {
        address_of(self.remote)
    }

    fn wait_connected(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let connected = self.wait(py, timeout, |stack, tcp| match stack.state(tcp) {
            TcpState::Connecting => None,
            state => Some(state),
        })?;
        match connected {
            Some(TcpState::Ended(cause)) => Err(cause_error(cause, false)),
            Some(_) => Ok(()),
            None if timeout == Some(0.0) => Err(os_error(libc::EINPROGRESS)),
            None => Err(too_late(timeout)),
        }
    }

    fn send(&self, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<usize> {
        let piece = piece(data, 0)?;
        self.send_some(data.py(), piece.as_bytes(), timeout)
    }

    fn send_all(&self, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let py = data.py();
        let deadline = seconds("timeout", timeout)?.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut start = 0;
        loop {
            let piece = piece(data, start)?;
            let mut rest = piece.as_bytes();
            if rest.is_empty() && start > 0 {
                return Ok(());
            }
            start += rest.len();
            loop {
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_secs_f64());
                // At the deadline it is over, but looked at once more; a look only where the caller asked for one.
                let left = if timeout == Some(0.0) { timeout } else { left.map(|left| left.max(1e-9)) };
                rest = &rest[self.send_some(py, rest, left)?..];
                if rest.is_empty() {
                    break;
                }
            }
            if data.is_instance_of::<PyBytes>() {
                return Ok(());
            }
        }
    }

    fn recv<'py>(&self, py: Python<'py>, size: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        loop {
            let available = self.wait(py, timeout, |stack, tcp| stack.receivable(tcp).transpose())?;
            let available = match available {
                Some(Ok(available)) => available.min(size),
                Some(Err(cause)) => return self.end_of(py, cause),
                None => return Err(too_late(timeout)),
            };
            let mut received = 0;
            let bytes = PyBytes::new_with(py, available, |buffer| {
                let taken = self.stack.with(|stack| using(&self.tcp, |tcp| stack.receive_into(tcp, buffer)));
                if let Ok(Some(Ok(Some(taken)))) = taken {
                    received = taken;
                }
                Ok(())
            })?;
            if received == available {
                return Ok(bytes);
            }
            // Another thread received meanwhile.
            if received > 0 {
                return Ok(PyBytes::new(py, &bytes.as_bytes()[..received]));
            }
        }
    }

    fn recv_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<usize> {
        let view = py.import("builtins")?.getattr("memoryview")?.call1((buffer,))?.call_method1("cast", ("B",))?;
        if view.getattr("readonly")?.is_truthy()? {
            return Err(PyTypeError::new_err("the buffer to receive into is read-only"));
        }
        let data = self.recv(py, view.len()?, timeout)?;
        let length = data.as_bytes().len();
        view.set_item(PySlice::new(py, 0, length as isize, 1), data)?;
        Ok(length)
    }

    fn shutdown(&self, py: Python<'_>, how: i32) -> PyResult<()> {
        if ![libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR].contains(&how) {
            return Err(os_error(libc::EINVAL));
        }
        let done = self.change(py, |stack, tcp| {
            if stack.state(tcp) != TcpState::Open {
                return false;
            }
            if how != libc::SHUT_WR {
                stack.stop_receiving(tcp);
            }
            if how != libc::SHUT_RD {
                stack.finish(tcp);
            }
            true
        })?;
        match done {
            Some(true) => Ok(()),
            Some(false) => Err(os_error(libc::ENOTCONN)),
            None => Err(closed()),
        }
    }

    #[pyo3(signature = (abort=false))]
    fn close(&self, py: Python<'_>, abort: bool) {
        py.detach(|| self.give_back(abort));
    }

    fn set(&self, py: Python<'_>, option: &str, value: u64) -> PyResult<()> {
        let invalid = |text: &str| Err(PyValueError::new_err(text.to_owned()));
        let nanoseconds = (value > 0).then(|| value.saturating_mul(1_000_000_000).min(i64::MAX as u64));
        let done = match option {
            "nodelay" => self.look(py, |stack, tcp| stack.tcp(tcp).set_nagle_enabled(value == 0))?,
            "keepalive" => self.look(py, |stack, tcp| stack.set_keepalive(tcp, nanoseconds))?,
            "timeout" => self.look(py, |stack, tcp| stack.set_unacknowledged(tcp, nanoseconds))?,
            "ttl" => match u8::try_from(value) {
                Ok(ttl) if ttl > 0 => self.look(py, |stack, tcp| stack.tcp(tcp).set_hop_limit(Some(ttl)))?,
                _ => return invalid("ttl is 1 to 255"),
            },
            _ => return invalid("option is nodelay, keepalive, timeout or ttl"),
        };
        done.ok_or_else(closed)
    }

    fn ready(&self, py: Python<'_>) -> PyResult<(bool, bool)> {
        self.look(py, |stack, tcp| stack.tcp_ready(tcp))?.ok_or_else(closed)
    }

    fn show_on(&self, py: Python<'_>, mirror: &Mirror) -> PyResult<()> {
        watch(py, &self.stack, &self.tcp, mirror, Watched::tcp)
    }
}

impl TcpSocket {
    /// Looks at the socket; `None` when it was closed.
    fn look<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Core, &Tcp) -> T + Send) -> PyResult<Option<T>> {
        let tcp = &self.tcp;
        py.detach(|| self.stack.with(|stack| using(tcp, |tcp| work(stack, tcp)))).map_err(|why| trouble(py, why))
    }

    /// As [`TcpSocket::look`], where others may wait for what this does.
    fn change<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Core, &Tcp) -> T + Send) -> PyResult<Option<T>> {
        let done = self.look(py, work)?;
        self.stack.tell();
        Ok(done)
    }

    /// Waits for the socket; raises when it is closed, by another thread perhaps.
    fn wait<T: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        mut ready: impl FnMut(&mut Core, &Tcp) -> Option<T> + Send,
    ) -> PyResult<Option<T>> {
        let tcp = &self.tcp;
        let looked = wait(py, &self.stack, timeout, |stack| match using(tcp, |tcp| ready(stack, tcp)) {
            Some(None) => None,
            Some(Some(value)) => Some(Some(value)),
            None => Some(None),
        })?;
        match looked {
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(closed()),
            None => Ok(None),
        }
    }

    fn send_some(&self, py: Python<'_>, data: &[u8], timeout: Option<f64>) -> PyResult<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let sent = self.wait(py, timeout, |stack, tcp| match stack.send(tcp, data) {
            Ok(0) => None,
            result => Some(result),
        })?;
        match sent {
            Some(Ok(sent)) => Ok(sent),
            Some(Err(cause)) => Err(cause_error(cause, true)),
            None => Err(too_late(timeout)),
        }
    }

    /// What a receiver gets of a connection that is over.
    fn end_of<'py>(&self, py: Python<'py>, cause: Cause) -> PyResult<Bound<'py, PyBytes>> {
        if cause == Cause::Finished { Ok(PyBytes::new(py, b"")) } else { Err(cause_error(cause, false)) }
    }

    fn give_back(&self, abort: bool) {
        if let Some(tcp) = release(&self.stack, &self.tcp) {
            self.stack.close_tcp(tcp, abort);
        }
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        self.give_back(false);
    }
}

/// A listening TCP port.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct TcpListener {
    stack: Arc<ProcessStack>,
    listening: Holder<Listening>,
    at: SocketAddr,
}

#[pymethods]
impl TcpListener {
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<TcpSocket> {
        let holder = &self.listening;
        let accepted =
            wait(py, &self.stack, timeout, |stack| match using(holder, |listening| stack.accept(listening)) {
                Some(Some(tcp)) => {
                    let ends = stack.ends(&tcp);
                    Some(Some((tcp, ends)))
                }
                Some(None) => None,
                None => Some(None),
            })?;
        let (tcp, ends) = accepted.ok_or_else(|| too_late(timeout))?.ok_or_else(closed)?;
        let (local, remote) = ends.unwrap_or((self.at, self.at));
        Ok(TcpSocket { stack: Arc::clone(&self.stack), tcp: hold(tcp), local, remote })
    }

    fn set_backlog(&self, py: Python<'_>, backlog: usize) -> PyResult<()> {
        let set = |stack: &mut Core| using(&self.listening, |listening| stack.set_backlog(listening, backlog));
        py.detach(|| self.stack.with(set)).map_err(|why| trouble(py, why))?.ok_or_else(closed)
    }

    fn local(&self) -> Address {
        address_of(self.at)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.give_back());
    }

    fn ready(&self, py: Python<'_>) -> PyResult<(bool, bool)> {
        let look = |stack: &mut Core| using(&self.listening, |listening| (stack.can_accept(listening), false));
        py.detach(|| self.stack.with(look)).map_err(|why| trouble(py, why))?.ok_or_else(closed)
    }

    fn show_on(&self, py: Python<'_>, mirror: &Mirror) -> PyResult<()> {
        watch(py, &self.stack, &self.listening, mirror, Watched::listening)
    }
}

impl TcpListener {
    fn give_back(&self) {
        if let Some(listening) = release(&self.stack, &self.listening) {
            let _ = self.stack.with(|stack| stack.close_listening(listening));
            self.stack.tell();
        }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.give_back();
    }
}
