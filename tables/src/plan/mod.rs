//! The plan: what each router does with a datagram, compiled so that senders read it out of shared memory.
pub mod description;
pub mod layout;
mod reader;

pub use description::{
    Attached, ClassId, ClassKind, ClassSpec, Description, DescriptionError, Hash4, PortId, PortSpec, RouterId,
    RouterSpec, Step,
};
pub use reader::{Choices, Next, Plan, Port, Router};
