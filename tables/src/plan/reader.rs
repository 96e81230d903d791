//! What senders ask of a compiled plan.

use super::choices::{Choices, Next};
use super::description::{Attached, ClassId, MAX_CHAIN, MAX_PORTS, PortId, RouterId};
use super::layout::{self, head};
use crate::network::{Address, NetworkId};
use crate::nic::SlotId;
use crate::sync::{AtomicU32, Ordering};

/// A router as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// A guest that forwards: a composed path ends at its NIC.
    pub guest: bool,
}

/// A port as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Whose port it is.
    pub router: RouterId,
    /// Where it is plugged in.
    pub attached: Attached,
    /// Its NIC slot on the network; on a link, that of the NIC which stands for the router in captures.
    pub slot: SlotId,
    /// Largest IP datagram, in bytes.
    pub mtu: u32,
    /// Cost of sending out of it.
    pub weight: u32,
    /// Its IPv4 address, 0 for none.
    pub v4: u32,
    /// Its IPv6 address, 0 for none.
    pub v6: u128,
    /// Whether datagrams can leave by it: port, router and, on a link, the other end are in use and up.
    pub up: bool,
}

impl Port {
    /// Whether it is a NIC on a network, and not the end of a link.
    #[must_use]
    pub fn is_on_network(&self) -> bool {
        matches!(self.attached, Attached::Network(_))
    }
}

/// A compiled plan, wherever its words lie.
///
/// The words may be damaged, or replaced while they are read: every position is bounded and every walk ends, and what
/// comes out is then any answer. Whoever replaces them tells readers by a version number of its own.
#[derive(Clone, Copy)]
pub struct Plan<'m> {
    words: &'m [AtomicU32],
    flags: u32,
    routers: u32,
    ports: u32,
    classes: u32,
    networks: u32,
    attached: u32,
    statics: u32,
    routers_at: usize,
    ports_at: usize,
    classes_at: usize,
    networks_at: usize,
    attached_at: usize,
    statics_at: usize,
    matrix_at: usize,
    sets_at: usize,
}

/// A class's row.
struct Class {
    kind: u32,
    parent: ClassId,
    what: u32,
    statics_from: u32,
    statics: u32,
    via: Address,
}

impl<'m> Plan<'m> {
    /// The plan among these words, which start with it and may go on behind it; words that hold none make an empty one.
    #[must_use]
    pub fn new(words: &'m [AtomicU32]) -> Self {
        let at = |position: usize| words.get(position).map_or(0, |word| word.load(Ordering::Relaxed));
        let total = at(head::WORDS) as usize;
        let sound = at(head::MAGIC) == layout::MAGIC && at(head::FORMAT) == layout::FORMAT && total <= words.len();
        let words = if sound { &words[..total] } else { &[] };
        let count = |position| if sound { at(position) } else { 0 };
        Self {
            words,
            flags: count(head::FLAGS),
            routers: count(head::ROUTERS),
            ports: count(head::PORTS),
            classes: count(head::CLASSES),
            networks: count(head::NETWORKS),
            // Bounds of loops, so held to what a plan can have.
            attached: count(head::ATTACHED).min(MAX_PORTS as u32),
            statics: count(head::STATICS).min(total as u32),
            routers_at: at(head::ROUTERS_AT) as usize,
            ports_at: at(head::PORTS_AT) as usize,
            classes_at: at(head::CLASSES_AT) as usize,
            networks_at: at(head::NETWORKS_AT) as usize,
            attached_at: at(head::ATTACHED_AT) as usize,
            statics_at: at(head::STATICS_AT) as usize,
            matrix_at: at(head::MATRIX_AT) as usize,
            sets_at: at(head::SETS_AT) as usize,
        }
    }

    /// Numbers of routers, those not in use included.
    #[must_use]
    pub fn routers(&self) -> usize {
        self.routers as usize
    }

    /// Numbers of ports, those not in use included.
    #[must_use]
    pub fn ports(&self) -> usize {
        self.ports as usize
    }

