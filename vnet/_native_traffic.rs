//! The binding of traffic: programs for stacks, and what comes of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_drivers::clock;
use vnet_drivers::stack::{App, Stack};
use vnet_drivers::traffic::guest::drive;
use vnet_drivers::traffic::pace::Rate;
use vnet_drivers::traffic::probe::{Answer, Probe, Question};
use vnet_drivers::traffic::share::Share;
use vnet_drivers::traffic::tally::Tally;
use vnet_drivers::traffic::tcp::{TcpFlow, TcpSink, TcpSource};
use vnet_drivers::traffic::udp::{Amount, Sent, UdpFlow, UdpSink, UdpSource};

use super::port::Port;
use super::{Base, HostCalls, gone, seconds};

enum Report {
    Source(Arc<Share<Sent>>),
    Sink(Arc<Share<Tally>>),
    Probe(Arc<Share<Answer>>),
}

/// A program for a stack, and what comes of it.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Program {
    app: Mutex<Option<Box<dyn App>>>,
    report: Report,
}

/// Datagrams, bytes, by verdict, begin and end in nanoseconds, why it failed.
type SentRow = (u64, u64, Vec<u64>, u64, u64, Option<String>);
/// Received, bytes, duplicates, out of order, jitter and sum of latencies in nanoseconds, first and last arrival.
type FlowRow = (u64, u64, u64, u64, f64, u128, u64, u64);
/// The flows, latencies as (nanoseconds, count), the shortest and the longest, why it failed.
type TallyRow = (Vec<FlowRow>, Vec<(u64, u64)>, Option<(u64, u64)>, Option<String>);

fn address(text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| PyValueError::new_err(format!("{text:?} is no IP address")))
}

fn nanoseconds(name: &str, value: f64) -> PyResult<u64> {
    Ok(seconds(name, Some(value))?.map_or(u64::MAX / 4, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)))
}

fn amount(duration: Option<f64>, number: Option<u64>) -> PyResult<Amount> {
    match (duration, number) {
        (Some(duration), None) => Ok(Amount::Time(nanoseconds("duration", duration)?)),
        (None, Some(number)) => Ok(Amount::Number(number)),
        _ => Err(PyValueError::new_err("either a duration or a number")),
    }
}

impl Program {
    fn new(app: impl App + 'static, report: Report) -> Self {
        Self { app: Mutex::new(Some(Box::new(app))), report }
    }

    fn take(&self) -> PyResult<Box<dyn App>> {
        let app = self.app.lock().unwrap_or_else(PoisonError::into_inner).take();
        app.ok_or_else(|| PyRuntimeError::new_err("the program has been started already"))
    }
}

#[pymethods]
impl Program {
    #[staticmethod]
    #[allow(clippy::too_many_arguments)]
    fn udp_source(
        flow: u32,
        source: &str,
        destination: (String, u16),
        sizes: Vec<usize>,
        bits: Option<u64>,
        datagrams: Option<(u64, u64)>,
        duration: Option<f64>,
        count: Option<u64>,
    ) -> PyResult<Self> {
        if sizes.is_empty() {
            return Err(PyValueError::new_err("at least one size"));
        }
        let rate = match (bits, datagrams) {
            (Some(bits), None) => Rate::Bits(bits),
            (None, Some((number, seconds))) => Rate::Datagrams(number, seconds),
            _ => return Err(PyValueError::new_err("a rate in either bits or datagrams")),
        };
        let to = SocketAddr::new(address(&destination.0)?, destination.1);
        let amount = amount(duration, count)?;
        let (app, report) = UdpSource::new(UdpFlow { flow, from: address(source)?, to, sizes, rate, amount });
        Ok(Self::new(app, Report::Source(report)))
    }

    #[staticmethod]
    fn tcp_source(
        flow: u32,
        source: &str,
        destination: (String, u16),
        duration: Option<f64>,
        bytes: Option<u64>,
    ) -> PyResult<Self> {
        let to = SocketAddr::new(address(&destination.0)?, destination.1);
        let amount = amount(duration, bytes)?;
        let (app, report) = TcpSource::new(TcpFlow { flow, from: address(source)?, to, amount });
        Ok(Self::new(app, Report::Source(report)))
    }

    #[staticmethod]
    fn udp_sink(port: u16, flows: Vec<u32>) -> Self {
        let (app, report) = UdpSink::new(port, &flows);
        Self::new(app, Report::Sink(report))
    }

    #[staticmethod]
    fn tcp_sink(port: u16, flows: Vec<u32>) -> Self {
        let (app, report) = TcpSink::new(port, &flows);
        Self::new(app, Report::Sink(report))
    }

    #[staticmethod]
    fn probe(source: &str, destination: (String, u16), request: Vec<u8>, timeout: f64) -> PyResult<Self> {
        let to = SocketAddr::new(address(&destination.0)?, destination.1);
        let timeout = nanoseconds("timeout", timeout)?;
        let (app, report) = Probe::new(Question { from: address(source)?, to, request, timeout });
        Ok(Self::new(app, Report::Probe(report)))
    }

