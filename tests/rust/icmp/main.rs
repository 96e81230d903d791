//! What a router does to datagrams and says about them, against the Linux kernel as a router: byte for byte.
//!
//! The kernel's own choices are taken from its answers (identifications, flow labels); the time must be that of the moment.

mod build;
mod kernel;
mod limits;
mod model;
#[path = "../namespace.rs"]
mod namespace;
mod probes;

use std::time::{SystemTime, UNIX_EPOCH};

use kernel::{Kernel, Sent, Side};
use model::{Choice, Router};
use namespace::{in_a_namespace, ip, set};
use probes::Probe;

fn today() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is right");
    (now.as_millis() % 86_400_000) as u32
}

/// Flow labels are hashes with keys of the kernel's own: of what routers send themselves they are not compared.
fn without_labels(sent: &mut Sent, given: &[u8]) {
    for (_, datagram) in sent {
        if datagram[0] >> 4 == 6 && datagram[1..4] != given[1..4] {
            datagram[1] &= 0xf0;
            datagram[2..4].fill(0);
        }
    }
}

/// What the kernel sends, where that is not what is expected.
fn differs(kernel: &mut Kernel, probe: &Probe) -> Option<String> {
    let mut complaint = String::new();
    let given = &probe.datagrams[0];
    // A time that moves on between two places where it is written can be seen once, and not again and again.
    for _ in 0..3 {
        let before = today();
        let mut theirs = kernel.ask(&probe.datagrams, probe.side);
        let after = today();
        let mut choice = Choice::default();
        if let Some((_, first)) = theirs.first() {
            choice.ident = u16::from_be_bytes([first[4], first[5]]);
            choice.ident6 = first.get(44..48).map_or(0, |id| u32::from_be_bytes(id.try_into().expect("4 bytes")));
        }
        without_labels(&mut theirs, given);
        for today in before..=after {
            let mut ours = Router::take(&probe.datagrams, probe.side, Choice { today, ..choice });
            without_labels(&mut ours, given);
            if ours == theirs {
                return None;
            }
            let name = &probe.name;
            complaint = format!("{name}\n  asked  {}\n{}{}", hex(given), told("theirs", &theirs), told("ours", &ours));
        }
    }
    Some(complaint)
}

/// The first bytes of a datagram: what differs shows in its headers.
fn hex(datagram: &[u8]) -> String {
    let shown: String = datagram.iter().take(160).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes {shown}", datagram.len())
}

fn told(who: &str, sent: &Sent) -> String {
    if sent.is_empty() {
        return format!("  {who}: nothing\n");
    }
    sent.iter().map(|(side, datagram)| format!("  {who} {side:?} {}\n", hex(datagram))).collect()
}

fn compare(probes: impl Iterator<Item = Probe>) {
    let mut kernel = Kernel::new(false);
    let (mut compared, mut said, mut complaints) = (0, 0, Vec::new());
    for probe in probes {
        compared += 1;
        complaints.extend(differs(&mut kernel, &probe));
        said += usize::from(!Router::take(&probe.datagrams, probe.side, Choice::default()).is_empty());
    }
    let wrong = complaints.len();
    complaints.truncate(12);
    assert!(complaints.is_empty(), "{wrong} of {compared} differ\n{}", complaints.join("\n"));
    println!("{compared} probes, of which {said} had consequences");
    assert!(said > compared / 5, "of {compared} probes only {said} had consequences");
}

#[test]
fn routers_answer_and_forward_ipv4_as_the_kernel_does() {
    if in_a_namespace("routers_answer_and_forward_ipv4_as_the_kernel_does") {
        compare(probes::four());
    }
}

#[test]
fn routers_answer_and_forward_ipv6_as_the_kernel_does() {
    if in_a_namespace("routers_answer_and_forward_ipv6_as_the_kernel_does") {
        compare(probes::six());
    }
}

#[test]
fn options_of_all_kinds_have_the_consequences_that_the_kernel_knows() {
    if in_a_namespace("options_of_all_kinds_have_the_consequences_that_the_kernel_knows") {
        compare(probes::options());
    }
}

#[test]
fn datagrams_with_wrong_bytes_have_the_consequences_that_the_kernel_knows() {
    if in_a_namespace("datagrams_with_wrong_bytes_have_the_consequences_that_the_kernel_knows") {
        compare(probes::damaged());
    }
}

#[test]
fn routers_make_fragments_for_themselves_whole_as_the_kernel_does() {
    if in_a_namespace("routers_make_fragments_for_themselves_whole_as_the_kernel_does") {
        compare(probes::pieces());
    }
}

#[test]
fn routers_say_that_nobody_is_there_as_the_kernel_does() {
    if !in_a_namespace("routers_say_that_nobody_is_there_as_the_kernel_does") {
        return;
    }
    let mut kernel = Kernel::new(false);
    // Now neighbours are asked for, and none answers: once, for a moment.
    ip("link set dev right arp on");
    for family in ["ipv4", "ipv6"] {
        set(&format!("{family}/neigh/right/mcast_solicit"), "1");
        set(&format!("{family}/neigh/right/retrans_time_ms"), "20");
    }
    for probe in probes::absent() {
        let before = today();
        assert!(
            !kernel.ask(&probe.datagrams, probe.side).iter().any(|(side, _)| *side == Side::Left),
            "{}",
            probe.name
        );
        let mut theirs = vec![(Side::Left, kernel.next(Side::Left))];
        let answer = &theirs[0].1;
        let choice = Choice { ident: u16::from_be_bytes([answer[4], answer[5]]), ..Choice::default() };
        let given = &probe.datagrams[0];
        without_labels(&mut theirs, given);
        let same = (before..=today()).any(|today| {
            let mut ours = Router::find_nobody(given, probe.side, Choice { today, ..choice });
            without_labels(&mut ours, given);
            ours == theirs
        });
        let ours = Router::find_nobody(given, probe.side, choice);
        assert!(same, "{}\n{}{}", probe.name, told("theirs", &theirs), told("ours", &ours));
    }
}
