//! Drivers: what moves datagrams between one kind of guest and the base. One file for each kind.
//!
//! ```text
//!   port      a NIC as its driver sees it: receive, send
//!   driver    the trait that base workers run
//!   ring      kind `process`: a NIC in its own process; waiting, polling by file descriptor, forks
//!   loopback  sends back what it gets; serves the tests
//!   stack     the TCP/IP stack (smoltcp), of built-in hosts and of processes
//!   host      kind `host`: a stack and its programs on a base worker
//!   service   what hosts offer on TCP and UDP ports
//!   ping      echo requests and what comes of them, a program on a stack
//!   traffic   sources and sinks that measure, programs on a stack
//!   worker    the base worker: serves many NICs, visits those with work
//!   polled    the descriptors that a worker polls
//!   virtio_net  what TAP devices and virtio guests say of each frame
//!   lease     who died: takes its NICs down and puts right what it left
//!   capture   writes what is forwarded as pcapng, for any number of files and readers
//! ```
//!
//! TAP (`tap`) and vhost-user (`qemu`) join here as files of their own, each a [`Driver`].
#![deny(unsafe_code)]

pub mod capture;
pub mod clock;
pub mod driver;
pub mod host;
pub mod lease;
pub mod loopback;
pub mod ping;
mod polled;
pub mod port;
pub mod ring;
pub mod service;
pub mod stack;
pub mod tap;
pub mod traffic;
pub mod virtio_net;
pub mod worker;

pub use driver::{Driver, Next};
pub use port::Port;
pub use vnet_base as base;
