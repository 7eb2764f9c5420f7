//! Who may do what in a database: who gave it, taking it away, and what does not count because of it.

use std::sync::Arc;

use eid_core::dag::Seq;
use eid_core::{EntryId, KeyMode, Permission, PublicKey, SecretKey, SettingsOp, Slot};
use eid_db::{EntryStanding, InviteInfo, KeyInfo, SettingsChange, VoidEntry};

use crate::database::Database;
use crate::error::{Error, ErrorKind};
use crate::instance::Instance;
use crate::offload::offload;
use crate::users::User;

/// What became of a key in one database when its right was taken away everywhere.
#[derive(Debug)]
pub struct Revoked {
    /// The database.
    pub database: Database,
    /// The entry that takes the right away; nothing where the key had none of its own. Otherwise why it still has it.
    pub outcome: Result<Option<EntryId>, Error>,
}

impl Instance {
    /// As [`User::revoke_everywhere`], signed with the keys of this device.
    ///
    /// # Errors
    /// As there.
    pub async fn revoke_everywhere(
        &self,
        key: PublicKey,
        recovery: Option<SecretKey>,
    ) -> Result<Vec<Revoked>, Error> {
        self.device_user().revoke_everywhere(key, recovery).await
    }
}

impl User {
    /// Takes the right of a key away in every database of this instance in which it has one of its own, such as after its
    /// device was lost: with the recovery key where that is one of its admins, with this user's elsewhere. What a database
    /// does not let happen is in what comes back, and does not hinder the others.
    ///
    /// # Errors
    /// When the databases cannot be listed.
    pub async fn revoke_everywhere(
        &self,
        key: PublicKey,
        recovery: Option<SecretKey>,
    ) -> Result<Vec<Revoked>, Error> {
        let mut revoked = Vec::new();
        for database in self.instance().databases()? {
            let database = self.acting_in(&database);
            let outcome = database.revoke_lost(key, recovery.as_ref()).await;
            revoked.push(Revoked { database, outcome });
        }
        Ok(revoked)
    }
}

