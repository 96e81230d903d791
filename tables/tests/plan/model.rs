//! What the tests judge by: descriptions to try, and a plain model that follows the definitions with no thought of speed.

use proptest::prelude::*;
use vnet_tables::plan::{
    Attached, ClassId, ClassKind, ClassSpec, Compiled, Description, Hash4, Next, Plan, PortId, PortSpec, RouterId,
    RouterSpec, Step,
};
use vnet_tables::sync::AtomicU32;
use vnet_tables::{Address, NetworkId, SlotId};

/// The words of a plan as readers have them.
pub fn shared(words: &[u32]) -> Vec<AtomicU32> {
    words.iter().map(|word| AtomicU32::new(*word)).collect()
}

pub fn words(compiled: &Compiled) -> Vec<AtomicU32> {
    shared(compiled.words())
}

pub fn port(router: u16, attached: Attached, weight: u32) -> PortSpec {
    PortSpec {
        router: RouterId(router),
        attached,
        slot: SlotId(0),
        mtu: 1500,
        weight,
        v4: 0,
        v6: 0,
        up: true,
        present: true,
    }
}

pub fn class(kind: ClassKind) -> ClassSpec {
    ClassSpec { kind, parent: ClassId(0), statics: Vec::new() }
}

/// Routers, a loopback class for each (class = router + 1), and nothing else yet.
pub fn routers(count: u16) -> Description {
    let loopbacks = (0..count).map(|router| class(ClassKind::Loopback(RouterId(router))));
    Description {
        routers: vec![RouterSpec { guest: false, present: true }; usize::from(count)],
        ports: Vec::new(),
        classes: [class(ClassKind::Static)].into_iter().chain(loopbacks).collect(),
        hash: Hash4::Addresses,
    }
}

pub fn loopback(router: u16) -> ClassId {
    ClassId(router + 1)
}

/// Joins two routers by a link; its ports' numbers.
pub fn link(description: &mut Description, a: u16, b: u16, weights: (u32, u32)) -> (PortId, PortId) {
    let near = PortId(description.ports.len() as u32);
    let far = PortId(near.0 + 1);
    description.ports.push(port(a, Attached::Link { peer: far }, weights.0));
    description.ports.push(port(b, Attached::Link { peer: near }, weights.1));
    (near, far)
}

/// Puts a router on a network; the port's number.
pub fn join(description: &mut Description, router: u16, network: u16, weight: u32) -> PortId {
    description.ports.push(port(router, Attached::Network(NetworkId(network)), weight));
    PortId(description.ports.len() as u32 - 1)
}

/// The definitions, written out.
pub struct Plain<'d> {
    description: &'d Description,
    /// By (from, to).
    distances: Vec<Vec<Option<u64>>>,
}

impl<'d> Plain<'d> {
    pub fn new(description: &'d Description) -> Self {
        let count = description.routers.len();
        let mut plain = Self { description, distances: vec![vec![None; count]; count] };
        for router in 0..count {
            plain.distances[router][router] = Some(0);
        }
        for (port, into) in plain.steps() {
            let (from, to) = (plain.port(port).router.0, plain.port(into).router.0);
            let cost = u64::from(plain.port(port).weight);
            let at = &mut plain.distances[usize::from(from)][usize::from(to)];
            *at = Some(at.map_or(cost, |known| known.min(cost)));
        }
        // Floyd and Warshall.
        for via in 0..count {
            for from in 0..count {
                for to in 0..count {
                    if let (Some(a), Some(b)) = (plain.distances[from][via], plain.distances[via][to]) {
                        let at = &mut plain.distances[from][to];
                        *at = Some(at.map_or(a + b, |known| known.min(a + b)));
                    }
                }
            }
        }
        plain
    }

    pub fn distance(&self, from: usize, to: usize) -> Option<u64> {
        let present = |router: usize| self.description.routers[router].present;
        (present(from) && present(to)).then(|| self.distances[from][to]).flatten()
    }

    fn port(&self, port: PortId) -> &PortSpec {
        &self.description.ports[port.0 as usize]
    }

    fn stands(&self, port: PortId) -> bool {
        let spec = self.port(port);
        spec.present && spec.up && self.description.routers[usize::from(spec.router.0)].present
    }

    pub fn carries(&self, port: PortId) -> bool {
        self.stands(port)
            && match self.port(port).attached {
                Attached::Network(_) => true,
                Attached::Link { peer } => {
                    (peer.0 as usize) < self.description.ports.len()
                        && self.stands(peer)
                        && self.port(peer).attached == Attached::Link { peer: port }
                }
            }
    }

