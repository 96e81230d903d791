//! What became of one datagram.

/// What became of one datagram. Every one that does not arrive is counted under its verdict.
///
/// The numbers and names are part of the ABI and of the Python API: new ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// It lies in the receiver's input buffer.
    Delivered = 0,
    /// The destination is in no network that the sender, or a router on the way, can reach.
    NoRoute = 1,
    /// The destination is inside a network of the sender, but no NIC has the address.
    NoHost = 2,
    /// The receiver's input buffer had no room.
    BufferFull = 3,
    /// The address belongs to a NIC that nobody holds.
    NicDown = 4,
    /// Over 65,535 bytes, over the network's MTU, or over that of a way on which it may not be fragmented.
    TooBig = 5,
    /// No readable IP version and destination; or nothing that a router forwards: a wrong checksum, lengths that lie.
    Malformed = 6,
    /// Its TTL or hop limit ran out at a router.
    TtlExceeded = 7,
    /// A filter, or a route that prohibits, did not let it pass.
    Filtered = 8,
}

/// Room for verdicts in the counters; those not given out yet stay zero.
pub const VERDICTS: usize = 16;

impl Verdict {
    /// Every verdict, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::Delivered,
        Self::NoRoute,
        Self::NoHost,
        Self::BufferFull,
        Self::NicDown,
        Self::TooBig,
        Self::Malformed,
        Self::TtlExceeded,
        Self::Filtered,
    ];

    /// The name by which users know it, as in `no_route`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NoRoute => "no_route",
            Self::NoHost => "no_host",
            Self::BufferFull => "buffer_full",
            Self::NicDown => "nic_down",
            Self::TooBig => "too_big",
            Self::Malformed => "malformed",
            Self::TtlExceeded => "ttl_exceeded",
            Self::Filtered => "filtered",
        }
    }
}
