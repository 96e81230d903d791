//! Words that are damaged give some answer: no panic, no walk without end.

use proptest::prelude::*;
use vnet_tables::plan::{ClassId, Next, Plan, PortId, RouterId, compile};
use vnet_tables::sync::{AtomicU32, Ordering};
use vnet_tables::{Address, SlotId};

use crate::model::{class, descriptions, join, routers, shared};

/// Asks everything. That it returns is what is tested.
fn interrogate(words: &[AtomicU32]) {
    let plan = Plan::new(words);
    let mut answers = 0;
    for router in (0..10).chain([4095, u16::MAX]).map(RouterId) {
        for class in (0..24).chain([u16::MAX]).map(ClassId) {
            answers += usize::from(plan.next(router, class, 99) != Next::NoRoute);
            answers += usize::from(plan.local(class, Address::V4(0)).is_some());
            answers += usize::from(plan.local(class, Address::V6(0, 0)).is_some());
        }
        answers += usize::from(plan.router(router).is_some());
        answers += usize::from(plan.distance(router, RouterId(0)).is_some());
        answers += usize::from(plan.distance(RouterId(u16::MAX), router).is_some());
    }
    for port in (0..40).chain([65_535, u32::MAX]).map(PortId) {
        answers += usize::from(plan.port(port).is_some_and(|port| port.slot != SlotId(0)));
    }
    std::hint::black_box((answers, plan.routers(), plan.ports(), plan.classes(), plan.uses_ports()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn flipped_bits_are_survived(
        description in descriptions(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..32u32), 1..40)
    ) {
        let words = shared(compile(&description, None).words());
        for (at, bit) in flips {
            words[at.index(words.len())].fetch_xor(1 << bit, Ordering::Relaxed);
            interrogate(&words);
        }
    }

    #[test]
    fn a_header_of_wild_numbers_is_survived(
        description in descriptions(), wild in prop::collection::vec((3..18usize, any::<u32>()), 1..8)
    ) {
        let words = shared(compile(&description, None).words());
        for (at, value) in wild {
            words[at].store(value, Ordering::Relaxed);
            interrogate(&words);
            words[at].store(value >> 20, Ordering::Relaxed);
            interrogate(&words);
        }
    }

    #[test]
    fn a_plan_that_is_cut_short_is_none(description in descriptions(), cut in any::<prop::sample::Index>()) {
        let compiled = compile(&description, None);
        let words = shared(&compiled.words()[..cut.index(compiled.words().len())]);
        interrogate(&words);
        prop_assert_eq!(Plan::new(&words).routers(), 0);
    }

    #[test]
    fn half_of_one_plan_and_half_of_another_are_survived(
        first in descriptions(), second in descriptions(), at in any::<prop::sample::Index>()
    ) {
        let (first, second) = (compile(&first, None), compile(&second, None));
        let mut words = first.words().to_vec();
        let common = words.len().min(second.words().len());
        let at = at.index(common);
        words[at..common].copy_from_slice(&second.words()[at..common]);
        interrogate(&shared(&words));
        words[..at].copy_from_slice(&second.words()[..at]);
        words[at..].copy_from_slice(&first.words()[at..]);
        interrogate(&shared(&words));
    }
}

#[test]
fn lists_that_claim_billions_of_entries_are_read_no_further_than_a_plan_can_have() {
    use vnet_tables::NetworkId;
    use vnet_tables::plan::ClassKind;
    use vnet_tables::plan::layout::head;
    let mut description = routers(2);
    join(&mut description, 1, 1, 1);
    description.classes.push(class(ClassKind::Network(NetworkId(1))));
    let words = shared(compile(&description, None).words());
    let network = words[head::NETWORKS_AT].load(Ordering::Relaxed) as usize + 2;
    for at in [head::ATTACHED, head::STATICS, network + 1] {
        words[at].store(u32::MAX, Ordering::Relaxed);
    }
    // Unbounded, fifty times four thousand million entries: many minutes.
    for _ in 0..50 {
        assert_eq!(Plan::new(&words).next(RouterId(0), ClassId(3), 0), Next::NoRoute);
    }
}

#[test]
fn what_follows_a_plan_is_not_part_of_it() {
    let mut words = compile(&vnet_tables::plan::Description::default(), None).words().to_vec();
    words.extend([u32::MAX; 100]);
    let words = shared(&words);
    assert_eq!(Plan::new(&words).classes(), 1);
    assert_eq!(Plan::new(&words).next(RouterId(0), ClassId(1), 0), Next::NoRoute);
}

#[test]
fn words_that_hold_no_plan_make_an_empty_one() {
    for words in [vec![], vec![0; 100], vec![u32::MAX; 100]] {
        let words = shared(&words);
        interrogate(&words);
        assert_eq!(Plan::new(&words).routers(), 0);
    }
}
