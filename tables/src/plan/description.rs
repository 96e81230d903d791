//! What the writer says: routers, their ports, and the classes of destinations. Plain values; nothing is compiled yet.

use thiserror::Error;

use crate::network::{Address, NetworkId};
use crate::nic::SlotId;

/// Most routers of a plan.
pub const MAX_ROUTERS: usize = 4096;

/// Most ports of a plan, all routers together.
pub const MAX_PORTS: usize = 65_536;

/// Most classes of a plan, class 0, which is no class, included: a route table entry has 16 bits for one.
pub const MAX_CLASSES: usize = 65_536;

/// Largest weight of a port. A shortest path crosses at most `MAX_ROUTERS - 1` ports, so every distance fits in 32 bits.
pub const MAX_WEIGHT: u32 = (1 << 20) - 1;

/// Classes that a look-up walks at most: a prefix of each length of IPv6, from /128 to /0.
pub const MAX_CHAIN: usize = 129;

/// A router's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(pub u16);

/// A port's number, from 0: a router's interface on a network or on a link to another router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

/// A class's number, from 1: prefixes that every router treats alike. 0 is no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u16);

/// Which fields of a flow the hash is taken over that chooses among paths of equal cost.
///
/// Linux knows the two as `fib_multipath_hash_policy` 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hash4 {
    /// The two addresses: all that goes between two hosts takes one path.
    #[default]
    Addresses,
    /// Addresses, protocol and ports: each connection takes a path of its own.
    Ports,
}

/// A router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterSpec {
    /// A guest that forwards: a composed path ends at its NIC, and its own stack does the rest.
    pub guest: bool,
    /// Whether the number is in use; numbers of routers that went stay, so that those of others stay too.
    pub present: bool,
}

/// Where a port is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// On a network.
    Network(NetworkId),
    /// On a link to one other port.
    Link {
        /// The port at the other end.
        peer: PortId,
    },
}

/// A port of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Whose port it is.
    pub router: RouterId,
    /// Where it is plugged in.
    pub attached: Attached,
    /// Its NIC slot on the network; 0 on links.
    pub slot: SlotId,
    /// Largest IP datagram, in bytes, the IP header included.
    pub mtu: u32,
    /// Cost of sending out of it, 1 to [`MAX_WEIGHT`]; receiving costs nothing (RFC 2328 section 2.1.2).
    pub weight: u32,
    /// Its IPv4 address, 0 for none.
    pub v4: u32,
    /// Its IPv6 address, 0 for none.
    pub v6: u128,
    /// Whether it carries: a link that is cut is down at both ends.
    pub up: bool,
    /// Whether the number is in use.
    pub present: bool,
}

/// What a class's prefixes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassKind {
    /// A network's prefixes: attached are the routers with a port there.
    Network(NetworkId),
    /// A link's own prefixes, by the number of either end: attached are both routers.
    Link(PortId),
    /// A router's own addresses on no link.
    Loopback(RouterId),
    /// Somewhere behind a guest: the routers attached to `network` send it to the NIC that has `via`.
    External {
        /// The network that `via` is on.
        network: NetworkId,
        /// The next hop.
        via: Address,
    },
    /// Known to the routers with a static route alone.
    Static,
}

/// What a static route says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Out of the port: to the NIC that has the address on the port's network, or over the link whatever the address.
    Via {
        /// A port of the router that has the route.
        port: PortId,
        /// The next hop.
        address: Address,
    },
    /// Host unreachable.
    Unreachable,
    /// Communication administratively prohibited.
    Prohibited,
    /// Dropped without a word.
    Blackhole,
}

/// Prefixes that every router treats alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSpec {
    /// What they are.
    pub kind: ClassKind,
    /// The class of the next shorter prefix, used at routers where this class says nothing; class 0 for none.
    pub parent: ClassId,
    /// Static routes. A router that is named several times shares its flows among the `Via` steps.
    pub statics: Vec<(RouterId, Step)>,
}

/// All that the routers of a LAN are and know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// By [`RouterId`].
    pub routers: Vec<RouterSpec>,
    /// By [`PortId`].
    pub ports: Vec<PortSpec>,
    /// By [`ClassId`]; what stands at 0 is not looked at.
    pub classes: Vec<ClassSpec>,
    /// What the flow hash is taken over.
    pub hash: Hash4,
}

