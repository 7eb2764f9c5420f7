//! What a ticket gives to whoever joins with it.

use std::time::Duration;

use eid_core::Permission;
use eid_transport::Address;

/// What a ticket gives, to how many devices, for how long.
///
/// Without a limit of uses the invite is in the settings of the database: whoever holds the ticket can join through any
/// device that serves the database. With one, the device that made it counts, and has to be reachable.
///
/// ```
/// use std::time::Duration;
/// use eid::Access;
///
/// let for_a_friend = Access::write().uses(1).expires_in(Duration::from_secs(3600));
/// assert_ne!(for_a_friend, Access::read());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Nothing when whoever joins has to ask.
    pub(crate) permission: Option<Permission>,
    pub(crate) uses: Option<u32>,
    pub(crate) expires_in: Option<Duration>,
    pub(crate) addresses: Vec<Address>,
}

impl Access {
    /// To read. Any number of devices, for ever, unless limited.
    #[must_use]
    pub fn read() -> Self {
        Self::of(Permission::Read)
    }

    /// To read and write data. Any number of devices, for ever, unless limited.
    #[must_use]
    pub fn write() -> Self {
        Self::of(Permission::Write)
    }

    /// Nothing: whoever joins with it asks, and an admin approves or rejects ([`crate::Instance::requests`]). Every member
    /// can make such a ticket.
    #[must_use]
    pub fn ask() -> Self {
        Self { permission: None, uses: None, expires_in: None, addresses: Vec::new() }
    }

    fn of(permission: Permission) -> Self {
        let permission = Some(permission);
        Self { permission, uses: None, expires_in: None, addresses: Vec::new() }
    }

    /// At most this many devices.
    #[must_use]
    pub fn uses(self, uses: u32) -> Self {
        Self { uses: Some(uses), ..self }
    }

    /// Only so long from now on, by the clock of the device that shares.
    #[must_use]
    pub fn expires_in(self, duration: Duration) -> Self {
        Self { expires_in: Some(duration), ..self }
    }

    /// Names an address under which others reach this instance, such as that of a proxy before it. Without one, the
    /// ticket names what it listens on.
    #[must_use]
    pub fn reachable_at(mut self, address: Address) -> Self {
        self.addresses.push(address);
        self
    }
}
