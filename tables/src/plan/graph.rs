//! Routers and the networks between them as a graph.
//!
//! Nodes are routers and, behind them, networks with more than one port that carries: an arc leads from a router to a
//! network at the cost of the router's port, and from the network to each of its routers at none (RFC 2328 section
//! 2.1.2). A link is one arc each way. All costs out of routers are at least 1, so
//!
//! > a router's successor on a shortest path is strictly nearer, a network's is as near and has a lower number.
//!
//! Ordered by (distance, number), every node comes after all its successors.

use std::collections::BTreeMap;

use super::description::{Attached, Description, MAX_PORTS, MAX_ROUTERS, MAX_WEIGHT, PortId, PortSpec};
use super::layout::FAR;

/// Where an arc leads when its port carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Network(u16),
    Peer { port: u32, router: u16 },
}

/// What a port that carries adds to the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) router: u16,
    pub(super) cost: u32,
    pub(super) target: Target,
}

/// What a port adds to the graph; none if it does not carry.
pub(super) fn wire(description: &Description, port: usize) -> Option<Wire> {
    let works = |spec: &&PortSpec| spec.present && spec.up && is_present(description, usize::from(spec.router.0));
    let spec = description.ports.get(port).filter(works).filter(|_| port < MAX_PORTS)?;
    let target = match spec.attached {
        Attached::Network(network) => Target::Network(network.0),
        Attached::Link { peer } => {
            let back = Attached::Link { peer: PortId(port as u32) };
            let other = description.ports[..description.ports.len().min(MAX_PORTS)].get(peer.0 as usize);
            let other = other.filter(works).filter(|other| other.attached == back)?;
            Target::Peer { port: peer.0, router: other.router.0 }
        }
    };
    // A weight out of range would let distances overflow or paths turn in circles; `Description::check` refuses it.
    Some(Wire { router: spec.router.0, cost: spec.weight.clamp(1, MAX_WEIGHT), target })
}

/// Whether a router's number is in use.
pub(super) fn is_present(description: &Description, router: usize) -> bool {
    router < MAX_ROUTERS && description.routers.get(router).is_some_and(|spec| spec.present)
}

/// A change of one port: what it added before and what it adds now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewired {
    pub(super) port: u32,
    pub(super) before: Option<Wire>,
    pub(super) now: Option<Wire>,
}

/// An arc that changed; [`FAR`] where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangedArc {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) before: u32,
    pub(super) now: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Arc {
    pub(super) node: u32,
    pub(super) cost: u32,
    /// The port out of a router; for arcs out of a network, the port into the router.
    pub(super) port: u32,
    /// The port at the other end of a link, [`NO_PORT`] on networks.
    pub(super) peer: u32,
}

pub(super) const NO_PORT: u32 = u32::MAX;

/// Arcs of all nodes, compressed: those of node n are `arcs[starts[n]..starts[n + 1]]`, in the order of ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Arcs {
    starts: Vec<u32>,
    arcs: Vec<Arc>,
}