/// What is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DescriptionError {
    /// More of something than the plan has numbers for.
    #[error("{count} {what} are more than a plan can have: at most {most}")]
    TooMany {
        /// Routers, ports or classes.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A number that stands for nothing.
    #[error("{who} names {what} {number}, but there are {count}")]
    Unknown {
        /// Who says it.
        who: String,
        /// Router, port or class.
        what: &'static str,
        /// The number.
        number: u32,
        /// How many there are.
        count: usize,
    },
    /// The ends of a link do not name each other.
    #[error("port {port} is linked to port {peer}, which is not linked to it")]
    OneSided {
        /// One end.
        port: u32,
        /// The end that it names.
        peer: u32,
    },
    /// A weight out of range.
    #[error("port {port} has weight {weight}; a weight is 1 to {MAX_WEIGHT}")]
    Weight {
        /// The port.
        port: u32,
        /// Its weight.
        weight: u32,
    },
    /// Network 0, which is none.
    #[error("{who} names network 0, which is none")]
    NoNetwork {
        /// Who says it.
        who: String,
    },
    /// A static route out of another router's port.
    #[error("class {class}: router {router} has a static route out of port {port}, which is router {owner}'s")]
    Foreign {
        /// The class.
        class: usize,
        /// Whose route it is.
        router: u16,
        /// The port.
        port: u32,
        /// Whose port it is.
        owner: u16,
    },
    /// Parents that lead back, or too far.
    #[error("the parents of class {class} do not end within {MAX_CHAIN} classes")]
    Endless {
        /// The class.
        class: usize,
    },
}

impl Description {
    /// Whether all numbers stand for something and all limits are kept.
    ///
    /// [`compile`](super::compile) itself takes any description: what stands for nothing leads nowhere. This is for
    /// whoever wants to say so to the one who wrote it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), DescriptionError> {
        let counts = [
            ("routers", self.routers.len(), MAX_ROUTERS),
            ("ports", self.ports.len(), MAX_PORTS),
            ("classes", self.classes.len(), MAX_CLASSES),
        ];
        for (what, count, most) in counts {
            if count > most {
                return Err(DescriptionError::TooMany { what, count, most });
            }
        }
        self.check_ports()?;
        self.check_classes()
    }

    fn check_ports(&self) -> Result<(), DescriptionError> {
        for (port, spec) in self.ports.iter().enumerate().filter(|(_, spec)| spec.present) {
            let who = || format!("port {port}");
            self.known_router(spec.router, &who)?;
            match spec.attached {
                Attached::Network(NetworkId(0)) => return Err(DescriptionError::NoNetwork { who: who() }),
                Attached::Network(_) => {}
                Attached::Link { peer } => {
                    let other = self.known_port(peer, &who)?;
                    let back = Attached::Link { peer: PortId(port as u32) };
                    if other.attached != back || !other.present || peer.0 as usize == port {
                        return Err(DescriptionError::OneSided { port: port as u32, peer: peer.0 });
                    }
                }
            }
            if !(1..=MAX_WEIGHT).contains(&spec.weight) {
                return Err(DescriptionError::Weight { port: port as u32, weight: spec.weight });
            }
        }
        Ok(())
    }

    fn check_classes(&self) -> Result<(), DescriptionError> {
        for (class, spec) in self.classes.iter().enumerate().skip(1) {
            let who = || format!("class {class}");
            match spec.kind {
                ClassKind::Network(NetworkId(0)) | ClassKind::External { network: NetworkId(0), .. } => {
                    return Err(DescriptionError::NoNetwork { who: who() });
                }
                ClassKind::Link(port) => {
                    self.known_port(port, &who)?;
                }
                ClassKind::Loopback(router) => self.known_router(router, &who)?,
                ClassKind::Network(_) | ClassKind::External { .. } | ClassKind::Static => {}
            }
            for &(router, step) in &spec.statics {
                self.known_router(router, &who)?;
                if let Step::Via { port, .. } = step {
                    let owner = self.known_port(port, &who)?.router;
                    if owner != router {
                        let (router, port, owner) = (router.0, port.0, owner.0);
                        return Err(DescriptionError::Foreign { class, router, port, owner });
                    }
                }
            }
            self.check_parents(class)?;
        }
        Ok(())
    }

    fn check_parents(&self, class: usize) -> Result<(), DescriptionError> {
        let mut at = class;
        for _ in 0..MAX_CHAIN {
            let parent = usize::from(self.classes[at].parent.0);
            if parent == 0 {
                return Ok(());
            }
            if parent >= self.classes.len() {
                let (who, count) = (format!("class {at}"), self.classes.len());
                return Err(DescriptionError::Unknown { who, what: "class", number: parent as u32, count });
            }
            at = parent;
        }
        Err(DescriptionError::Endless { class })
    }

    fn known_router(&self, router: RouterId, who: &dyn Fn() -> String) -> Result<(), DescriptionError> {
        let count = self.routers.len();
        if usize::from(router.0) < count {
            return Ok(());
        }
        Err(DescriptionError::Unknown { who: who(), what: "router", number: u32::from(router.0), count })
    }

    fn known_port(&self, port: PortId, who: &dyn Fn() -> String) -> Result<&PortSpec, DescriptionError> {
        let count = self.ports.len();
        let unknown = || DescriptionError::Unknown { who: who(), what: "port", number: port.0, count };
        self.ports.get(port.0 as usize).ok_or_else(unknown)
    }
}
