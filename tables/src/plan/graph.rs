//! Routers and the networks between them as a graph; shortest paths to one router, and their repair.
//!
//! # Theory of operation
//!
//! Nodes are routers and, behind them, networks with more than one port that carries: an arc leads from a router to a
//! network at the cost of the router's port, and from the network to each of its routers at none (RFC 2328 section
//! 2.1.2). A link is one arc each way. All costs out of routers are at least 1, so
//!
//! > a router's successor on a shortest path is strictly nearer, a network's is as near and has a lower number.
//!
//! Ordered by (distance, number), every node comes after all its successors. That order is what the heap gives, and all
//! arguments below lean on it.
//!
//! A [`Tree`] holds the distances of all nodes to one destination. It is grown (Dijkstra), or repaired after changes of
//! arcs, as Ramalingam and Reps do it (J. Algorithms 21, 1996), for a batch of changes:
//!
//! 1. **Which destinations.** Let D be the old distances. If for no changed arc u→v, with c the smaller of its old and
//!    its new cost, c + D(v) ≤ D(u), then each arc that changed was on no shortest path and is on none now. D still
//!    solves D(u) = min(cost(u→v) + D(v)), and in the order above a solution is unique: nothing changes, neither
//!    distances nor which arcs are tight. Otherwise:
//! 2. **Cut off.** In the order of old distances, look at each node that lost a tight arc: if no arc to a node that
//!    still stands gives it its old distance or less, it is cut off, and those with tight arcs to it are looked at in
//!    their turn. What stands afterwards has a distance that some path has.
//! 3. **Grow again.** Nodes that were cut off start from their best neighbour that stands, the sources of arcs that
//!    became cheaper from those arcs; from there on it is Dijkstra. Only along such arcs can a distance be larger than
//!    a neighbour's allows, so afterwards none is.
//! 4. **Next hops** can differ at sources of changed arcs, at nodes that moved, and at those with arcs to them.
//!
//! Crates were considered: petgraph's Dijkstra returns distances in a hash map and neither next hops of equal cost nor
//! repairs; the dynamic ones are for road maps (one path between two points). Tests hold the results against petgraph.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

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
struct ChangedArc {
    from: u32,
    to: u32,
    before: u32,
    now: u32,
}

#[derive(Clone, Copy, Debug)]
struct Arc {
    node: u32,
    cost: u32,
    /// The port out of a router; for arcs out of a network, the port into the router.
    port: u32,
    /// The port at the other end of a link, [`NO_PORT`] on networks.
    peer: u32,
}

const NO_PORT: u32 = u32::MAX;

/// Arcs of all nodes, compressed: those of node n are `arcs[starts[n]..starts[n + 1]]`, in the order of ports.
#[derive(Clone, Debug, Default)]
struct Arcs {
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

    fn of(&self, node: u32) -> &[Arc] {
        &self.arcs[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }
}

/// What carries, as arcs.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    routers: usize,
    nodes: usize,
    /// Arcs out of a node.
    out: Arcs,
    /// The same arcs at the node that they lead to; `node` is where they come from.
    into: Arcs,
    changes: Vec<ChangedArc>,
    /// The networks of ports that changed, each with the routers that were on it.
    before: Vec<(u32, Vec<u32>)>,
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

    pub(super) fn routers(&self) -> usize {
        self.routers
    }

