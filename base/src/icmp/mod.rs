//! What a router does to datagrams, and says about them: pure functions on their bytes, IPv4 and IPv6.
//!
//! In the order in which a router comes to them:
//!
//! ```text
//!   receive    the header's sanity, martians, options: go on, drop in silence, or a parameter problem
//!   tlv        options of IPv6
//!   options    what a router writes into the options of IPv4 as it receives and forwards, and echoes in its answers
//!   local      a datagram for the router itself: echo and timestamp replies, what else is unreachable
//!   rst        TCP segments for the router itself are reset
//!   hop        TTL and hop limit less some hops
//!   fragment   a datagram in pieces that fit the next MTU
//!   rules      may_answer(): what no ICMP error may be about
//!   error      ICMP errors, as long and with the header fields that Linux gives them
//!   limits     how many of them, to whom
//!   answer     the IP headers of what a router says
//!   wire       fields of headers, read and written within their bounds; checksums
//! ```
//!
//! The model is Linux 6.18 as it comes, with forwarding on and redirects off; `tests/rust/icmp` holds every answer against
//! that of the kernel it runs on, byte for byte. Any bytes may come: nothing here panics on them.

mod answer;
pub mod error;
pub mod fragment;
pub mod hop;
pub mod limits;
pub mod local;
pub mod options;
pub mod receive;
mod rst;
pub mod rules;
mod tlv;
pub(crate) mod wire;

pub use error::{Trouble, error};
pub use fragment::fragment;
pub use hop::hop;
pub use limits::Limits;
pub use local::{Local, Reach, local};
pub use options::pass_options;
pub use receive::{Received, Refusal, receive};
pub use rules::may_answer;

use vnet_tables::Address;

/// In whose name an answer is built, and what of it changes from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The router's address that answers, as Linux chooses it. IPv4: that of the interface which leads back to the sender;
    /// IPv6: that of the interface where the datagram came in, link-local for a link-local sender. RFC 1812 section 4.3.2.4
    /// and RFC 4443 section 2.2 allow either. A router that was asked itself answers from the address that was asked,
    /// which [`local()`] sees to, and which is to be given here for its errors.
    pub from: Address,
    /// IPv4: the identification of the answer.
    pub ident: u16,
    /// Milliseconds since midnight, universal time (RFC 791 section 3.1): for timestamps.
    pub today: u32,
    /// The MTU of the way back, in bytes of IP: an IPv4 error is never larger.
    pub mtu: usize,
}
