//! The binding of plans: what Python says of routers becomes a description, and a description is compiled and published.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vnet_base::Lan;
use vnet_base::routing::Section;
use vnet_base::tables::plan::{
    self, Attached, ClassId, ClassKind, ClassSpec, Compiled, Description, DescriptionError, Hash4, Next, PortChange,
    PortId, PortSpec, RouterId, RouterSpec, Step,
};
use vnet_base::tables::sync::{AtomicU32, Ordering};
use vnet_base::tables::{Address, NetworkId, SlotId};

use super::{Base, duplicate, lan_error};

/// A guest that forwards, the number is in use.
pub(crate) type Router = (bool, bool);
/// Router, network or 0, peer or -1, slot, MTU, weight, IPv4 address or 0, IPv6 address or 0, up, the number is in use.
pub(crate) type Port = (u16, u16, i64, u16, u32, u32, u32, u128, bool, bool);
/// Router, what, port, address of the next hop.
pub(crate) type Fixed = (u16, String, u32, Option<String>);
/// Kind, number, address of the next hop, parent, static routes.
pub(crate) type Class = (String, u32, Option<String>, u16, Vec<Fixed>);
/// Port, up, weight.
pub(crate) type Change = (u32, bool, u32);
/// What comes next: what, the port, and the next router's port or the address of the next hop.
pub(crate) type Told = (&'static str, i64, Option<Either>);

/// The last of what is told of a next step.
#[derive(IntoPyObject)]
pub(crate) enum Either {
    Port(u32),
    Address(String),
}

/// A description of what Python says.
fn description(routers: Vec<Router>, ports: Vec<Port>, classes: Vec<Class>, hash_ports: bool) -> PyResult<Description> {
    let routers = routers.into_iter().map(|(guest, present)| RouterSpec { guest, present });
    let ports = ports.into_iter().map(|(router, network, peer, slot, mtu, weight, v4, v6, up, present)| {
        let attached = match u32::try_from(peer) {
            Ok(peer) => Attached::Link { peer: PortId(peer) },
            Err(_) => Attached::Network(NetworkId(network)),
        };
        PortSpec { router: RouterId(router), attached, slot: SlotId(slot), mtu, weight, v4, v6, up, present }
    });
    let classes = classes.iter().map(class).collect::<PyResult<_>>()?;
    let hash = if hash_ports { Hash4::Ports } else { Hash4::Addresses };
    let description = Description { routers: routers.collect(), ports: ports.collect(), classes, hash };
    description.check().map_err(wrong)?;
    Ok(description)
}

fn class((kind, number, via, parent, statics): &Class) -> PyResult<ClassSpec> {
    let small = || u16::try_from(*number).map_err(|_| PyValueError::new_err(format!("{kind} {number} is too large")));
    let kind = match kind.as_str() {
        "network" => ClassKind::Network(NetworkId(small()?)),
        "link" => ClassKind::Link(PortId(*number)),
        "loopback" => ClassKind::Loopback(RouterId(small()?)),
        "external" => ClassKind::External { network: NetworkId(small()?), via: address(via.as_deref())? },
        "static" => ClassKind::Static,
        other => return Err(PyValueError::new_err(format!("{other:?} is no kind of a class"))),
    };
    let statics = statics.iter().map(fixed).collect::<PyResult<_>>()?;
    Ok(ClassSpec { kind, parent: ClassId(*parent), statics })
}

fn fixed((router, what, port, via): &Fixed) -> PyResult<(RouterId, Step)> {
    let step = match what.as_str() {
        "via" => Step::Via { port: PortId(*port), address: address(via.as_deref())? },
        "unreachable" => Step::Unreachable,
        "prohibit" => Step::Prohibited,
        "blackhole" => Step::Blackhole,
        other => return Err(PyValueError::new_err(format!("{other:?} is nothing that a static route says"))),
    };
    Ok((RouterId(*router), step))
}

fn address(text: Option<&str>) -> PyResult<Address> {
    let text = text.ok_or_else(|| PyValueError::new_err("a next hop needs an address"))?;
    let address: IpAddr = text.parse().map_err(|_| PyValueError::new_err(format!("{text:?} is no IP address")))?;
    Ok(address.into())
}

fn wrong(failure: DescriptionError) -> PyErr {
    PyValueError::new_err(failure.to_string())
}

fn changes(list: Vec<Change>) -> Vec<PortChange> {
    list.into_iter().map(|(port, up, weight)| PortChange { port: PortId(port), up, weight }).collect()
}

/// The plan of a LAN as it stands.
#[derive(Default)]
pub(crate) enum Standing {
    /// None yet.
    #[default]
    Empty,
    /// It lies in an image, compiled from this.
    Kept(Description),
    /// It was compiled here, and can be changed.
    Compiled(Compiled),
}

/// The plan of a LAN.
pub(crate) type Latest = Mutex<Standing>;

impl Standing {
    /// The plan as it can be changed: one that lies in an image is copied out of it first.
    fn compiled(&mut self, lan: &Lan) -> Option<&mut Compiled> {
        if let Self::Kept(description) = self {
            // Relaxed: what lies in an image does not change.
            let words = lan.segment().section(Section::Plan).iter().map(|word| word.load(Ordering::Relaxed)).collect();
            let copied = Compiled::of_words(description, words);
            *self = Self::Compiled(copied.unwrap_or_else(|| plan::compile(description, None)));
        }
        match self {
            Self::Compiled(compiled) => Some(compiled),
            _ => None,
        }
    }
}

/// Compiles what Python says, and has senders go by it; what has not changed is not compiled anew.
pub(crate) fn set_plan(
    py: Python<'_>,
    base: &Base,
    routers: Vec<Router>,
    ports: Vec<Port>,
    classes: Vec<Class>,
    hash_ports: bool,
) -> PyResult<()> {
    let description = description(routers, ports, classes, hash_ports)?;
    let published = py.detach(|| {
        let mut standing = base.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = plan::compile(&description, standing.compiled(&base.lan).as_deref());
        base.lan.publish(Section::Plan, compiled.words())?;
        *standing = Standing::Compiled(compiled);
        Ok(())
    });
    published.map_err(|failure| lan_error(py, &failure))
}

/// Cuts, mends and weighs, and has senders go by it.
pub(crate) fn set_ports(py: Python<'_>, base: &Base, list: Vec<Change>) -> PyResult<()> {
    let changes = changes(list);
    let lan: &Lan = &base.lan;
    let done = py.detach(|| {
        let mut standing = base.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let none = DescriptionError::Unknown { who: "a change".into(), what: "port", number: 0, count: 0 };
        let Some(compiled) = standing.compiled(lan) else {
            return if changes.is_empty() { Ok(Ok(())) } else { Err(none) };
        };
        compiled.set_ports(&changes)?;
        Ok(lan.publish(Section::Plan, compiled.words()))
    });
    done.map_err(wrong)?.map_err(|failure| lan_error(py, &failure))
}

/// What a plan is to be, and what became of it: for those who keep plans in images.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct PlanDraft {
    description: Description,
    compiled: Mutex<Option<Compiled>>,
}

