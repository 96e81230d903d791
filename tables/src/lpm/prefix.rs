//! Prefixes as people write them, and routes.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bits::Bits;

/// An address prefix of either family; no bit behind its length is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// Address and length, 0 to 32.
    V4(u32, u8),
    /// Address and length, 0 to 128.
    V6(u128, u8),
}

/// Why something is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before the slash.
    #[error("it does not start with an IP address")]
    Address,
    /// The part behind the slash.
    #[error("its length is no number from 0 to {0}")]
    Length(u8),
    /// An address with bits behind the length, which `ip route` refuses too.
    #[error("bits are set behind its length; the prefix is {0}")]
    HostBits(Prefix),
}

impl Prefix {
    /// A prefix from its parts.
    ///
    /// # Errors
    ///
    /// [`PrefixError::Length`], [`PrefixError::HostBits`].
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let (given, cut, most) = match address {
            IpAddr::V4(address) => {
                let bits = address.to_bits();
                (Self::V4(bits, length), Self::V4(bits.masked(u32::from(length)), length), 32)
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                (Self::V6(bits, length), Self::V6(bits.masked(u32::from(length)), length), 128)
            }
        };
        if length > most {
            return Err(PrefixError::Length(most));
        }
        if given != cut {
            return Err(PrefixError::HostBits(cut));
        }
        Ok(given)
    }

    /// Whether all addresses of the other prefix are in this one.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(address, length), Self::V4(other, longer)) => {
                length <= longer && other.masked(u32::from(length)) == address
            }
            (Self::V6(address, length), Self::V6(other, longer)) => {
                length <= longer && other.masked(u32::from(length)) == address
            }
            _ => false,
        }
    }

    /// The first address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(address, _) => Ipv4Addr::from_bits(address).into(),
            Self::V6(address, _) => Ipv6Addr::from_bits(address).into(),
        }
    }

    /// How many bits are given.
    #[must_use]
    pub fn length(self) -> u8 {
        match self {
            Self::V4(_, length) | Self::V6(_, length) => length,
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `10.0.0.0/8`, `2001:db8::/32`; an address alone is the prefix of that address, as for `ip route`.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            // Not what a sign or a leading zero makes of it.
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_| PrefixError::Length(most))?
            }
            Some(_) => return Err(PrefixError::Length(most)),
        };
        Self::new(address, length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address(), self.length())
    }
}

/// A prefix and the class of the addresses in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The addresses.
    pub prefix: Prefix,
    /// Their class, 1 to 65,535.
    pub class: u16,
}
