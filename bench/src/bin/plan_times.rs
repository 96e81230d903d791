//! How long it takes to compile a plan, to change it, and to ask it.
//!
//! ```text
//! plan_times [ROUTERS LINKS]
//! ```
//!
//! Without numbers: a backbone of 50 routers, labs of 1,000 with random weights and with equal ones, a grid, and the most
//! that a plan can have. Each router has a network of its own; each network, link and loopback is a class. Cuts, mends
//! and weights are of single links, chosen at random with a fixed seed; the figures are medians and the worst of them.
#![deny(unsafe_code)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use vnet_base::tables::plan::{
    Attached, ClassId, ClassKind, ClassSpec, Compiled, Description, Hash4, Plan, PortChange, PortId, PortSpec,
    RouterId, RouterSpec, compile,
};
use vnet_base::tables::sync::AtomicU32;
use vnet_base::tables::{NetworkId, SlotId};

/// A linear congruential generator: the same graphs and changes every time.
struct Random(u64);

impl Random {
    fn below(&mut self, count: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(count)) >> 32) as u32
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    println!("{:26} {:>9} {:>17} {:>17} {:>17} {:>9} {:>8}", "", "compile", "cut", "mend", "weigh", "add link", "next");
    match arguments.as_slice() {
        [] => {
            measure("50 routers, 90 links", &tangle(50, 90, 1));
            measure("1000, 3000, equal weights", &tangle(1000, 3000, 1));
            measure("1000, 3000, weights 1-100", &tangle(1000, 3000, 100));
            measure("1024, 2048, a torus", &torus(32));
            measure("4096, 8192, a torus", &torus(64));
        }
        [routers, links] => match (routers.parse(), links.parse()) {
            (Ok(routers @ 2..=4096), Ok(links)) => measure("", &tangle(routers, links, 1)),
            _ => return usage(),
        },
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("plan_times: expected nothing, or a number of routers (2 to 4096) and a number of links");
    ExitCode::from(2)
}

fn port(router: u16, attached: Attached, weight: u32) -> PortSpec {
    let (slot, mtu, v4, v6) = (SlotId(0), 1500, 0, 0);
    PortSpec { router: RouterId(router), attached, slot, mtu, weight, v4, v6, up: true, present: true }
}

fn routers(count: u16) -> Description {
    let class = |kind| ClassSpec { kind, parent: ClassId(0), statics: Vec::new() };
    let mut description = Description {
        routers: vec![RouterSpec { guest: false, present: true }; usize::from(count)],
        ports: Vec::new(),
        classes: vec![class(ClassKind::Static)],
        hash: Hash4::Addresses,
    };
    for router in 0..count {
        let network = NetworkId(router + 1);
        description.ports.push(port(router, Attached::Network(network), 1));
        description.classes.push(class(ClassKind::Network(network)));
        description.classes.push(class(ClassKind::Loopback(RouterId(router))));
    }
    description
}

fn link(description: &mut Description, a: u16, b: u16, weight: u32) {
    let near = PortId(description.ports.len() as u32);
    let far = PortId(near.0 + 1);
    description.ports.push(port(a, Attached::Link { peer: far }, weight));
    description.ports.push(port(b, Attached::Link { peer: near }, weight));
    description.classes.push(ClassSpec { kind: ClassKind::Link(near), parent: ClassId(0), statics: Vec::new() });
}

/// A random tree, and links between random routers besides.
fn tangle(count: u16, links: u32, heaviest: u32) -> Description {
    let mut random = Random(7);
    let mut description = routers(count);
    for router in 1..count {
        let other = random.below(u32::from(router)) as u16;
        link(&mut description, router, other, 1 + random.below(heaviest));
    }
    for _ in u32::from(count)..=links {
        let a = random.below(u32::from(count)) as u16;
        let b = (u32::from(a) + 1 + random.below(u32::from(count) - 1)) % u32::from(count);
        link(&mut description, a, b as u16, 1 + random.below(heaviest));
    }
    description
}

fn torus(side: u16) -> Description {
    let mut description = routers(side * side);
    for router in 0..side * side {
        let (row, column) = (router / side, router % side);
        link(&mut description, router, row * side + (column + 1) % side, 1);
        link(&mut description, router, (row + 1) % side * side + column, 1);
    }
    description
}

fn measure(name: &str, description: &Description) {
    let begin = Instant::now();
    let mut compiled = compile(description, None);
    let whole = begin.elapsed();
    let first = description.routers.len() as u32;
    let links = (description.ports.len() as u32 - first) / 2;
    let mut random = Random(11);
    let (mut cut, mut mend, mut weigh) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..100 {
        let port = PortId(first + 2 * random.below(links));
        let weight = description.ports[port.0 as usize].weight;
        let mut change = |up, weight, times: &mut Vec<Duration>| {
            let begin = Instant::now();
            compiled.set_ports(&[PortChange { port, up, weight }]).expect("a port of the plan");
            times.push(begin.elapsed());
        };
        change(false, weight, &mut cut);
        change(true, weight, &mut mend);
        change(true, weight + 3, &mut weigh);
        change(true, weight, &mut weigh);
    }
    let mut grown = compiled.description().clone();
    let ends = (random.below(first) as u16, random.below(first) as u16);
    link(&mut grown, ends.0, ends.1, 1);
    let begin = Instant::now();
    black_box(compile(&grown, Some(&compiled)));
    let added = begin.elapsed();
    println!(
        "{name:26} {:>9} {} {} {} {:>9} {:>5} ns",
        text(whole),
        spread(cut),
        spread(mend),
        spread(weigh),
        text(added),
        ask(&compiled).as_nanos()
    );
}

/// The time of one router's decision.
fn ask(compiled: &Compiled) -> Duration {
    const TURNS: u32 = 200_000;
    let words: Vec<_> = compiled.words().iter().map(|word| AtomicU32::new(*word)).collect();
    let plan = Plan::new(&words);
    let (count, classes) = (plan.routers() as u32, plan.classes() as u32);
    let mut random = Random(13);
    let begin = Instant::now();
    for _ in 0..TURNS {
        let (router, class) = (RouterId(random.below(count) as u16), ClassId(1 + random.below(classes - 1) as u16));
        black_box(plan.next(router, class, random.below(u32::MAX)));
    }
    begin.elapsed() / TURNS
}

fn text(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Median and worst.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    format!(
        "{:>6.2} ({:>5.2}) ms",
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[times.len() - 1].as_secs_f64() * 1e3
    )
}