impl Arcs {
    fn new(nodes: usize, list: &[(u32, Arc)]) -> Self {
        let mut starts = vec![0; nodes + 1];
        for (node, _) in list {
            starts[*node as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut free = starts.clone();
        let mut arcs = vec![Arc { node: 0, cost: 0, port: 0, peer: NO_PORT }; list.len()];
        for (node, arc) in list {
            let at = &mut free[*node as usize];
            arcs[*at as usize] = *arc;
            *at += 1;
        }
        Self { starts, arcs }
    }

    pub(super) fn of(&self, node: u32) -> &[Arc] {
        &self.arcs[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }
}

/// What carries, as arcs.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) routers: usize,
    pub(super) nodes: usize,
    /// Arcs out of a node.
    pub(super) out: Arcs,
    /// The same arcs at the node that they lead to; `node` is where they come from.
    pub(super) into: Arcs,
    /// What changed.
    pub(super) changes: Vec<ChangedArc>,
    /// The networks of ports that changed, each with the routers that were on it.
    pub(super) before: Vec<(u32, Vec<u32>)>,
}

impl Graph {
    /// The graph of all that carries, ready for repairs after `rewired`.
    pub(super) fn new(description: &Description, rewired: &[Rewired]) -> Self {
        let routers = description.routers.len().min(MAX_ROUTERS);
        let wires: Vec<_> = (0..description.ports.len()).map(|port| wire(description, port)).collect();
        let numbers = number_networks(routers, &wires, rewired);
        let nodes = routers + numbers.iter().filter(|number| **number != 0).count();
        let mut forward = Vec::with_capacity(2 * wires.len());
        let mut backward = Vec::with_capacity(2 * wires.len());
        let mut add = |from, to, arc: Arc| {
            forward.push((from, Arc { node: to, ..arc }));
            backward.push((to, Arc { node: from, ..arc }));
        };
        for (port, wire) in wires.iter().enumerate() {
            let Some(Wire { router, cost, target }) = *wire else { continue };
            let (router, port) = (u32::from(router), port as u32);
            match target {
                Target::Peer { port: peer, router: to } => {
                    add(router, u32::from(to), Arc { node: 0, cost, port, peer });
                }
                Target::Network(network) => {
                    let network = numbers[usize::from(network)];
                    if network != 0 {
                        add(router, network, Arc { node: 0, cost, port, peer: NO_PORT });
                        add(network, router, Arc { node: 0, cost: 0, port, peer: NO_PORT });
                    }
                }
            }
        }
        let (out, into) = (Arcs::new(nodes, &forward), Arcs::new(nodes, &backward));
        let before = members_before(&numbers, wires, rewired);
        Self { routers, nodes, out, into, changes: changed_arcs(&numbers, rewired), before }
    }
}

/// A node number for each network that needs one, 0 for the others; by network.
///
/// One port alone leads nowhere. Networks of ports that changed get a node whatever is left of them: the repair starts
/// from what they were.
fn number_networks(routers: usize, wires: &[Option<Wire>], rewired: &[Rewired]) -> Vec<u32> {
    let network = |wire: &Option<Wire>| match wire.as_ref()?.target {
        Target::Network(network) => Some(usize::from(network)),
        Target::Peer { .. } => None,
    };
    let changed = || rewired.iter().flat_map(|change| [&change.before, &change.now]).filter_map(network);
    let highest = wires.iter().filter_map(network).chain(changed()).max();
    let mut numbers = vec![0; highest.map_or(0, |highest| highest + 1)];
    for number in wires.iter().filter_map(network) {
        numbers[number] += 1;
    }
    for number in changed() {
        numbers[number] += 2;
    }
    let mut next = routers as u32;
    for number in &mut numbers {
        if *number > 1 {
            *number = next;
            next += 1;
        } else {
            *number = 0;
        }
    }
    numbers
}

/// The networks that changes name, in their order, and the routers that were on each.
fn members_before(numbers: &[u32], now: Vec<Option<Wire>>, rewired: &[Rewired]) -> Vec<(u32, Vec<u32>)> {
    if rewired.is_empty() {
        return Vec::new();
    }
    let network = |wire: &Wire| match wire.target {
        Target::Network(network) => Some(numbers[usize::from(network)]),
        Target::Peer { .. } => None,
    };
    let mut wires = now;
    let mut members = BTreeMap::new();
    for change in rewired {
        for wire in [&change.before, &change.now].into_iter().flatten() {
            if let Some(network) = network(wire) {
                members.insert(network, Vec::new());
            }
        }
        let port = change.port as usize;
        wires.resize(wires.len().max(port + 1), None);
        wires[port] = change.before;
    }
    for wire in wires.iter().flatten() {
        if let Some(routers) = network(wire).and_then(|network| members.get_mut(&network)) {
            routers.push(u32::from(wire.router));
        }
    }
    members.into_iter().collect()
}

fn changed_arcs(numbers: &[u32], rewired: &[Rewired]) -> Vec<ChangedArc> {
    let mut changes = Vec::new();
    let mut change = |from: u16, target: Target, before: u32, now: u32| match target {
        Target::Peer { router: to, .. } => {
            changes.push(ChangedArc { from: u32::from(from), to: u32::from(to), before, now });
        }
        Target::Network(network) => {
            let (router, network) = (u32::from(from), numbers[usize::from(network)]);
            changes.push(ChangedArc { from: router, to: network, before, now });
            let free = |cost| if cost == FAR { FAR } else { 0 };
            changes.push(ChangedArc { from: network, to: router, before: free(before), now: free(now) });
        }
    };
    for rewired in rewired {
        match (rewired.before, rewired.now) {
            (Some(before), Some(now)) if before.router == now.router && before.target == now.target => {
                change(now.router, now.target, before.cost, now.cost);
            }
            (before, now) => {
                if let Some(wire) = before {
                    change(wire.router, wire.target, wire.cost, FAR);
                }
                if let Some(wire) = now {
                    change(wire.router, wire.target, FAR, wire.cost);
                }
            }
        }
    }
    changes
}