    /// Numbers of classes, 0 included.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes as usize
    }

    /// Whether the flow hash is to be taken over ports too.
    #[must_use]
    pub fn uses_ports(&self) -> bool {
        self.flags & layout::HASH_PORTS != 0
    }

    /// A router, if the number is in use.
    #[must_use]
    pub fn router(&self, router: RouterId) -> Option<Router> {
        if u32::from(router.0) >= self.routers {
            return None;
        }
        let flags = self.word(self.routers_at + usize::from(router.0) * layout::ROUTER);
        let guest = flags & layout::ROUTER_GUEST != 0;
        (flags & layout::ROUTER_PRESENT != 0).then_some(Router { guest })
    }

    /// A port, if the number is in use.
    #[must_use]
    pub fn port(&self, port: PortId) -> Option<Port> {
        if port.0 >= self.ports {
            return None;
        }
        let row = self.row::<{ layout::PORT }>(self.ports_at, port.0);
        let [router, flags, other, slot, mtu, weight, v4, v6 @ ..] = row;
        if flags & layout::PORT_PRESENT == 0 {
            return None;
        }
        let attached = if flags & layout::PORT_LINK != 0 {
            Attached::Link { peer: PortId(other) }
        } else {
            Attached::Network(NetworkId(other as u16))
        };
        let (router, slot, up) = (RouterId(router as u16), SlotId(slot as u16), flags & layout::PORT_CARRIES != 0);
        Some(Port { router, attached, slot, mtu, weight, v4, v6: layout::narrow(v6), up })
    }

    /// What `router` does with a datagram for an address of `class`, not its own; `hash` is the flow's.
    ///
    /// The longest prefix at which the router knows anything decides. At one prefix, a port there beats a static route,
    /// and a static route beats the shortest path.
    #[must_use]
    pub fn next(&self, router: RouterId, class: ClassId, hash: u32) -> Next {
        self.choices(router, class).choose(hash)
    }

    /// All that [`next`](Self::next) chooses from; none where there is no route.
    #[must_use]
    pub fn choices(&self, router: RouterId, class: ClassId) -> Choices {
        let mut class = class;
        if self.router(router).is_none() {
            return Choices::none();
        }
        for _ in 0..MAX_CHAIN {
            let Some(row) = self.class(class) else { break };
            // 1. A port of its own there.
            if let Some(port) = self.connected(router, &row) {
                return Choices::one(Next::OnLink { port });
            }
            // 2. Static routes, those out of ports that are down left out.
            let choices = self.fixed(router, &row);
            if !choices.as_slice().is_empty() {
                return choices;
            }
            // 3. The shortest path to the nearest router that is there.
            let choices = self.shortest(router, &row);
            if !choices.as_slice().is_empty() {
                return choices;
            }
            // 4. What it knows of the next shorter prefix.
            class = row.parent;
        }
        Choices::none()
    }

    /// The network whose prefixes a class is, if it is one's.
    #[must_use]
    pub fn network(&self, class: ClassId) -> Option<NetworkId> {
        let row = self.class(class)?;
        (row.kind == layout::KIND_NETWORK).then_some(NetworkId(row.what as u16))
    }

    /// The router that has the address itself, if an address of this class is a router's: on a link or a loopback.
    ///
    /// An address on a port that is down is still its router's, as Linux keeps it.
    #[must_use]
    pub fn local(&self, class: ClassId, address: Address) -> Option<RouterId> {
        let row = self.class(class)?;
        match row.kind {
            layout::KIND_LOOPBACK => {
                let router = RouterId(row.what as u16);
                self.router(router).map(|_| router)
            }
            layout::KIND_LINK => {
                let near = self.port(PortId(row.what))?;
                let far = if let Attached::Link { peer } = near.attached { self.port(peer) } else { None };
                [Some(near), far].into_iter().flatten().find(|port| has(port, address)).map(|port| port.router)
            }
            _ => None,
        }
    }

    /// The cost of the shortest path from one router to another, if there is one.
    #[must_use]
    pub fn distance(&self, from: RouterId, to: RouterId) -> Option<u32> {
        self.router(from)?;
        self.router(to)?;
        let (distance, _) = self.cell(from, to);
        (distance != layout::FAR).then_some(distance)
    }

    fn connected(&self, router: RouterId, class: &Class) -> Option<PortId> {
        match class.kind {
            layout::KIND_NETWORK => self.attachments(class).find(|&(_, port)| port.router == router),
            layout::KIND_LINK => self.attachments(class).find(|&(_, port)| port.router == router),
            _ => None,
        }
        .map(|(number, _)| number)
    }

    fn fixed(&self, router: RouterId, class: &Class) -> Choices {
        let mut choices = Choices::none();
        let end = class.statics_from.saturating_add(class.statics).min(self.statics);
        let row = |at: u32| self.row::<{ layout::STATIC }>(self.statics_at, at);
        // The first of this router's: they lie in the order of routers.
        let (mut from, mut to) = (class.statics_from.min(end), end);
        while from < to {
            let middle = from + (to - from) / 2;
            if row(middle)[0] < u32::from(router.0) { from = middle + 1 } else { to = middle }
        }
        for at in (from..end).take(layout::MOST_EQUAL) {
            let [whose, step, port, address @ ..] = row(at);
            if whose != u32::from(router.0) {
                break;
            }
            let address = match step {
                layout::STEP_VIA4 => Address::V4(address[3]),
                layout::STEP_VIA6 => Address::from(core::net::IpAddr::V6(layout::narrow(address).into())),
                // A refusal is no hop to share flows with: it holds where no hop comes before it.
                _ if !choices.as_slice().is_empty() => continue,
                layout::STEP_UNREACHABLE => return Choices::one(Next::Unreachable),
                layout::STEP_PROHIBITED => return Choices::one(Next::Prohibited),
                layout::STEP_BLACKHOLE => return Choices::one(Next::Blackhole),
                _ => continue,
            };
            let number = PortId(port);
            match self.port(number) {
                Some(Port { router: owner, up: true, attached, .. }) if owner == router => {
                    choices.add(match attached {
                        Attached::Link { peer } => Next::Router { out: number, into: peer },
                        Attached::Network(_) => Next::Via { port: number, address },
                    })
                }
                _ => {}
            }
        }
        choices
    }

    fn shortest(&self, router: RouterId, class: &Class) -> Choices {
        let mut choices = Choices::none();
        let mut nearest = u64::from(layout::FAR);
        if class.kind == layout::KIND_LOOPBACK {
            self.gather(router, RouterId(class.what as u16), &mut choices);
            return choices;
        }
        for (number, port) in self.attachments(class) {
            if port.router == router {
                // Only an external class comes here: who is on the next hop's network needs no other router.
                return Choices::one(Next::Via { port: number, address: class.via });
            }
            let (distance, _) = self.cell(router, port.router);
            // The last router's own port counts too (RFC 2328 section 16.1): of two that are as far, the one with the
            // cheaper port there is nearer.
            let total = u64::from(distance) + u64::from(port.weight);
            if distance == layout::FAR || total > nearest {
                continue;
            }
            if total < nearest {
                nearest = total;
                choices = Choices::none();
            }
            self.gather(router, port.router, &mut choices);
        }
        choices
    }

    /// Adds the next hops from one router to another.
    fn gather(&self, from: RouterId, to: RouterId, choices: &mut Choices) {
        let (distance, next) = self.cell(from, to);
        if distance == layout::FAR || next == layout::NO_NEXT {
            return;
        }
        if next & layout::NEXT_IS_SET == 0 {
            let out = PortId(next - 1);
            if let Some(Port { attached: Attached::Link { peer }, .. }) = self.port(out) {
                choices.add(Next::Router { out, into: peer });
            }
            return;
        }
        let at = self.sets_at + (next & !layout::NEXT_IS_SET) as usize;
        for member in 0..(self.word(at) as usize).min(layout::MOST_EQUAL) {
            let (out, into) = (PortId(self.word(at + 1 + 2 * member)), PortId(self.word(at + 2 + 2 * member)));
            if out.0 < self.ports && into.0 < self.ports {
                choices.add(Next::Router { out, into });
            }
        }
    }

    /// The ports that carry and lie at a class's prefix, in their order.
    fn attachments(&self, class: &Class) -> impl Iterator<Item = (PortId, Port)> {
        let (plan, what) = (*self, class.what);
        let on_network = matches!(class.kind, layout::KIND_NETWORK | layout::KIND_EXTERNAL4 | layout::KIND_EXTERNAL6);
        let [from, count] = if on_network && what < plan.networks {
            plan.row::<{ layout::NETWORK }>(plan.networks_at, what)
        } else {
            [0, 0]
        };
        let end = from.saturating_add(count).min(plan.attached);
        let near = (class.kind == layout::KIND_LINK).then_some(PortId(what));
        let far = near.and_then(|near| match plan.port(near)?.attached {
            Attached::Link { peer } => Some(peer),
            Attached::Network(_) => None,
        });
        // Both ends of a link in the order of their numbers, whichever of them the class names.
        let ends = if far < near { [far, near] } else { [near, far] };
        let listed = (from..end).map(move |at| PortId(plan.word(plan.attached_at + at as usize)));
        let all = listed.chain(ends.into_iter().flatten());
        all.filter_map(move |number| plan.port(number).filter(|port| port.up).map(|port| (number, port)))
    }

    fn cell(&self, from: RouterId, to: RouterId) -> (u32, u32) {
        let (from, to, routers) = (usize::from(from.0), usize::from(to.0), self.routers as usize);
        if from >= routers || to >= routers {
            return (layout::FAR, layout::NO_NEXT);
        }
        let at = self.matrix_at + (to * routers + from) * layout::CELL;
        (self.word(at), self.word(at + 1))
    }

    fn class(&self, class: ClassId) -> Option<Class> {
        if class.0 == 0 || u32::from(class.0) >= self.classes {
            return None;
        }
        let [first, what, statics_from, statics, via @ ..] =
            self.row::<{ layout::CLASS }>(self.classes_at, u32::from(class.0));
        let (kind, parent) = (first & 0xff, ClassId((first >> 16) as u16));
        let via = match kind {
            layout::KIND_EXTERNAL6 => Address::from(core::net::IpAddr::V6(layout::narrow(via).into())),
            _ => Address::V4(via[3]),
        };
        (kind != 0).then_some(Class { kind, parent, what, statics_from, statics, via })
    }

    fn row<const N: usize>(&self, section: usize, number: u32) -> [u32; N] {
        let from = section + number as usize * N;
        core::array::from_fn(|word| self.word(from + word))
    }

    /// A word, 0 where there is none.
    ///
    /// Relaxed: the words are no messages. A reader that met a plan half replaced sees by the version, which whoever
    /// placed the plan publishes, that its answers do not count.
    fn word(&self, at: usize) -> u32 {
        self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

fn has(port: &Port, address: Address) -> bool {
    match address {
        Address::V4(number) => number != 0 && port.v4 == number,
        Address::V6(high, low) => port.v6 != 0 && port.v6 == u128::from(high) << 64 | u128::from(low),
    }
}