    /// The next hops of `router` on shortest paths to the tree's destination: each a port out and the port into the
    /// next router. In the order of ports; what would be more than `most` is left out.
    pub(super) fn hops(&self, tree: &Tree, router: u32, most: usize, hops: &mut Vec<(u32, u32)>) {
        hops.clear();
        let distance = tree.distance(router);
        if distance == FAR || distance == 0 {
            return;
        }
        for arc in self.out.of(router) {
            if arc.cost.saturating_add(tree.distance(arc.node)) != distance {
                continue;
            }
            if arc.peer != NO_PORT {
                hops.push((arc.port, arc.peer));
            } else {
                let near = tree.distance(arc.node);
                let nearest = self.out.of(arc.node).iter().filter(|last| tree.distance(last.node) == near);
                hops.extend(nearest.take(most).map(|last| (arc.port, last.port)));
            }
            if hops.len() >= most {
                hops.truncate(most);
                return;
            }
        }
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

/// Distances of all nodes to one destination, and the room to compute them in.
#[derive(Debug, Default)]
pub(super) struct Tree {
    distances: Vec<u32>,
    /// (distance, node), the nearest first.
    heap: BinaryHeap<Reverse<(u32, u32)>>,
    /// Per node, the number of the repair that marked it: nothing to clear.
    marks: Vec<u64>,
    mark: u64,
    moved: Vec<u32>,
    touched: Vec<u32>,
    /// The networks that changes name, in their order, and their old distances.
    networks: Vec<(u32, u32)>,
}

impl Tree {
    fn distance(&self, node: u32) -> u32 {
        self.distances[node as usize]
    }

    /// Distances of the routers.
    pub(super) fn distances(&self) -> &[u32] {
        &self.distances
    }

    /// Shortest paths to `destination`, from nothing.
    pub(super) fn grow(&mut self, graph: &Graph, destination: u32) {
        self.distances.clear();
        self.distances.resize(graph.nodes, FAR);
        self.heap.clear();
        self.distances[destination as usize] = 0;
        self.heap.push(Reverse((0, destination)));
        while let Some(Reverse((distance, node))) = self.heap.pop() {
            if distance > self.distances[node as usize] {
                continue;
            }
            for arc in graph.into.of(node) {
                let (at, through) = (&mut self.distances[arc.node as usize], distance + arc.cost);
                if through < *at {
                    *at = through;
                    self.heap.push(Reverse((through, arc.node)));
                }
            }
        }
    }

    /// Shortest paths to `destination`, from what they were before the graph's changes; `old` gives the routers'
    /// distances of then. Notes the routers whose distance or next hops may differ as [`touched`](Self::touched).
    pub(super) fn repair(&mut self, graph: &Graph, destination: u32, old: impl Fn(u32) -> u32) {
        self.touched.clear();
        if self.is_touched(graph, &old) {
            self.restore(graph, old);
            self.cut_off(graph);
            self.grow_again(graph);
            self.collect(graph, destination);
        }
    }

    /// What the last repair touched.
    pub(super) fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Whether any arc that changed was, or is now, on a shortest path to the destination that `old` are distances to.
    fn is_touched(&mut self, graph: &Graph, old: impl Fn(u32) -> u32) -> bool {
        self.networks.clear();
        let nearest = |routers: &Vec<u32>| routers.iter().map(|router| old(*router)).min().unwrap_or(FAR);
        self.networks.extend(graph.before.iter().map(|(network, routers)| (*network, nearest(routers))));
        let distance = |node: u32| match self.networks.binary_search_by_key(&node, |(network, _)| *network) {
            Ok(index) => self.networks[index].1,
            Err(_) => old(node),
        };
        graph.changes.iter().any(|change| {
            let to = distance(change.to);
            to != FAR && change.before.min(change.now).saturating_add(to) <= distance(change.from)
        })
    }

    /// The distances of before, those of networks too.
    fn restore(&mut self, graph: &Graph, old: impl Fn(u32) -> u32) {
        self.distances.clear();
        self.distances.extend((0..graph.routers as u32).map(old));
        for network in graph.routers as u32..graph.nodes as u32 {
            let members = graph.out.of(network).iter();
            self.distances.push(members.map(|arc| self.distances[arc.node as usize]).min().unwrap_or(FAR));
        }
        for &(network, distance) in &self.networks {
            self.distances[network as usize] = distance;
        }
    }

    fn cut_off(&mut self, graph: &Graph) {
        self.heap.clear();
        self.moved.clear();
        for change in &graph.changes {
            let (from, to) = (self.distance(change.from), self.distance(change.to));
            if change.now > change.before && from != FAR && change.before.saturating_add(to) == from {
                self.heap.push(Reverse((from, change.from)));
            }
        }
        while let Some(Reverse((old, node))) = self.heap.pop() {
            if self.distance(node) == FAR {
                continue;
            }
            let stands = |arc: &Arc| arc.cost.saturating_add(self.distance(arc.node)) <= old;
            if graph.out.of(node).iter().any(stands) {
                continue;
            }
            self.distances[node as usize] = FAR;
            self.moved.push(node);
            for arc in graph.into.of(node) {
                let behind = self.distance(arc.node);
                if behind != FAR && arc.cost.saturating_add(old) <= behind {
                    self.heap.push(Reverse((behind, arc.node)));
                }
            }
        }
    }

    fn grow_again(&mut self, graph: &Graph) {
        for index in 0..self.moved.len() {
            let node = self.moved[index];
            let through = |arc: &Arc| arc.cost.saturating_add(self.distance(arc.node));
            let best = graph.out.of(node).iter().map(through).min().unwrap_or(FAR);
            self.shorten(node, best);
        }
        for change in &graph.changes {
            if change.now < change.before {
                self.shorten(change.from, change.now.saturating_add(self.distance(change.to)));
            }
        }
        while let Some(Reverse((distance, node))) = self.heap.pop() {
            if distance > self.distance(node) {
                continue;
            }
            for arc in graph.into.of(node) {
                self.shorten(arc.node, distance + arc.cost);
            }
        }
    }

    fn shorten(&mut self, node: u32, distance: u32) {
        if distance < self.distance(node) {
            self.distances[node as usize] = distance;
            self.heap.push(Reverse((distance, node)));
            self.moved.push(node);
        }
    }

    fn collect(&mut self, graph: &Graph, destination: u32) {
        self.mark += 1;
        self.marks.resize(graph.nodes.max(self.marks.len()), 0);
        let (marks, mark, touched) = (&mut self.marks, self.mark, &mut self.touched);
        let mut touch = |node: u32| {
            if marks[node as usize] != mark {
                marks[node as usize] = mark;
                if (node as usize) < graph.routers && node != destination {
                    touched.push(node);
                }
            }
        };
        for &node in self.moved.iter().chain(graph.changes.iter().map(|change| &change.from)) {
            touch(node);
            for arc in graph.into.of(node) {
                touch(arc.node);
                // Who sends over a network comes into the nearest of its routers, which may be others now.
                if arc.node as usize >= graph.routers {
                    graph.into.of(arc.node).iter().for_each(|arc| touch(arc.node));
                }
            }
        }
    }
}