    fn ports(&self) -> impl Iterator<Item = PortId> {
        (0..self.description.ports.len() as u32).map(PortId)
    }

    /// Every way from a router to the next: the port out and the port in.
    fn steps(&self) -> Vec<(PortId, PortId)> {
        let mut steps = Vec::new();
        for out in self.ports().filter(|port| self.carries(*port)) {
            for into in self.ports().filter(|port| self.carries(*port)) {
                let joined = match (self.port(out).attached, self.port(into).attached) {
                    (Attached::Network(a), Attached::Network(b)) => {
                        a == b && self.port(out).router != self.port(into).router
                    }
                    (Attached::Link { peer }, _) => peer == into,
                    _ => false,
                };
                if joined {
                    steps.push((out, into));
                }
            }
        }
        steps
    }

    /// The next steps on shortest paths from one router to another.
    fn towards(&self, from: RouterId, to: RouterId) -> Vec<Next> {
        let distance = |router: RouterId| self.distances[usize::from(router.0)][usize::from(to.0)];
        let Some(whole) = distance(from) else { return Vec::new() };
        let shortest = |(out, into): &(PortId, PortId)| {
            let rest = distance(self.port(*into).router);
            self.port(*out).router == from && rest.map(|rest| rest + u64::from(self.port(*out).weight)) == Some(whole)
        };
        let steps = self.steps().into_iter().filter(shortest);
        steps.map(|(out, into)| Next::Router { out, into }).collect()
    }

    fn attached(&self, kind: ClassKind) -> Vec<PortId> {
        let there = |port: &PortId| match kind {
            ClassKind::Network(network) | ClassKind::External { network, .. } => {
                self.port(*port).attached == Attached::Network(network)
            }
            ClassKind::Link(end) => *port == end || self.port(*port).attached == Attached::Link { peer: end },
            ClassKind::Loopback(_) | ClassKind::Static => false,
        };
        self.ports().filter(|port| self.carries(*port)).filter(there).collect()
    }

    /// All that a router may do with a datagram for a class, in no order; empty: no route.
    pub fn choices(&self, router: RouterId, class: ClassId) -> Vec<Next> {
        let mut class = class;
        if !self.description.routers[usize::from(router.0)].present {
            return Vec::new();
        }
        for _ in 0..129 {
            let known = (1..self.description.classes.len()).contains(&usize::from(class.0));
            if !known {
                break;
            }
            let spec = &self.description.classes[usize::from(class.0)];
            let choices = self.choices_at(router, spec);
            if !choices.is_empty() {
                return choices;
            }
            class = spec.parent;
        }
        Vec::new()
    }

    fn choices_at(&self, router: RouterId, spec: &ClassSpec) -> Vec<Next> {
        let attached = self.attached(spec.kind);
        let own = attached.iter().copied().find(|port| self.port(*port).router == router);
        if let (Some(port), ClassKind::Network(_) | ClassKind::Link(_)) = (own, spec.kind) {
            return vec![Next::OnLink { port }];
        }
        let mut statics = Vec::new();
        for (_, step) in spec.statics.iter().filter(|(whose, _)| *whose == router) {
            let next = match *step {
                Step::Via { port, address } => {
                    if self.port(port).router != router || !self.carries(port) {
                        continue;
                    }
                    match self.port(port).attached {
                        Attached::Network(_) => Next::Via { port, address },
                        Attached::Link { peer } => Next::Router { out: port, into: peer },
                    }
                }
                Step::Unreachable => Next::Unreachable,
                Step::Prohibited => Next::Prohibited,
                Step::Blackhole => Next::Blackhole,
            };
            statics.push(next);
        }
        if let Some(first) = statics.first() {
            let is_hop = |next: &Next| matches!(next, Next::Via { .. } | Next::Router { .. });
            return if is_hop(first) { statics.into_iter().filter(is_hop).collect() } else { vec![*first] };
        }
        if let (Some(port), ClassKind::External { via, .. }) = (own, spec.kind) {
            return vec![Next::Via { port, address: via }];
        }
        if let ClassKind::Loopback(to) = spec.kind {
            return self.towards(router, to);
        }
        let cost = |port: &PortId| {
            let rest = self.distances[usize::from(router.0)][usize::from(self.port(*port).router.0)];
            rest.map(|rest| rest + u64::from(self.port(*port).weight))
        };
        let Some(least) = attached.iter().filter_map(cost).min() else { return Vec::new() };
        let nearest = attached.iter().filter(|port| cost(port) == Some(least));
        nearest.flat_map(|port| self.towards(router, self.port(*port).router)).collect()
    }
}

