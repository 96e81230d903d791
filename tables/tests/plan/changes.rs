//! What was changed step by step is what is compiled at once.

use proptest::prelude::*;
use vnet_tables::plan::{Attached, ClassKind, Compiled, Description, Plan, PortChange, PortId, compile};

use crate::model::{agrees, class, descriptions, join, link, routers, words};
use crate::paths::{tangle, wires};

/// Every distance and every set of choices.
fn same(found: &Compiled, description: &Description) -> Result<(), TestCaseError> {
    use vnet_tables::plan::{ClassId, RouterId};
    let (found, expected) = (words(found), words(&compile(description, None)));
    let (found, expected) = (Plan::new(&found), Plan::new(&expected));
    prop_assert_eq!(found.routers(), expected.routers());
    for from in (0..found.routers() as u16).map(RouterId) {
        for to in (0..found.routers() as u16).map(RouterId) {
            prop_assert_eq!(found.distance(from, to), expected.distance(from, to), "{:?} to {:?}", from, to);
        }
        for class in (0..found.classes() as u16).map(ClassId) {
            let (found, expected) = (found.choices(from, class), expected.choices(from, class));
            prop_assert_eq!(found.as_slice(), expected.as_slice(), "{:?}, {:?}", from, class);
        }
    }
    for port in (0..found.ports() as u32).map(PortId) {
        prop_assert_eq!(found.port(port), expected.port(port));
    }
    Ok(())
}

fn batches() -> impl Strategy<Value = Vec<Vec<(u32, bool, u32)>>> {
    prop::collection::vec(prop::collection::vec((any::<u32>(), any::<bool>(), 1..5u32), 1..6), 1..12)
}

fn apply(description: &mut Description, batch: &[(u32, bool, u32)]) -> Vec<PortChange> {
    let count = description.ports.len() as u32;
    let mut changes = Vec::new();
    for &(port, up, weight) in batch.iter().filter(|_| count > 0) {
        let spec = &mut description.ports[(port % count) as usize];
        (spec.up, spec.weight) = (up, weight);
        changes.push(PortChange { port: PortId(port % count), up, weight });
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn cuts_mends_and_weights_one_after_the_other_lead_where_compiling_leads(
        description in descriptions(), batches in batches()
    ) {
        let mut description = description;
        let mut compiled = compile(&description, None);
        for batch in batches {
            let changes = apply(&mut description, &batch);
            compiled.set_ports(&changes).expect("ports that there are");
            prop_assert_eq!(compiled.description(), &description);
            agrees(&Plan::new(&words(&compiled)), &description)?;
            same(&compiled, &description)?;
        }
    }

    #[test]
    fn from_any_description_to_any_other_leads_where_compiling_leads(
        first in descriptions(), second in descriptions(), third in descriptions()
    ) {
        let steps = [compile(&first, None)];
        let second_from_first = compile(&second, Some(&steps[0]));
        same(&second_from_first, &second)?;
        same(&compile(&third, Some(&second_from_first)), &third)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn large_graphs_change_as_small_ones_do(count in 10..50u16, wires in wires(150), batches in batches()) {
        let mut description = tangle(count, &wires);
        let mut compiled = compile(&description, None);
        for batch in batches {
            let changes = apply(&mut description, &batch);
            compiled.set_ports(&changes).expect("ports that there are");
        }
        same(&compiled, &description)?;
    }

    #[test]
    fn a_plan_that_grows_port_by_port_is_the_plan_of_the_whole(count in 1..25u16, wires in wires(60)) {
        let whole = tangle(count, &wires);
        let mut description = Description { ports: Vec::new(), ..routers(1) };
        let mut compiled = compile(&description, None);
        // Routers first come one by one, then links and ports, as calls of a program bring them.
        for router in 1..count {
            description.routers.push(whole.routers[usize::from(router)]);
            description.classes.push(whole.classes[usize::from(router) + 1].clone());
            compiled = compile(&description, Some(&compiled));
        }
        let mut port = 0;
        while port < whole.ports.len() {
            let ends = if matches!(whole.ports[port].attached, Attached::Link { .. }) { 2 } else { 1 };
            description.ports.extend_from_slice(&whole.ports[port..port + ends]);
            compiled = compile(&description, Some(&compiled));
            port += ends;
        }
        same(&compiled, &whole)?;
    }
}

#[test]
fn a_thousand_cuts_and_mends_leave_no_more_words_than_twice_those_of_one_compilation() {
    let mut description = routers(64);
    for router in 0..64u16 {
        for step in [1, 8] {
            link(&mut description, router, (router + step) % 64, (1, 1));
        }
    }
    let mut compiled = compile(&description, None);
    let once = compiled.words().len();
    for turn in 0..1000u32 {
        let port = PortId(turn * 37 % 256);
        for up in [false, true] {
            compiled.set_ports(&[PortChange { port, up, weight: 1 + turn % 2 }]).expect("a port");
        }
    }
    assert!(compiled.words().len() < 2 * once + 4096, "{} of {once}", compiled.words().len());
}

#[test]
fn a_change_of_what_there_is_not_is_refused_and_changes_nothing() {
    let mut description = routers(2);
    link(&mut description, 0, 1, (1, 1));
    let mut compiled = compile(&description, None);
    let before = compiled.words().to_vec();
    let good = PortChange { port: PortId(0), up: false, weight: 1 };
    for (bad, sentence) in [
        (PortChange { port: PortId(2), up: true, weight: 1 }, "a change names port 2, but there are 2"),
        (
            PortChange { port: PortId(1), up: true, weight: 1 << 20 },
            "port 1 has weight 1048576; a weight is 1 to 1048575",
        ),
    ] {
        let refused = compiled.set_ports(&[good, bad]).expect_err("refused");
        assert_eq!(refused.to_string(), sentence);
        assert_eq!(compiled.words(), before);
    }
}

#[test]
fn new_classes_keep_the_paths_and_new_networks_join_them() {
    let mut description = routers(3);
    link(&mut description, 0, 1, (1, 1));
    link(&mut description, 1, 2, (1, 1));
    let first = compile(&description, None);
    description.classes.push(class(ClassKind::Network(vnet_tables::NetworkId(900))));
    let second = compile(&description, Some(&first));
    same(&second, &description).expect("the same");
    join(&mut description, 0, 900, 1);
    join(&mut description, 2, 900, 1);
    let third = compile(&description, Some(&second));
    same(&third, &description).expect("the same");
    // A router that goes, and one that comes back.
    description.routers[1].present = false;
    let fourth = compile(&description, Some(&third));
    same(&fourth, &description).expect("the same");
    description.routers[1].present = true;
    same(&compile(&description, Some(&fourth)), &description).expect("the same");
}
