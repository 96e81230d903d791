//! The plan: what each router does with a datagram, compiled so that senders read it out of shared memory.
//!
//! # Theory of operation
//!
//! ```text
//!   description   routers, ports, classes of destinations: plain values, checked
//!   graph         routers and networks as nodes, what carries as arcs
//!   tree          shortest paths to one router, next hops of equal cost, repairs after changes
//!   words, sets   the description and the next hops as words
//!   compile       description → words; from one description to the next with the work of the difference
//!   reader        words → what one router may do with a datagram
//!   choices       which of it a flow takes
//! ```
//!
//! The route table says which *class* a destination belongs to: a set of prefixes that every router treats alike. The
//! plan says what comes next for (router, class). It holds no path: whoever composes one asks hop by hop, once for each
//! flow, and keeps what came out. So the plan grows with routers² and with classes, not with their product, and a link
//! that is cut changes cells of the matrix and nothing else.
//!
//! **One router's decision** ([`Plan::choices`]). At the class of the longest prefix, and then at that of each shorter
//! one: a port of its own there; its static routes; the next hops to the nearest router that has a port there, which is
//! the one with the least sum of the distance and the weight of that last port (RFC 2328 section 16.1). Ties are equal
//! cost. Where the flow's hash chooses, a flow stays on its way while that way stands ([`Choices::choose`]).
//!
//! **What carries.** A port carries when it, its router and, on a link, the other end are in use and up. Ports that do
//! not carry are no next hops, and their prefixes are not attached there.
//!
//! **No way in a circle.** Distances strictly fall along next hops, because every port weighs at least 1. Static routes
//! can make loops, as on real routers; the TTL ends those.
//!
//! # What lies where
//!
//! All is `u32` words, and all positions are counted from the plan's first word, so a plan lies anywhere: in either half
//! of its section in the routing segment, or in a mapped file.
//!
//! ```text
//!  0            ┌────────────────────────────────────────────────────────────────────────────┐
//!               │ header: magic │ format │ words │ flags │ counts ×6 │ starts ×8 │ zero ×14  │ 32
//!  routers_at   ├────────────────────────────────────────────────────────────────────────────┤
//!               │ router: flags                                                              │ 1 × routers
//!  ports_at     ├────────────────────────────────────────────────────────────────────────────┤
//!               │ port: router │ flags │ network or peer │ slot │ mtu │ weight │ v4 │ v6 ×4  │ 11 × ports
//!  classes_at   ├────────────────────────────────────────────────────────────────────────────┤
//!               │ class: kind │ (16 bits on) parent │ what │ first static │ statics │ via ×4 │ 8 × classes
//!  networks_at  ├────────────────────────────────────────────────────────────────────────────┤
//!               │ network: first attached │ attached that carry                              │ 2 × networks
//!  attached_at  ├────────────────────────────────────────────────────────────────────────────┤
//!               │ port; network by network, those that carry first                           │ 1 × attached
//!  statics_at   ├────────────────────────────────────────────────────────────────────────────┤
//!               │ static route: router │ step │ port │ address ×4; class by class, by router │ 7 × statics
//!  matrix_at    ├────────────────────────────────────────────────────────────────────────────┤
//!               │ cell: distance │ next; a row of all routers for each destination router    │ 2 × routers²
//!  sets_at      ├────────────────────────────────────────────────────────────────────────────┤
//!               │ set: members │ (out │ into) × members; 16 at most; each set stands once    │ to the end
//!  words        └────────────────────────────────────────────────────────────────────────────┘
//!
//!  next:  0 nowhere │ port + 1, on a link │ 1 << 31 | position of a set, from sets_at
//! ```
//!
//! 50 routers and 90 links take 40 KB, 1,000 and 3,000 take 9 MB; 4,096 routers, the most, some 140 MB.
//!
//! **Readers** take a plan as it is: they bound every index and every loop, so words that are damaged, or replaced while
//! they are read, give some answer and never a panic or a walk without end. Whether the answer counts is for the
//! version number to say that stands beside the plan.

mod choices;
mod compile;
pub mod description;
mod graph;
pub mod layout;
mod reader;
mod sets;
mod tree;
mod words;

pub use choices::{Choices, Next};
pub use compile::{Compiled, PortChange, compile, form};
pub use description::{
    Attached, ClassId, ClassKind, ClassSpec, Description, DescriptionError, Hash4, PortId, PortSpec, RouterId,
    RouterSpec, Step,
};
pub use reader::{Plan, Port, Router};
