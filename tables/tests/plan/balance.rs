//! How flows are shared among ways of equal cost.

use vnet_tables::Address;
use vnet_tables::plan::{
    ClassId, ClassKind, Compiled, Description, Next, Plan, PortChange, PortId, RouterId, Step, compile,
};

use crate::model::{class, join, link, loopback, routers, words};

const FLOWS: u32 = 64_000;

/// Hashes as a flow hash makes them: each bit a coin.
fn hashes() -> impl Iterator<Item = u32> {
    let mut state = 0x853c_49e6_u64;
    (0..FLOWS).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 ^ (state >> 17) as u32
    })
}

/// r0 and a last router, and `ways` routers between them.
fn fan(ways: u16) -> Description {
    let mut description = routers(ways + 2);
    for way in 0..ways {
        link(&mut description, 0, way + 1, (1, 1));
        link(&mut description, way + 1, ways + 1, (1, 1));
    }
    description
}

fn shares(compiled: &Compiled, router: RouterId, class: ClassId) -> Vec<(Next, u32)> {
    let words = words(compiled);
    let plan = Plan::new(&words);
    let mut shares: Vec<(Next, u32)> = Vec::new();
    for hash in hashes() {
        let next = plan.next(router, class, hash);
        match shares.iter_mut().find(|(known, _)| *known == next) {
            Some((_, count)) => *count += 1,
            None => shares.push((next, 1)),
        }
    }
    shares
}

/// Six standard deviations of a fair share.
fn is_fair(count: u32, ways: u32, flows: u32) -> bool {
    let (mean, chance) = (f64::from(flows) / f64::from(ways), 1.0 / f64::from(ways));
    (f64::from(count) - mean).abs() < 6.0 * (f64::from(flows) * chance * (1.0 - chance)).sqrt()
}

#[test]
fn every_way_of_equal_cost_gets_its_share() {
    for ways in [2, 3, 5, 8, 16] {
        let shares = shares(&compile(&fan(ways), None), RouterId(0), loopback(ways + 1));
        assert_eq!(shares.len(), usize::from(ways));
        for (next, count) in shares {
            assert!(is_fair(count, u32::from(ways), FLOWS), "{next:?} of {ways}: {count}");
        }
    }
}

#[test]
fn of_more_ways_than_sixteen_the_first_sixteen_are_used() {
    let shares = shares(&compile(&fan(20), None), RouterId(0), loopback(21));
    assert_eq!(shares.len(), 16);
    let first = |next: &Next| matches!(next, Next::Router { out, .. } if out.0 < 4 * 16);
    assert!(shares.iter().all(|(next, _)| first(next)));
}

#[test]
fn counters_as_hashes_are_shared_as_fairly() {
    let words = words(&compile(&fan(4), None));
    let plan = Plan::new(&words);
    let mut counts = [0u32; 16];
    for hash in 0..FLOWS {
        let Next::Router { out, .. } = plan.next(RouterId(0), loopback(5), hash) else { panic!("a way") };
        counts[out.0 as usize] += 1;
    }
    assert!(counts.into_iter().filter(|count| *count > 0).all(|count| is_fair(count, 4, FLOWS)), "{counts:?}");
}

#[test]
fn routers_choose_independently_of_those_before_them() {
    // Three stages of two ways: were the choices the same at each, two of the eight ways would take all flows.
    let mut description = routers(9);
    for stage in 0..3u16 {
        let (from, to) = (3 * stage, if stage < 2 { 3 * stage + 3 } else { 8 });
        let between = if stage < 2 { [from + 1, from + 2] } else { [7, 7] };
        for (way, router) in between.into_iter().enumerate() {
            if stage < 2 {
                link(&mut description, from, router, (1, 1));
                link(&mut description, router, to, (1, 1));
            } else {
                // Two parallel links, then one on.
                link(&mut description, from, router, (1, 1));
                if way == 0 {
                    link(&mut description, router, to, (1, 1));
                }
            }
        }
    }
    let words = words(&compile(&description, None));
    let plan = Plan::new(&words);
    let mut counts = std::collections::BTreeMap::new();
    for hash in hashes() {
        let mut way = Vec::new();
        let mut at = RouterId(0);
        while at != RouterId(8) {
            let Next::Router { out, into } = plan.next(at, loopback(8), hash) else { panic!("a way on from {at:?}") };
            way.push(out.0);
            at = plan.port(into).expect("a port").router;
        }
        *counts.entry(way).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 8);
    assert!(counts.values().all(|count| is_fair(*count, 8, FLOWS)), "{counts:?}");
}

#[test]
fn only_the_flows_of_a_way_that_is_cut_move_and_they_come_back() {
    let mut compiled = compile(&fan(6), None);
    let ways = |compiled: &Compiled| {
        let words = words(compiled);
        hashes().map(|hash| Plan::new(&words).next(RouterId(0), loopback(7), hash)).collect::<Vec<_>>()
    };
    let before = ways(&compiled);
    let cut = PortId(8);
    compiled.set_ports(&[PortChange { port: cut, up: false, weight: 1 }]).expect("a port");
    let during = ways(&compiled);
    let is_cut = |next: &Next| matches!(next, Next::Router { out, .. } if *out == cut);
    assert!(before.iter().any(is_cut) && !during.iter().any(is_cut));
    let moved = before.iter().zip(&during).filter(|(before, during)| before != during);
    assert_eq!(moved.clone().count(), before.iter().filter(|next| is_cut(next)).count());
    assert!(moved.clone().all(|(before, _)| is_cut(before)));
    // And they spread over all that is left, not over one neighbour.
    let mut last: Vec<_> = moved.map(|(_, during)| format!("{during:?}")).collect();
    last.sort();
    last.dedup();
    assert_eq!(last.len(), 5);
    compiled.set_ports(&[PortChange { port: cut, up: true, weight: 1 }]).expect("a port");
    assert_eq!(ways(&compiled), before);
}

#[test]
fn routers_on_one_network_and_steps_of_a_static_route_share_flows_too() {
    // r0 on network 1 with r1, r2 and r3, all of which lead on to r4.
    let mut description = routers(5);
    for router in 0..4 {
        join(&mut description, router, 1, 1);
    }
    for router in 1..4 {
        link(&mut description, router, 4, (1, 1));
    }
    let mut fixed = class(ClassKind::Static);
    for address in [7, 8] {
        fixed.statics.push((RouterId(0), Step::Via { port: PortId(0), address: Address::V4(address) }));
    }
    description.classes.push(fixed);
    let compiled = compile(&description, None);
    let over_network = shares(&compiled, RouterId(0), loopback(4));
    assert_eq!(over_network.len(), 3);
    assert!(
        over_network
            .iter()
            .all(|(next, count)| { matches!(next, Next::Router { out: PortId(0), .. }) && is_fair(*count, 3, FLOWS) })
    );
    let fixed = shares(&compiled, RouterId(0), ClassId(6));
    assert_eq!(fixed.len(), 2);
    assert!(fixed.iter().all(|(next, count)| matches!(next, Next::Via { .. }) && is_fair(*count, 2, FLOWS)));
}
