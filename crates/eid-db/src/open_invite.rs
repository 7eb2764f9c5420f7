//! Open invites: in the settings, for any number of joiners, by whichever device serves the database.

use eid_auth::OpenInvite;
use eid_core::{KeyMode, Permission, PublicKey, RULES_INVITES, SecretKey, SettingsOp, Slot};
use eid_store::Committed;
use zeroize::Zeroize as _;

use crate::database::Database;
use crate::error::DbError;

impl Database {
    /// Opens an invite and gives its key, for the fragment of a ticket: until it is withdrawn, whoever holds the key may
    /// give himself `permission` or less, once for each key that nobody has set. Those who serve the database are to
    /// honour it until `expires_ms` (milliseconds since 1970), which their clocks decide.
    ///
    /// The first one moves the database to rules 2, which programs that do not know invites cannot follow.
    ///
    /// # Errors
    /// [`DbError::NotPermitted`] when whoever this handle acts for is no admin; [`DbError::InviteOfAdmin`].
    pub fn open_invite(&self, permission: Permission, expires_ms: Option<u64>) -> Result<SecretKey, DbError> {
        if permission.level().is_some() {
            return Err(DbError::InviteOfAdmin);
        }
        let mut seed: [u8; 32] = self.instance().env().random();
        let invite = SecretKey::from_seed(seed);
        seed.zeroize();
        let mut ops = vec![SettingsOp::Invite { key: invite.public(), permission, expires_ms }];
        if self.settings()?.rules() < RULES_INVITES {
            ops.insert(0, SettingsOp::Rules(RULES_INVITES));
        }
        let issuer = self.author_key()?;
        self.write_settings(&ops)?;
        self.instance().remember_opened(&self.id(), &invite.public(), &issuer)?;
        Ok(invite)
    }

    /// The invites that are open, in the order of their keys.
    pub fn open_invites(&self) -> Result<Vec<OpenInvite>, DbError> {
        Ok(self.settings()?.invites().to_vec())
    }

    /// Withdraws an invite: nobody joins by it any more. Joins that this device has not seen are void, or those outside
    /// the fence; with [`KeyMode::Leave`] they count. Who joined before stays.
    ///
    /// # Errors
    /// [`DbError::NotPermitted`] when whoever this handle acts for is no admin.
    pub fn withdraw_invite(&self, invite: PublicKey, mode: KeyMode) -> Result<Committed, DbError> {
        self.revoke(Slot::Invite(invite), mode)
    }

    /// Joins by an invite whose key is held: gives the key of this device, or the first one of the user whom this handle
    /// acts for, a right. What the database holds must be here.
    ///
    /// # Errors
    /// [`DbError::NotPermitted`] when the invite is not open or gives less, or the key was given a right before.
    pub fn join_by(&self, invite: &SecretKey, permission: Permission) -> Result<Committed, DbError> {
        if permission.level().is_some() {
            return Err(DbError::InviteOfAdmin);
        }
        let own = self.own_keys()?.into_iter().next().ok_or(DbError::NoRight)?;
        let join = SettingsOp::join(invite, &self.id(), &own.public(), permission);
        self.write_settings_as(&own, &[join])
    }
}
