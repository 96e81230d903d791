//! A description as words: all sections but the matrix and the sets, which hold what was computed.

use super::description::{Attached, ClassKind, Description, Hash4, MAX_CLASSES, MAX_PORTS, MAX_ROUTERS, Step};
use super::graph::{is_present, wire};
use super::layout::{self, head, wide};
use crate::network::Address;

/// How many rows each section has and where it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sections {
    pub(super) routers: usize,
    pub(super) ports: usize,
    pub(super) classes: usize,
    pub(super) networks: usize,
    pub(super) attached: usize,
    pub(super) statics: usize,
    pub(super) routers_at: usize,
    pub(super) ports_at: usize,
    pub(super) classes_at: usize,
    pub(super) networks_at: usize,
    pub(super) attached_at: usize,
    pub(super) statics_at: usize,
    pub(super) matrix_at: usize,
    pub(super) sets_at: usize,
}

impl Sections {
    pub(super) fn new(description: &Description) -> Self {
        let routers = description.routers.len().min(MAX_ROUTERS);
        let ports = description.ports.len().min(MAX_PORTS);
        let classes = description.classes.len().clamp(1, MAX_CLASSES);
        let on_network = description.ports[..ports].iter().filter_map(network);
        let (attached, highest) = on_network.fold((0, 0), |(count, high), network| (count + 1, network.max(high)));
        let networks = highest + 1;
        let statics = description.classes.iter().take(classes).map(|class| class.statics.len()).sum();
        let routers_at = layout::HEADER;
        let ports_at = routers_at + routers * layout::ROUTER;
        let classes_at = ports_at + ports * layout::PORT;
        let networks_at = classes_at + classes * layout::CLASS;
        let attached_at = networks_at + networks * layout::NETWORK;
        let statics_at = attached_at + attached;
        let matrix_at = statics_at + statics * layout::STATIC;
        let sets_at = matrix_at + routers * routers * layout::CELL;
        Self {
            routers,
            ports,
            classes,
            networks,
            attached,
            statics,
            routers_at,
            ports_at,
            classes_at,
            networks_at,
            attached_at,
            statics_at,
            matrix_at,
            sets_at,
        }
    }

    /// Where the cell lies that says how `from` reaches `to`.
    pub(super) fn cell(&self, from: usize, to: usize) -> usize {
        self.matrix_at + (to * self.routers + from) * layout::CELL
    }
}

fn network(spec: &super::description::PortSpec) -> Option<usize> {
    match spec.attached {
        Attached::Network(network) => Some(usize::from(network.0)),
        Attached::Link { .. } => None,
    }
}

/// All words up to the sets; those of the matrix are zero.
pub(super) fn write(description: &Description, sections: &Sections) -> Vec<u32> {
    let mut words = vec![0; sections.sets_at];
    write_header(description, sections, &mut words);
    for (router, spec) in description.routers.iter().enumerate().take(sections.routers) {
        let guest = if spec.guest { layout::ROUTER_GUEST } else { 0 };
        words[sections.routers_at + router] = if spec.present { layout::ROUTER_PRESENT | guest } else { 0 };
    }
    write_ports(description, sections, &mut words);
    write_classes(description, sections, &mut words);
    words
}

fn write_header(description: &Description, sections: &Sections, words: &mut [u32]) {
    let pairs = [
        (head::MAGIC, layout::MAGIC as usize),
        (head::FORMAT, layout::FORMAT as usize),
        (head::FLAGS, if description.hash == Hash4::Ports { layout::HASH_PORTS as usize } else { 0 }),
        (head::ROUTERS, sections.routers),
        (head::PORTS, sections.ports),
        (head::CLASSES, sections.classes),
        (head::NETWORKS, sections.networks),
        (head::ATTACHED, sections.attached),
        (head::STATICS, sections.statics),
        (head::ROUTERS_AT, sections.routers_at),
        (head::PORTS_AT, sections.ports_at),
        (head::CLASSES_AT, sections.classes_at),
        (head::NETWORKS_AT, sections.networks_at),
        (head::ATTACHED_AT, sections.attached_at),
        (head::STATICS_AT, sections.statics_at),
        (head::MATRIX_AT, sections.matrix_at),
        (head::SETS_AT, sections.sets_at),
    ];
    for (position, value) in pairs {
        words[position] = value as u32;
    }
}