/// Sets of choices compared: no order, nothing twice.
pub fn sorted(choices: &[Next]) -> Vec<String> {
    let mut texts: Vec<_> = choices.iter().map(|next| format!("{next:?}")).collect();
    texts.sort();
    texts.dedup();
    texts
}

/// Holds every decision and every distance of a plan against the model.
pub fn agrees(plan: &Plan<'_>, description: &Description) -> Result<(), TestCaseError> {
    let plain = Plain::new(description);
    let count = description.routers.len() as u16;
    prop_assert_eq!(plan.routers(), usize::from(count));
    for from in 0..count {
        for to in 0..count {
            let distance = plan.distance(RouterId(from), RouterId(to)).map(u64::from);
            prop_assert_eq!(distance, plain.distance(usize::from(from), usize::from(to)), "{} to {}", from, to);
        }
        for class in 0..=description.classes.len() as u16 {
            let (router, class) = (RouterId(from), ClassId(class));
            let expected = sorted(&plain.choices(router, class));
            let found = plan.choices(router, class);
            prop_assert_eq!(sorted(found.as_slice()), expected, "router {:?}, class {:?}", router, class);
        }
    }
    for number in 0..description.ports.len() as u32 {
        let carries = plan.port(PortId(number)).is_some_and(|port| port.up);
        prop_assert_eq!(carries, plain.carries(PortId(number)), "port {}", number);
    }
    Ok(())
}

/// Small descriptions that are dense with ties: few weights, parallel links and networks, ports and routers that are
/// down or gone, classes of every kind with parents and static routes.
pub fn descriptions() -> impl Strategy<Value = Description> {
    let wires = prop::collection::vec((any::<bool>(), 0..8u16, 0..8u16, 1..4u32, 1..4u32, 0..20u32), 0..16);
    let classes = prop::collection::vec(
        (0..6u8, any::<u32>(), 0..12u16, prop::collection::vec(any::<(u16, u32)>(), 0..4)),
        0..12,
    );
    (1..8u16, wires, classes, any::<u8>()).prop_map(|(count, wires, classes, gone)| {
        let mut description = routers(count);
        for (router, spec) in description.routers.iter_mut().enumerate() {
            spec.present = gone % 11 != router as u8;
        }
        for (is_link, a, b, near, far, odd) in wires {
            if is_link && a % count != b % count {
                let (near, _) = link(&mut description, a % count, b % count, (near, far));
                description.ports[near.0 as usize].up = odd != 0;
            } else {
                let port = join(&mut description, a % count, 1 + b % 4, near);
                description.ports[port.0 as usize].up = odd != 1;
                description.ports[port.0 as usize].present = odd != 2;
            }
        }
        for (kind, what, parent, steps) in classes {
            let spec = random_class(&description, kind, what, parent, &steps);
            description.classes.push(spec);
        }
        description
    })
}

fn random_class(description: &Description, kind: u8, what: u32, parent: u16, steps: &[(u16, u32)]) -> ClassSpec {
    let (ports, count) = (description.ports.len() as u32, description.routers.len() as u16);
    let network = NetworkId(1 + (what % 5) as u16);
    let kind = match kind {
        0 => ClassKind::Network(network),
        1 if ports > 0 => ClassKind::Link(PortId(what % ports)),
        2 => ClassKind::External { network, via: Address::V4(what) },
        3 => ClassKind::External { network, via: Address::V6(u64::from(what), 7) },
        4 => ClassKind::Loopback(RouterId(what as u16 % count)),
        _ => ClassKind::Static,
    };
    // A link's class is by the end of a link; on a network's port it stands for that port alone, here and in the model.
    let statics = steps.iter().map(|&(router, what)| {
        let step = match what % 8 {
            0 => Step::Unreachable,
            1 => Step::Prohibited,
            2 => Step::Blackhole,
            3 if ports > 0 => Step::Via { port: PortId(what / 8 % ports), address: Address::V6(1, 2) },
            _ if ports > 0 => Step::Via { port: PortId(what / 8 % ports), address: Address::V4(what / 8 % 3) },
            _ => Step::Blackhole,
        };
        (RouterId(router % count), step)
    });
    ClassSpec { kind, parent: ClassId(parent), statics: statics.collect() }
}
