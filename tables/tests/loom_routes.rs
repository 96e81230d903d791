//! Look-ups beside updates under loom: every order of the atomic operations that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p vnet-tables --release --test loom_routes`.
#![cfg(loom)]

use loom::sync::atomic::AtomicU32;
use loom::thread;
use vnet_tables::lpm::{Prefix, Route, RouteTable, RouteWriter};

/// The header and a few nodes.
const WORDS: usize = 96;
/// Freed words are not used again, so nothing but what a model is about has look-ups start over.
const REST: u32 = 4096;

/// What a change does to a prefix; class 0 takes it out.
type Change = (u32, u8, u16);

/// A look-up of address 0 beside `changes`, after `before`: it must find one of `classes`. As many as `rest` freed words
/// rest before they are used again.
///
/// Threads are changed at most three times beyond what they do by themselves, which is enough to get a reader from an
/// old node into a new use of its words, and into a second turn.
fn look_up_beside(rest: u32, before: &'static [Change], changes: &'static [Change], classes: &'static [u16]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        // Leaked for one execution of the model; loom needs no more of it than a table does.
        let memory: &'static [AtomicU32] = Vec::leak((0..WORDS).map(|_| AtomicU32::new(0)).collect());
        // Before the reader comes, so that the model does not go through it in every order.
        let mut writer = RouteWriter::with_rest(memory, rest).unwrap();
        before.iter().for_each(|change| make(&mut writer, *change));
        let reader = thread::spawn(move || RouteTable::new(memory).look_up4(0));
        changes.iter().for_each(|change| make(&mut writer, *change));
        let found = reader.join().unwrap();
        assert!(classes.contains(&found), "{found}");
    });
}

fn make(writer: &mut RouteWriter<'_>, (address, length, class): Change) {
    let prefix = Prefix::V4(address, length);
    if class == 0 {
        writer.remove(prefix).unwrap();
    } else {
        writer.insert(Route { prefix, class }).unwrap();
    }
}

#[test]
fn words_that_are_used_again_mislead_no_look_up() {
    // The node below the first six bits goes, and its words become that of other addresses, whose class is 9.
    look_up_beside(0, &[(0xf0 << 24, 4, 5), (0, 7, 1)], &[(0, 7, 0), (20 << 24, 7, 9)], &[1, 0]);
}

#[test]
fn a_default_route_that_takes_over_leaves_no_moment_without() {
    // The route is taken out of a node that keeps its runs: an old root leads there, too.
    look_up_beside(REST, &[(0, 1, 1), (1 << 31, 1, 5)], &[(0, 0, 2), (0, 1, 0)], &[1, 2]);
}

#[test]
fn a_route_that_takes_over_from_the_default_leaves_no_moment_without() {
    look_up_beside(REST, &[(0, 0, 2), (1 << 31, 1, 5)], &[(0, 1, 1), (0, 0, 0)], &[1, 2]);
}
