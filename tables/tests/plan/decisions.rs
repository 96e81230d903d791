//! What one router decides: every rule by itself, and all of them together against the model.

use proptest::prelude::*;
use vnet_tables::plan::{
    Attached, ClassId, ClassKind, Description, DescriptionError, Next, Plan, PortId, RouterId, Step, compile,
};
use vnet_tables::{Address, NetworkId, SlotId};

use crate::model::{agrees, class, descriptions, join, link, loopback, routers, words};

fn next(description: &Description, router: u16, class: ClassId) -> Next {
    Plan::new(&words(&compile(description, None))).next(RouterId(router), class, 7)
}

fn add(description: &mut Description, spec: vnet_tables::plan::ClassSpec) -> ClassId {
    description.classes.push(spec);
    ClassId(description.classes.len() as u16 - 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_decision_is_the_one_that_the_definitions_give(description in descriptions()) {
        let words = words(&compile(&description, None));
        agrees(&Plan::new(&words), &description)?;
    }
}

/// Two routers in a row between two networks: 1 ─ r0 ── r1 ─ 2.
fn row() -> Description {
    let mut description = routers(2);
    join(&mut description, 0, 1, 10);
    link(&mut description, 0, 1, (10, 10));
    join(&mut description, 1, 2, 10);
    description
}

#[test]
fn a_port_there_beats_a_static_route_and_that_beats_the_shortest_path() {
    let mut description = row();
    let near = add(&mut description, class(ClassKind::Network(NetworkId(1))));
    let far = add(&mut description, class(ClassKind::Network(NetworkId(2))));
    assert_eq!(next(&description, 0, near), Next::OnLink { port: PortId(0) });
    assert_eq!(next(&description, 0, far), Next::Router { out: PortId(1), into: PortId(2) });
    let address = Address::V4(9);
    for which in [near, far] {
        let step = Step::Via { port: PortId(0), address };
        description.classes[usize::from(which.0)].statics = vec![(RouterId(0), step)];
    }
    assert_eq!(next(&description, 0, near), Next::OnLink { port: PortId(0) });
    assert_eq!(next(&description, 0, far), Next::Via { port: PortId(0), address });
    // Another router's static route is none of its business.
    assert_eq!(next(&description, 1, far), Next::OnLink { port: PortId(3) });
    assert_eq!(next(&description, 1, near), Next::Router { out: PortId(2), into: PortId(1) });
}

#[test]
fn a_static_route_out_of_a_port_that_is_down_is_not_taken() {
    let mut description = row();
    let mut spec = class(ClassKind::Static);
    let over_link = Step::Via { port: PortId(1), address: Address::V4(9) };
    spec.statics = vec![(RouterId(0), over_link), (RouterId(0), Step::Blackhole)];
    let fixed = add(&mut description, spec);
    // Over a link there is one place to go to, whatever the address.
    assert_eq!(next(&description, 0, fixed), Next::Router { out: PortId(1), into: PortId(2) });
    description.ports[2].up = false;
    assert_eq!(next(&description, 0, fixed), Next::Blackhole);
    description.classes[usize::from(fixed.0)].statics.pop();
    assert_eq!(next(&description, 0, fixed), Next::NoRoute);
}

#[test]
fn a_cut_link_takes_its_own_prefix_along() {
    let mut description = row();
    let prefix = add(&mut description, class(ClassKind::Link(PortId(2))));
    assert_eq!(next(&description, 0, prefix), Next::OnLink { port: PortId(1) });
    assert_eq!(next(&description, 1, prefix), Next::OnLink { port: PortId(2) });
    description.ports[1].up = false;
    assert_eq!(next(&description, 0, prefix), Next::NoRoute);
    assert_eq!(next(&description, 1, prefix), Next::NoRoute);
}

#[test]
fn a_shorter_prefix_decides_where_a_longer_one_says_nothing() {
    let mut description = row();
    let mut all = class(ClassKind::Static);
    all.statics = vec![(RouterId(0), Step::Prohibited)];
    let all = add(&mut description, all);
    let mut some = class(ClassKind::Static);
    (some.statics, some.parent) = (vec![(RouterId(1), Step::Unreachable)], all);
    let some = add(&mut description, some);
    assert_eq!(next(&description, 0, some), Next::Prohibited);
    assert_eq!(next(&description, 1, some), Next::Unreachable);
    assert_eq!(next(&description, 1, all), Next::NoRoute);
}

#[test]
fn the_nearest_of_several_attachments_counts_its_last_port_too() {
    // r0 ─1─ r1 ─20─ net 5 and r0 ─5─ r2 ─1─ net 5.
    let mut description = routers(3);
    let (_, _) = link(&mut description, 0, 1, (1, 1));
    let (out, into) = link(&mut description, 0, 2, (5, 5));
    join(&mut description, 1, 5, 20);
    join(&mut description, 2, 5, 1);
    let network = add(&mut description, class(ClassKind::Network(NetworkId(5))));
    assert_eq!(next(&description, 0, network), Next::Router { out, into });
}

#[test]
fn what_lies_behind_a_guest_goes_to_the_nearest_router_on_its_network() {
    let mut description = row();
    let via = Address::V4(0x0a02_0009);
    let external = add(&mut description, class(ClassKind::External { network: NetworkId(2), via }));
    assert_eq!(next(&description, 0, external), Next::Router { out: PortId(1), into: PortId(2) });
    assert_eq!(next(&description, 1, external), Next::Via { port: PortId(3), address: via });
}

#[test]
fn a_guest_that_forwards_is_a_router_like_others_on_the_way() {
    let mut description = routers(3);
    link(&mut description, 0, 1, (1, 1));
    link(&mut description, 1, 2, (1, 1));
    description.routers[1].guest = true;
    let words = words(&compile(&description, None));
    let plan = Plan::new(&words);
    assert!(plan.router(RouterId(1)).is_some_and(|router| router.guest));
    assert_eq!(plan.distance(RouterId(0), RouterId(2)), Some(2));
    assert_eq!(plan.next(RouterId(0), loopback(2), 0), Next::Router { out: PortId(0), into: PortId(1) });
}

#[test]
fn link_and_loopback_addresses_belong_to_their_routers_also_when_the_link_is_cut() {
    let mut description = row();
    let v6 = 0xfd00_0000_0000_0000_0000_0000_0000_0002_u128;
    (description.ports[1].v4, description.ports[2].v4, description.ports[2].v6) = (11, 12, v6);
    let prefix = add(&mut description, class(ClassKind::Link(PortId(1))));
    for up in [true, false] {
        description.ports[1].up = up;
        let words = words(&compile(&description, None));
        let plan = Plan::new(&words);
        assert_eq!(plan.local(prefix, Address::V4(11)), Some(RouterId(0)));
        assert_eq!(plan.local(prefix, Address::V4(12)), Some(RouterId(1)));
        assert_eq!(plan.local(prefix, Address::V6((v6 >> 64) as u64, v6 as u64)), Some(RouterId(1)));
        assert_eq!(plan.local(prefix, Address::V4(13)), None);
        // A port without an address does not have the address 0.
        assert_eq!(plan.local(prefix, Address::V6(0, 0)), None);
        assert_eq!(plan.local(loopback(1), Address::V4(99)), Some(RouterId(1)));
        assert_eq!(plan.local(ClassId(0), Address::V4(11)), None);
    }
}

#[test]
fn ports_come_out_as_they_went_in() {
    let mut description = row();
    let spec = &mut description.ports[3];
    (spec.slot, spec.mtu, spec.weight, spec.v4, spec.v6) = (SlotId(65_535), 9000, 77, 0xffff_fffe, u128::MAX - 1);
    let words = words(&compile(&description, None));
    let port = Plan::new(&words).port(PortId(3)).expect("the port");
    assert_eq!((port.router, port.attached), (RouterId(1), Attached::Network(NetworkId(2))));
    assert_eq!((port.slot, port.mtu, port.weight), (SlotId(65_535), 9000, 77));
    assert_eq!((port.v4, port.v6, port.up), (0xffff_fffe, u128::MAX - 1, true));
    assert_eq!(Plan::new(&words).port(PortId(4)), None);
}

#[test]
fn parents_that_lead_in_a_circle_end() {
    let mut description = routers(1);
    for parent in [3, 2] {
        let mut spec = class(ClassKind::Static);
        spec.parent = ClassId(parent);
        description.classes.push(spec);
    }
    assert_eq!(next(&description, 0, ClassId(2)), Next::NoRoute);
    assert_eq!(description.check(), Err(DescriptionError::Endless { class: 2 }));
}

#[test]
fn the_longest_chain_of_prefixes_is_walked_to_its_end() {
    // One class for each prefix length of IPv6; only the shortest knows anything.
    let mut description = routers(1);
    let mut shortest = class(ClassKind::Static);
    shortest.statics = vec![(RouterId(0), Step::Blackhole)];
    let mut parent = add(&mut description, shortest);
    for _ in 1..129 {
        let mut spec = class(ClassKind::Static);
        spec.parent = parent;
        parent = add(&mut description, spec);
    }
    assert_eq!(description.check(), Ok(()));
    assert_eq!(next(&description, 0, parent), Next::Blackhole);
}

#[test]
fn a_description_that_names_what_there_is_not_is_refused_in_one_sentence() {
    let refused = |change: &dyn Fn(&mut Description)| {
        let mut description = row();
        add(&mut description, class(ClassKind::Network(NetworkId(1))));
        assert_eq!(description.check(), Ok(()));
        change(&mut description);
        // What is refused still compiles, to something that every reader survives.
        let words = words(&compile(&description, None));
        for class in 0..8 {
            let _ = Plan::new(&words).next(RouterId(0), ClassId(class), 0);
        }
        description.check().expect_err("refused").to_string()
    };
    assert_eq!(refused(&|d| d.ports[1].router = RouterId(9)), "port 1 names router 9, but there are 2");
    assert_eq!(
        refused(&|d| d.ports[1].attached = Attached::Link { peer: PortId(70_000) }),
        "port 1 names port 70000, but there are 4"
    );
    assert_eq!(
        refused(&|d| d.ports[2].attached = Attached::Link { peer: PortId(2) }),
        "port 1 is linked to port 2, which is not linked to it"
    );
    assert_eq!(refused(&|d| d.ports[0].weight = 0), "port 0 has weight 0; a weight is 1 to 1048575");
    assert_eq!(
        refused(&|d| d.ports[0].attached = Attached::Network(NetworkId(0))),
        "port 0 names network 0, which is none"
    );
    assert_eq!(
        refused(&|d| d.classes[3].statics = vec![(RouterId(1), Step::Via { port: PortId(0), address: Address::V4(1) })]),
        "class 3: router 1 has a static route out of port 0, which is router 0's"
    );
    assert_eq!(refused(&|d| d.classes[3].parent = ClassId(4)), "class 3 names class 4, but there are 4");
    assert_eq!(
        refused(&|d| d.routers = vec![d.routers[0]; 4097]),
        "4097 routers are more than a plan can have: at most 4096"
    );
}