#[pymethods]
impl PlanDraft {
    #[new]
    fn new(routers: Vec<Router>, ports: Vec<Port>, classes: Vec<Class>, hash_ports: bool) -> PyResult<Self> {
        let description = description(routers, ports, classes, hash_ports)?;
        Ok(Self { description, compiled: Mutex::default() })
    }

    /// The description in its one form.
    fn form<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &bytes(&plan::form(&self.description)))
    }

    /// Compiles it; returns the words.
    fn compile<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let words = py.detach(|| {
            let compiled = plan::compile(&self.description, None);
            let words = bytes(compiled.words());
            *self.compiled.lock().unwrap_or_else(PoisonError::into_inner) = Some(compiled);
            words
        });
        PyBytes::new(py, &words)
    }

    /// Has senders go by it, out of the LAN's own memory. It is compiled if it has not been.
    fn publish(&self, py: Python<'_>, base: &Base) -> PyResult<()> {
        let published = py.detach(|| {
            let mut standing = base.plan.lock().unwrap_or_else(PoisonError::into_inner);
            let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).take();
            let compiled = compiled.unwrap_or_else(|| plan::compile(&self.description, None));
            base.lan.publish(Section::Plan, compiled.words())?;
            *standing = Standing::Compiled(compiled);
            Ok(())
        });
        published.map_err(|failure| lan_error(py, &failure))
    }

    /// Has senders go by it as it lies in an image.
    fn adopt(&self, py: Python<'_>, base: &Base, fd: i32, at: u64, words: usize) -> PyResult<()> {
        let file = duplicate(fd)?;
        let adopted = py.detach(|| {
            let mut standing = base.plan.lock().unwrap_or_else(PoisonError::into_inner);
            base.lan.adopt_image(Section::Plan, file, at, words)?;
            *standing = Standing::Kept(self.description.clone());
            Ok(())
        });
        adopted.map_err(|failure| lan_error(py, &failure))
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A compiled plan by itself: it says what routers do.
#[pyclass(frozen, module = "vnet._native")]
pub(crate) struct Plan(Mutex<(Compiled, Vec<AtomicU32>)>);

impl Plan {
    fn ask<T>(&self, question: impl FnOnce(plan::Plan<'_>) -> T) -> T {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        question(plan::Plan::new(&inner.1))
    }
}

fn shared(compiled: &Compiled) -> Vec<AtomicU32> {
    compiled.words().iter().map(|word| AtomicU32::new(*word)).collect()
}

fn told(next: Next) -> Told {
    let port = |port: PortId| i64::from(port.0);
    match next {
        Next::OnLink { port: out } => ("link", port(out), None),
        Next::Router { out, into } => ("router", port(out), Some(Either::Port(into.0))),
        Next::Via { port: out, address } => {
            ("via", port(out), Some(Either::Address(IpAddr::from(address).to_string())))
        }
        Next::NoRoute => ("none", -1, None),
        Next::Unreachable => ("unreachable", -1, None),
        Next::Prohibited => ("prohibit", -1, None),
        Next::Blackhole => ("blackhole", -1, None),
    }
}

#[pymethods]
impl Plan {
    #[new]
    fn new(
        py: Python<'_>,
        routers: Vec<Router>,
        ports: Vec<Port>,
        classes: Vec<Class>,
        hash_ports: bool,
    ) -> PyResult<Self> {
        let description = description(routers, ports, classes, hash_ports)?;
        let compiled = py.detach(|| plan::compile(&description, None));
        let words = shared(&compiled);
        Ok(Self(Mutex::new((compiled, words))))
    }

    #[pyo3(name = "set_ports")]
    fn change(&self, changes: Vec<Change>) -> PyResult<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.set_ports(&self::changes(changes)).map_err(wrong)?;
        inner.1 = shared(&inner.0);
        Ok(())
    }

    #[pyo3(signature = (router, class_, hash))]
    fn next(&self, router: u16, class_: u16, hash: u32) -> Told {
        told(self.ask(|plan| plan.next(RouterId(router), ClassId(class_), hash)))
    }

    #[pyo3(signature = (router, class_))]
    fn choices(&self, router: u16, class_: u16) -> Vec<Told> {
        let choices = self.ask(|plan| plan.choices(RouterId(router), ClassId(class_)));
        choices.as_slice().iter().map(|next| told(*next)).collect()
    }

    fn distance(&self, start: u16, end: u16) -> Option<u32> {
        self.ask(|plan| plan.distance(RouterId(start), RouterId(end)))
    }
}