    /// Whether it is over; waits for that at most `timeout` seconds.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = seconds("timeout", Some(timeout))?.unwrap_or(Duration::MAX);
        Ok(py.detach(|| match &self.report {
            Report::Source(share) => share.wait(timeout),
            Report::Sink(share) => share.wait(timeout),
            Report::Probe(share) => share.wait(timeout),
        }))
    }

    /// Asks it to end at its next visit.
    fn stop(&self) {
        match &self.report {
            Report::Source(share) => share.stop(),
            Report::Sink(share) => share.stop(),
            Report::Probe(share) => share.stop(),
        }
    }

    fn sent(&self) -> PyResult<SentRow> {
        let Report::Source(share) = &self.report else { return Err(PyRuntimeError::new_err("not a source")) };
        let sent = share.with(|sent| sent.clone());
        Ok((sent.datagrams, sent.bytes, sent.verdicts.to_vec(), sent.first, sent.last, sent.failure))
    }

    fn tally(&self) -> PyResult<TallyRow> {
        let Report::Sink(share) = &self.report else { return Err(PyRuntimeError::new_err("not a sink")) };
        Ok(share.with(|tally| {
            let flow = |flow: &vnet_drivers::traffic::tally::FlowTally| {
                let order = (flow.received, flow.bytes, flow.duplicates, flow.out_of_order);
                (order.0, order.1, order.2, order.3, flow.jitter, flow.latency, flow.first, flow.last)
            };
            let flows = tally.flows.iter().map(flow).collect();
            let recorded = tally.latencies.iter_recorded();
            let latencies = recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
            (flows, latencies, tally.extremes, tally.failure.clone())
        }))
    }

    /// Whether a sink has its port, or never will.
    fn ready(&self) -> PyResult<bool> {
        let Report::Sink(share) = &self.report else { return Err(PyRuntimeError::new_err("not a sink")) };
        Ok(share.is_over() || share.with(|tally| tally.ready))
    }

    /// Datagrams or bytes that came so far, by flow: a look that costs little.
    fn arrived(&self) -> PyResult<Vec<u64>> {
        let Report::Sink(share) = &self.report else { return Err(PyRuntimeError::new_err("not a sink")) };
        Ok(share.with(|tally| {
            let count = |flow: &vnet_drivers::traffic::tally::FlowTally| {
                if flow.received > 0 { flow.received } else { flow.bytes }
            };
            tally.flows.iter().map(count).collect()
        }))
    }

    fn answer<'py>(&self, py: Python<'py>) -> PyResult<(String, Option<f64>, Bound<'py, PyBytes>)> {
        let Report::Probe(share) = &self.report else { return Err(PyRuntimeError::new_err("not a probe")) };
        let answer = share.with(|answer| answer.clone());
        Ok((answer.state, answer.connect.map(|time| time as f64 / 1e9), PyBytes::new(py, &answer.data)))
    }
}

/// Starts a program on a built-in host. False, and the program is over, where the host is off the LAN.
#[pyfunction]
pub(crate) fn start_on_host(base: &Base, calls: &HostCalls, app: &Program) -> PyResult<bool> {
    let taken = calls.inbox.run(app.take()?);
    base.worker(0).call(calls.slot);
    Ok(taken)
}

/// Has a host visit its programs, because one of them was asked to end.
#[pyfunction]
pub(crate) fn wake_host(base: &Base, calls: &HostCalls) {
    base.worker(0).call(calls.slot);
}

/// Drives programs on a process's NIC until `seconds` have passed or all of `sources` are over, whichever is first.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct TrafficGuest {
    state: Mutex<(Stack, Vec<Box<dyn App>>)>,
}

#[pymethods]
impl TrafficGuest {
    #[new]
    fn new(addresses: Vec<(String, u8)>, mtu: usize, seed: u64) -> PyResult<Self> {
        let addresses =
            addresses.iter().map(|(text, bits)| Ok((address(text)?, *bits))).collect::<PyResult<Vec<_>>>()?;
        Ok(Self { state: Mutex::new((Stack::new(&addresses, mtu, seed), Vec::new())) })
    }

    fn start(&self, app: &Program) -> PyResult<()> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.push(app.take()?);
        Ok(())
    }

    /// Drives the programs for `seconds`, or until none is left.
    fn drive(&self, py: Python<'_>, port: &Port, seconds: f64) -> PyResult<()> {
        let end = clock::monotonic() + nanoseconds("seconds", seconds)?;
        py.detach(|| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (stack, apps) = &mut *state;
            drive(&port.ring, stack, apps, clock::monotonic, end)
        })
        .map_err(|why| gone(py, why))?;
        py.check_signals()
    }
}
