//! A database: what it holds, who may do what, and how to share it.

use std::fmt;

use eid_core::{EntryId, Height, KeyMode, Permission, PublicKey, Slot, TreeId};
use eid_db::{
    Change, Cursor, Database as Db, Event, LogEntry, RequestPolicy, Since, StoreSummary, WriteNotice,
    WriteWatch,
};
use eid_sync::limits::TICKET_OTHERS_MAX;
use eid_sync::{DatabaseTicket, OtherServer, PeerStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::Access;
use crate::doc::DocStore;
use crate::error::{Error, ErrorKind};
use crate::instance::Instance;
use crate::offload::offload;
use crate::receipt::Receipt;
use crate::status::DatabaseStatus;
use crate::table::Table;
use crate::text::TextHandle;
use crate::transaction::Transaction;

/// A database on this device. A cheap handle.
#[derive(Clone)]
pub struct Database {
    node: Instance,
    inner: Db,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Database {
    pub(crate) fn new(node: Instance, inner: Db) -> Self {
        Self { node, inner }
    }

    pub(crate) fn inner(&self) -> &Db {
        &self.inner
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TreeId {
        self.inner.id()
    }

    /// The instance it belongs to.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.node
    }

    /// Its name on this device: what it was given here, else its title, else its id.
    pub fn name(&self) -> Result<String, Error> {
        Ok(self.inner.name()?)
    }

    /// The title that its members share. Comes from the network: escape it before a terminal sees it.
    pub fn title(&self) -> Result<Option<String>, Error> {
        Ok(self.inner.title()?)
    }

    /// How many entries are held.
    pub fn entries(&self) -> Result<u64, Error> {
        Ok(self.inner.entries()?)
    }

    /// The entries that no other one descends from, sorted.
    pub fn tips(&self) -> Result<Vec<EntryId>, Error> {
        Ok(self.inner.tips()?)
    }

    /// The longest path from the root.
    pub fn height(&self) -> Result<Height, Error> {
        Ok(self.inner.height()?)
    }

    /// Bytes of the entries held.
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.inner.bytes()?)
    }

    /// Equal on two replicas exactly when what can be seen of the database is. Nothing when payloads are missing.
    /// Reads everything.
    pub fn state_hash(&self) -> Result<Option<[u8; 32]>, Error> {
        Ok(self.inner.state_hash()?)
    }

    /// Its stores, by name and kind. Counts their rows.
    pub fn stores(&self) -> Result<Vec<StoreSummary>, Error> {
        Ok(self.inner.stores()?)
    }

    /// The last `limit` entries, newest first in the order of arrival; only those that write `store`, if one is named.
    pub fn log(&self, limit: usize, store: Option<&str>) -> Result<Vec<LogEntry>, Error> {
        let mut found = Vec::new();
        let mut before = None;
        while found.len() < limit {
            let page = self.inner.log_before(before, limit)?;
            let Some(last) = page.last() else { break };
            before = Some(last.seq);
            let writes = |entry: &LogEntry| store.is_none_or(|name| entry.stores.iter().any(|s| s == name));
            found.extend(page.into_iter().filter(writes));
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The kind of the store of this name, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] when it is there in several kinds.
    pub fn kind_of(&self, store: &str) -> Result<Option<String>, Error> {
        Ok(self.inner.kind_of(store)?)
    }

    // ---- stores

    /// A document. Reads and writes nothing yet.
    #[must_use]
    pub fn doc(&self, name: &str) -> DocStore {
        DocStore { inner: self.inner.doc(name) }
    }

    /// A table whose rows are of a type that serde knows as a struct or map. Reads and writes nothing yet.
    #[must_use]
    pub fn table<T: Serialize + DeserializeOwned>(&self, name: &str) -> Table<T> {
        Table::new(&self.inner, name)
    }

    /// A text. Reads and writes nothing yet.
    #[must_use]
    pub fn text(&self, name: &str) -> TextHandle {
        TextHandle { inner: self.inner.text(name) }
    }

    /// Runs `work` inline and commits what it wrote as one entry: all of it, or, when it fails, nothing. Closures run
    /// one after another for each database, each seeing the last. Returns when the entry is on disk.
    ///
    /// Once it was polled to the point where `work` has run, dropping the future does not take the entry back.
    pub async fn write<R>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        Ok(self.commit(work).await?.0)
    }

    /// As [`Self::write`], and tells which entry came of it: none when nothing was written.
    pub async fn commit<R>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, Error>,
    ) -> Result<(R, Option<EntryId>), Error> {
        let run = |tx: &eid_db::Transaction| work(&Transaction { inner: tx }).map_err(eid_db::DbError::abort);
        let (result, pending) = self.inner.write_async(run).await?;
        let committed = offload(move || pending.commit()).await??;
        Ok((result, committed.map(|committed| committed.id)))
    }

    /// What changes from here on.
    pub fn changes(&self) -> Result<Changes, Error> {
        self.changes_since(Since::Now)
    }

    /// What changed from a place on: a cursor of an earlier stream goes on where that one ended.
    pub fn changes_since(&self, since: Since) -> Result<Changes, Error> {
        Ok(Changes { inner: self.inner.changes(since)? })
    }

    /// What an entry changed.
    pub fn change_of(&self, entry: EntryId) -> Result<Change, Error> {
        Ok(self.inner.change_of(entry)?)
    }

    /// Calls `call` after each batch of entries that this device wrote, once they are on disk (relaxed ones: once they can
    /// be read), until the result is dropped. It runs on a thread of its own, so it may take its time and may write; batches
    /// that come meanwhile are told of in the next notices.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn on_local_write(&self, call: impl Fn(&WriteNotice) + Send + 'static) -> Result<WriteWatch, Error> {
        Ok(self.inner.on_local_write(call)?)
    }

    /// As [`Self::on_local_write`], after each batch of entries that came from elsewhere, and after other entries came to
    /// count. Void entries are told of as others are: [`Self::change_of`] says of each whether it counts.
    ///
    /// # Errors
    /// As [`Self::on_local_write`].
    pub fn on_remote_write(&self, call: impl Fn(&WriteNotice) + Send + 'static) -> Result<WriteWatch, Error> {
        Ok(self.inner.on_remote_write(call)?)
    }

    // ---- authority

    /// The key that what is written now through this handle is signed with: of a user's keys the strongest one here,
    /// otherwise the key of the device.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] when no key of the user has any right, [`ErrorKind::LoggedOut`].
    pub fn author_key(&self) -> Result<PublicKey, Error> {
        Ok(self.inner.author_key()?)
    }

    /// The strongest right of any of these keys.
    pub fn permission(&self, keys: &[PublicKey]) -> Result<Option<Permission>, Error> {
        Ok(self.inner.permission(keys)?)
    }

    /// Gives a key, or everyone, a right.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] when this device is no admin who could.
    pub async fn grant(&self, slot: Slot, permission: Permission) -> Result<EntryId, Error> {
        let db = self.inner.clone();
        Ok(offload(move || db.grant(slot, permission)).await??.id)
    }

    /// Takes the right of a key, or of everyone, away. See [`Self::void_entries`] for what has no effect any more.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] when this device is no admin who could; the message says why.
    pub async fn revoke(&self, slot: Slot, mode: KeyMode) -> Result<EntryId, Error> {
        let db = self.inner.clone();
        Ok(offload(move || db.revoke(slot, mode)).await??.id)
    }

    /// Changes the title that its members share.
    pub async fn set_title(&self, title: &str) -> Result<EntryId, Error> {
        let (db, title) = (self.inner.clone(), title.to_owned());
        Ok(offload(move || db.set_title(&title)).await??.id)
    }

    /// Makes a ticket: whoever joins with it is given what `access` says. Without a limit of uses, through this instance or
    /// any other that serves the database and is reachable then; with one, by this instance.
    ///
    /// # Errors
    /// [`ErrorKind::NotListening`] when nothing listens and no other address is named; [`ErrorKind::Forbidden`] when
    /// this device is no admin of the database.
    pub async fn share(&self, access: Access) -> Result<DatabaseTicket, Error> {
        let Access { permission, uses, expires_in, addresses } = access;
        let addresses = if addresses.is_empty() { self.node.addresses() } else { addresses };
        if addresses.is_empty() {
            let message = "nothing listens, so nobody could join with a ticket: call `listen` first";
            return Err(Error::new(ErrorKind::NotListening, message));
        }
        let mut ticket = DatabaseTicket {
            db: self.id(),
            key: self.node.device(),
            addresses,
            others: Vec::new(),
            invite: None,
        };
        let Some(permission) = permission else { return Ok(ticket) };
        let db = self.inner.clone();
        let invite = offload(move || {
            let instance = db.instance();
            let wait_ms = expires_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            let expires_ms = wait_ms.map(|wait_ms| instance.env().clock.now_ms().saturating_add(wait_ms));
            match uses {
                // Who counts has to be there.
                Some(_) => db.create_invite(permission, uses, expires_ms),
                None => db.open_invite(permission, expires_ms),
            }
        });
        ticket.invite = Some(invite.await??);
        if uses.is_none() {
            let here = self.clone();
            ticket.others = offload(move || here.other_servers()).await??;
        }
        Ok(ticket)
    }

    /// Other devices that may read the database and were reached somewhere, the last success first.
    fn other_servers(&self) -> Result<Vec<OtherServer>, Error> {
        let mut peers = self.node.peers()?;
        peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_success_ms));
        let mut others = Vec::new();
        for peer in peers.into_iter().filter(|peer| peer.status == PeerStatus::Active) {
            let (Some(key), Some(address)) = (peer.key, peer.addresses.into_iter().next()) else { continue };
            if self.permission(&[key])? >= Some(Permission::Read) {
                others.push(OtherServer { key, address });
            }
        }
        others.truncate(TICKET_OTHERS_MAX);
        Ok(others)
    }

    /// Who may ask for access to it on this device.
    pub fn request_policy(&self) -> Result<RequestPolicy, Error> {
        Ok(self.inner.instance().request_policy(&self.id())?)
    }

    /// Changes who may ask for access to it on this device. Who asks is not told of that.
    pub async fn set_request_policy(&self, policy: RequestPolicy) -> Result<(), Error> {
        let db = self.inner.clone();
        Ok(offload(move || db.instance().set_request_policy(&db.id(), policy)).await??)
    }

    /// What became of an entry at other devices.
    #[must_use]
    pub fn receipt(&self, entry: EntryId) -> Receipt {
        Receipt::new(self.clone(), entry)
    }

    /// What is known of the database and of its peers.
    pub fn status(&self) -> Result<DatabaseStatus, Error> {
        DatabaseStatus::of(self)
    }
}

/// A stream of changes that reads the log: it loses nothing, however slow its reader is.
#[derive(Debug)]
pub struct Changes {
    pub(crate) inner: eid_db::Changes,
}

impl Changes {
    /// What came next; waits for it.
    pub async fn next(&mut self) -> Result<Event, Error> {
        Ok(self.inner.next().await?)
    }

    /// What came next, if it is there already.
    pub fn next_ready(&mut self) -> Result<Option<Event>, Error> {
        Ok(self.inner.next_ready()?)
    }

    /// The place after what was given last: a stream that begins there goes on without loss or repetition.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.inner.cursor()
    }
}