impl Database {
    /// Every key, and everyone, that was ever given a right or lost one, with the entry that says so.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, Error> {
        Ok(self.inner().keys()?)
    }

    /// Every open invite, which [`Self::share`] makes when no number of uses is named, and those that were withdrawn.
    pub fn invites(&self) -> Result<Vec<InviteInfo>, Error> {
        Ok(self.inner().invites()?)
    }

    /// Withdraws an open invite: nobody joins by its tickets any more. Joins that this device has not seen are void, or those
    /// outside of the fence; with [`KeyMode::Leave`] they count. Who joined before stays.
    ///
    /// ```
    /// # async fn example() -> Result<(), eid::Error> {
    /// use eid::{Access, ErrorKind, KeyMode};
    ///
    /// # let here = eid::Instance::builder().memory().open().await?;
    /// # let there = eid::Instance::builder().memory().open().await?;
    /// # let db = here.create_database("notes").await?;
    /// # here.listen(eid::Http::on("127.0.0.1:0")).await?;
    /// let ticket = db.share(Access::write()).await?;
    /// let invite = db.invites()?[0].key;
    /// assert_eq!(ticket.invite.as_ref().map(|secret| secret.public()), Some(invite));
    ///
    /// db.withdraw_invite(invite, KeyMode::Remove { fence: None }).await?;
    /// let refused = there.join(&ticket).await.unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Refused);
    /// # there.close().await?;
    /// # here.close().await
    /// # }
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there never was such an invite; [`crate::ErrorKind::Forbidden`] when this device
    /// is no admin who could.
    pub async fn withdraw_invite(&self, invite: PublicKey, mode: KeyMode) -> Result<EntryId, Error> {
        if !self.invites()?.iter().any(|known| known.key == invite) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no invite {invite}")));
        }
        let db = self.inner().clone();
        Ok(offload(move || db.withdraw_invite(invite, mode)).await??.id)
    }

    /// As [`Self::grant`], signed once with the recovery key, which is wiped then.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Forbidden`] when it is the key of another database.
    pub async fn grant_with(
        &self,
        recovery: SecretKey,
        slot: Slot,
        permission: Permission,
    ) -> Result<EntryId, Error> {
        self.sign_with(recovery, SettingsOp::Set { slot, permission }).await
    }

    /// As [`Self::revoke`], signed once with the recovery key, which is wiped then.
    ///
    /// ```
    /// # async fn example() -> Result<(), eid::Error> {
    /// use eid::{ErrorKind, KeyMode, Permission, Slot};
    ///
    /// let laptop = eid::Instance::builder().memory().open().await?;
    /// let phone = eid::Instance::builder().memory().open().await?;
    /// let (db, recovery) = laptop.create_database_with_recovery("notes").await?;
    ///
    /// // The laptop is lost. Whoever has a copy of the database and the recovery key takes its right away, with all
    /// // that it wrote since without this copy having seen it, and gives it to another device.
    /// let lost = Slot::Key(laptop.device());
    /// db.grant_with(recovery.clone(), Slot::Key(phone.device()), Permission::Admin(1)).await?;
    /// db.revoke_with(recovery, lost, KeyMode::Remove { fence: None }).await?;
    ///
    /// let refused = db.doc("main").set("title", "by the finder").await.unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Forbidden);
    /// assert!(refused.to_string().contains("was revoked by"));
    /// # laptop.close().await?;
    /// # phone.close().await
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Forbidden`] when it is the key of another database.
    pub async fn revoke_with(
        &self,
        recovery: SecretKey,
        slot: Slot,
        mut mode: KeyMode,
    ) -> Result<EntryId, Error> {
        if let KeyMode::Remove { fence: Some(ids) } = &mut mode {
            ids.sort_unstable();
            ids.dedup();
        }
        self.sign_with(recovery, SettingsOp::Revoke { slot, mode }).await
    }

    async fn revoke_lost(
        &self,
        key: PublicKey,
        recovery: Option<&SecretKey>,
    ) -> Result<Option<EntryId>, Error> {
        let slot = Slot::Key(key);
        if !self.keys()?.iter().any(|info| info.slot == slot && info.permission.is_some()) {
            return Ok(None);
        }
        let mode = KeyMode::Remove { fence: None };
        let is_admin = |recovery: &SecretKey| -> Result<bool, Error> {
            Ok(self.permission(&[recovery.public()])?.is_some_and(|right| right.level().is_some()))
        };
        let entry = match recovery {
            Some(recovery) if is_admin(recovery)? => self.revoke_with(recovery.clone(), slot, mode).await,
            _ => self.revoke(slot, mode).await,
        };
        entry.map(Some)
    }

    async fn sign_with(&self, key: SecretKey, op: SettingsOp) -> Result<EntryId, Error> {
        let db = self.inner().clone();
        Ok(offload(move || db.write_settings_as(&Arc::new(key), &[op])).await??.id)
    }

    /// Gives the right of the key that signs here to another key and retires it, in one entry.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Forbidden`] when the key is no admin by its own slot.
    pub async fn rotate(&self, to: PublicKey) -> Result<EntryId, Error> {
        let db = self.inner().clone();
        Ok(offload(move || db.rotate(to)).await??.id)
    }

    /// As [`Self::rotate`], to a key that is made for it on this device and signs here from then on. The key by which
    /// peers know this device may still read.
    ///
    /// # Errors
    /// As [`Self::rotate`], and [`crate::ErrorKind::TooLarge`] when there are too many keys.
    pub async fn renew_key(&self) -> Result<(EntryId, PublicKey), Error> {
        let db = self.inner().clone();
        let (committed, key) = offload(move || db.renew_key()).await??;
        Ok((committed.id, key))
    }

    /// Who changed which right, in the order of arrival here: at most `limit` entries beginning with the first at or
    /// after the place `from`. The next page begins one after the place of the last.
    pub fn audit(&self, from: u64, limit: usize) -> Result<Vec<SettingsChange>, Error> {
        Ok(self.inner().audit(Seq(from), limit)?)
    }

    /// The entries that are held and have no effect, with the reason of each, paged as [`Self::audit`].
    pub fn void_entries(&self, from: u64, limit: usize) -> Result<Vec<VoidEntry>, Error> {
        Ok(self.inner().void_entries(Seq(from), limit)?)
    }

    /// How many of the entries held have no effect.
    pub fn void_count(&self) -> Result<u64, Error> {
        Ok(self.inner().void_count()?)
    }

    /// Whether an entry counts, and why if it does not.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when it is not held.
    pub fn standing(&self, entry: &EntryId) -> Result<EntryStanding, Error> {
        Ok(self.inner().standing(entry)?)
    }

    /// Lets void entries count again. It does not help against a removal by a stronger key: ask [`Self::standing`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when one is not held, [`crate::ErrorKind::InvalidValue`] when one counts already
    /// or changes settings, [`crate::ErrorKind::Forbidden`] when whoever writes here is no admin.
    pub async fn accept(&self, entries: &[EntryId]) -> Result<Vec<EntryId>, Error> {
        let (db, entries) = (self.inner().clone(), entries.to_vec());
        let committed = offload(move || db.accept(&entries)).await??;
        Ok(committed.into_iter().map(|committed| committed.id).collect())
    }
}
