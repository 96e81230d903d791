//! Distances and ways, against petgraph, and walked.

use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use proptest::prelude::*;
use vnet_tables::plan::{Attached, Description, Next, Plan, RouterId, compile};

use crate::model::{descriptions, join, link, loopback, routers, words};

/// Routers joined at random by links and networks.
pub fn tangle(count: u16, wires: &[(u16, u16, u32, u32)]) -> Description {
    let mut description = routers(count);
    for (index, &(a, b, near, far)) in wires.iter().enumerate() {
        if a % count != b % count && index % 3 != 0 {
            link(&mut description, a % count, b % count, (near, far));
        } else {
            join(&mut description, a % count, 1 + b % (1 + count / 4), near);
        }
    }
    description
}

pub fn wires(most: usize) -> impl Strategy<Value = Vec<(u16, u16, u32, u32)>> {
    prop::collection::vec((any::<u16>(), any::<u16>(), 1..6u32, 1..6u32), 0..most)
}

/// The same as a petgraph: networks are nodes behind the routers.
fn petgraph(description: &Description) -> DiGraph<(), u32> {
    let mut graph = DiGraph::new();
    let count = description.routers.len();
    for _ in 0..count + 1000 {
        graph.add_node(());
    }
    for spec in &description.ports {
        let router = NodeIndex::new(usize::from(spec.router.0));
        match spec.attached {
            Attached::Link { peer } => {
                let other = description.ports[peer.0 as usize].router;
                graph.add_edge(router, NodeIndex::new(usize::from(other.0)), spec.weight);
            }
            Attached::Network(network) => {
                let network = NodeIndex::new(count + usize::from(network.0));
                graph.add_edge(router, network, spec.weight);
                graph.add_edge(network, router, 0);
            }
        }
    }
    graph
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn distances_are_those_of_petgraph(count in 2..60u16, wires in wires(200)) {
        let description = tangle(count, &wires);
        let words = words(&compile(&description, None));
        let (plan, graph) = (Plan::new(&words), petgraph(&description));
        for from in 0..count {
            let distances = dijkstra(&graph, NodeIndex::new(usize::from(from)), None, |edge| *edge.weight());
            for to in 0..count {
                let expected = distances.get(&NodeIndex::new(usize::from(to))).copied();
                prop_assert_eq!(plan.distance(RouterId(from), RouterId(to)), expected);
            }
        }
    }

    #[test]
    fn whatever_the_hash_a_walk_arrives_after_its_distance(
        count in 2..40u16, wires in wires(120), hash in any::<u32>()
    ) {
        let description = tangle(count, &wires);
        let words = words(&compile(&description, None));
        let plan = Plan::new(&words);
        for from in 0..count {
            for to in 0..count {
                let Some(distance) = plan.distance(RouterId(from), RouterId(to)) else { continue };
                let (mut at, mut cost) = (RouterId(from), 0);
                while at != RouterId(to) {
                    let Next::Router { out, into } = plan.next(at, loopback(to), hash) else {
                        return Err(TestCaseError::fail(format!("{from} to {to} ends at {at:?}")));
                    };
                    let (near, far) = (plan.port(out).expect("a port"), plan.port(into).expect("a port"));
                    prop_assert_eq!(near.router, at);
                    cost += near.weight;
                    prop_assert!(cost <= distance);
                    at = far.router;
                }
                prop_assert_eq!(cost, distance);
            }
        }
    }

    #[test]
    fn compiling_twice_gives_the_same_words(description in descriptions()) {
        let (first, second) = (compile(&description, None), compile(&description, None));
        prop_assert_eq!(first.words(), second.words());
    }
}

#[test]
fn the_heaviest_longest_path_does_not_overflow() {
    let most = vnet_tables::plan::description::MAX_WEIGHT;
    let count = 300;
    let mut description = routers(count);
    for router in 1..count {
        link(&mut description, router - 1, router, (most, most));
    }
    let words = words(&compile(&description, None));
    let expected = u32::from(count - 1) * most;
    assert_eq!(Plan::new(&words).distance(RouterId(0), RouterId(count - 1)), Some(expected));
}

#[test]
fn a_plan_without_routers_knows_no_way() {
    let words = words(&compile(&Description::default(), None));
    let plan = Plan::new(&words);
    assert_eq!((plan.routers(), plan.ports(), plan.classes()), (0, 0, 1));
    assert_eq!(plan.next(RouterId(0), loopback(0), 0), Next::NoRoute);
}
