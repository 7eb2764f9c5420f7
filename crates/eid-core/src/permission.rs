//! What a key may do in a database.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::str::FromStr;

/// A right, ordered by strength: `Relay < Read < Write < Admin(9) < Admin(0)`. Only admins have a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// May carry sealed entries, not read them.
    Relay,
    /// May read everything that is not sealed.
    Read,
    /// May write data.
    Write,
    /// May also change settings, up to its own level; a lower number is stronger.
    Admin(u32),
}

impl Permission {
    fn rank(self) -> (u8, Reverse<u32>) {
        match self {
            Self::Relay => (0, Reverse(0)),
            Self::Read => (1, Reverse(0)),
            Self::Write => (2, Reverse(0)),
            Self::Admin(priority) => (3, Reverse(priority)),
        }
    }

    /// The number that stands for it in a settings operation.
    #[must_use]
    pub fn code(self) -> u8 {
        self.rank().0
    }

    /// The level of an admin.
    #[must_use]
    pub fn level(self) -> Option<u32> {
        match self {
            Self::Admin(level) => Some(level),
            Self::Relay | Self::Read | Self::Write => None,
        }
    }
}

impl Ord for Permission {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Permission {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay => f.write_str("relay"),
            Self::Read => f.write_str("read"),
            Self::Write => f.write_str("write"),
            Self::Admin(level) => write!(f, "admin:{level}"),
        }
    }
}

/// Says that a text is not a permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a permission is relay, read, write or admin:LEVEL")]
pub struct ParsePermissionError;

impl FromStr for Permission {
    type Err = ParsePermissionError;

    fn from_str(text: &str) -> Result<Self, ParsePermissionError> {
        match text {
            "relay" => Ok(Self::Relay),
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            _ => {
                let level = text.strip_prefix("admin:").ok_or(ParsePermissionError)?;
                level.parse().map(Self::Admin).map_err(|_| ParsePermissionError)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_orders_permissions() {
        let order = ["relay", "read", "write", "admin:9", "admin:1", "admin:0"]
            .map(|p| p.parse::<Permission>().unwrap());
        assert!(order.is_sorted());
        assert!("admin".parse::<Permission>().is_err());
    }
}