/// Ports, networks and who is attached to them: all but the matrix that depends on what is up and what it costs.
pub(super) fn write_ports(description: &Description, sections: &Sections, words: &mut [u32]) {
    let ports = &description.ports[..sections.ports];
    // Networks' lists start one behind the other, whether what they name carries or not.
    let mut at = vec![0; sections.networks + 1];
    for number in ports.iter().filter_map(network) {
        at[number + 1] += 1;
    }
    for number in 0..sections.networks {
        at[number + 1] += at[number];
        words[sections.networks_at + number * layout::NETWORK] = at[number];
        words[sections.networks_at + number * layout::NETWORK + 1] = 0;
    }
    for (port, spec) in ports.iter().enumerate() {
        let carries = wire(description, port).is_some();
        let (other, link) = match spec.attached {
            Attached::Network(network) => (u32::from(network.0), 0),
            Attached::Link { peer } => (peer.0, layout::PORT_LINK),
        };
        let present = spec.present && is_present(description, usize::from(spec.router.0));
        let flags =
            link | if present { layout::PORT_PRESENT } else { 0 } | if carries { layout::PORT_CARRIES } else { 0 };
        let from = sections.ports_at + port * layout::PORT;
        let row = [u32::from(spec.router.0), flags, other, u32::from(spec.slot.0), spec.mtu, spec.weight, spec.v4];
        words[from..from + 7].copy_from_slice(&row);
        words[from + 7..from + 11].copy_from_slice(&wide(spec.v6));
        if let (Some(number), true) = (network(spec), carries) {
            words[sections.attached_at + at[number] as usize] = port as u32;
            at[number] += 1;
            words[sections.networks_at + number * layout::NETWORK + 1] += 1;
        }
    }
}

fn write_classes(description: &Description, sections: &Sections, words: &mut [u32]) {
    let mut next_static = 0;
    for (class, spec) in description.classes.iter().enumerate().take(sections.classes).skip(1) {
        let (kind, what, via) = match spec.kind {
            ClassKind::Network(network) => (layout::KIND_NETWORK, u32::from(network.0), [0; 4]),
            ClassKind::Link(port) => (layout::KIND_LINK, port.0, [0; 4]),
            ClassKind::Loopback(router) => (layout::KIND_LOOPBACK, u32::from(router.0), [0; 4]),
            ClassKind::External { network, via: Address::V4(number) } => {
                (layout::KIND_EXTERNAL4, u32::from(network.0), [0, 0, 0, number])
            }
            ClassKind::External { network, via: Address::V6(high, low) } => {
                (layout::KIND_EXTERNAL6, u32::from(network.0), wide(u128::from(high) << 64 | u128::from(low)))
            }
            ClassKind::Static => (layout::KIND_STATIC, 0, [0; 4]),
        };
        let at = sections.classes_at + class * layout::CLASS;
        let row = [kind | u32::from(spec.parent.0) << 16, what, next_static as u32, spec.statics.len() as u32];
        words[at..at + 4].copy_from_slice(&row);
        words[at + 4..at + 8].copy_from_slice(&via);
        let mut statics = spec.statics.clone();
        // Stable: several of one router stay in the order that they were given in.
        statics.sort_by_key(|(router, _)| *router);
        for (router, step) in statics {
            let (step, port, address) = match step {
                Step::Via { port, address: Address::V4(number) } => (layout::STEP_VIA4, port.0, [0, 0, 0, number]),
                Step::Via { port, address: Address::V6(high, low) } => {
                    (layout::STEP_VIA6, port.0, wide(u128::from(high) << 64 | u128::from(low)))
                }
                Step::Unreachable => (layout::STEP_UNREACHABLE, 0, [0; 4]),
                Step::Prohibited => (layout::STEP_PROHIBITED, 0, [0; 4]),
                Step::Blackhole => (layout::STEP_BLACKHOLE, 0, [0; 4]),
            };
            let at = sections.statics_at + next_static * layout::STATIC;
            words[at..at + 3].copy_from_slice(&[u32::from(router.0), step, port]);
            words[at + 3..at + 7].copy_from_slice(&address);
            next_static += 1;
        }
    }
}

const _: () = {
    assert!(layout::PORT == 11);
    assert!(layout::CLASS == 8);
    assert!(layout::STATIC == 7);
};
