//! Shortest paths to one router: grown, and repaired after changes.
//!
//! # Theory of operation
//!
//! A [`Tree`] holds the distances of all nodes of a [graph](super::graph) to one destination. It is grown (Dijkstra), or
//! repaired after changes of arcs, as Ramalingam and Reps do it (J. Algorithms 21, 1996), for a batch of changes:
//!
//! 1. **Which destinations.** Let D be the old distances. If for no changed arc u→v, with c the smaller of its old and
//!    its new cost, c + D(v) ≤ D(u), then each arc that changed was on no shortest path and is on none now. D still
//!    solves D(u) = min(cost(u→v) + D(v)), and in the graph's order, each node after its successors, a solution is
//!    unique: nothing changes, neither distances nor which arcs are tight (on a shortest path). Otherwise:
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
use std::collections::BinaryHeap;

use super::graph::{Arc, Graph, NO_PORT};
use super::layout::FAR;

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

    /// The next hops of `router` on shortest paths to the destination: each a port out and the port into the
    /// next router. In the order of ports; what would be more than `most` is left out.
    pub(super) fn hops(&self, graph: &Graph, router: u32, most: usize, hops: &mut Vec<(u32, u32)>) {
        hops.clear();
        let distance = self.distance(router);
        if distance == FAR || distance == 0 {
            return;
        }
        for arc in graph.out.of(router) {
            if arc.cost.saturating_add(self.distance(arc.node)) != distance {
                continue;
            }
            if arc.peer != NO_PORT {
                hops.push((arc.port, arc.peer));
            } else {
                let near = self.distance(arc.node);
                let nearest = graph.out.of(arc.node).iter().filter(|last| self.distance(last.node) == near);
                hops.extend(nearest.take(most).map(|last| (arc.port, last.port)));
            }
            if hops.len() >= most {
                hops.truncate(most);
                return;
            }
        }
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
