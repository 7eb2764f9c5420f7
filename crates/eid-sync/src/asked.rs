//! What this device has asked others for and nobody has decided yet: remembered in rows that are never synchronised, and
//! asked again until somebody does.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Weak};

use eid_core::{Permission, PublicKey, SecretKey, TreeId};
use eid_store::{EntryStore, Local};
use serde::{Deserialize, Serialize};

use crate::engine::{Inner, SyncEngine, chain};
use crate::error::SyncError;
use crate::keep::jittered;
use crate::limits::{ASK_FIRST_MS, ASK_MAX_MS, ASKED_MAX};
use crate::request::{Answer, RequestId};
use crate::signal::first_of;
use crate::ticket::DatabaseTicket;

/// A request of this device that nobody has decided.
#[derive(Debug, Clone)]
pub struct AskedAccess {
    /// Where it was asked; without an invite.
    pub ticket: DatabaseTicket,
    /// The key that is to get the right.
    pub key: PublicKey,
    /// The right.
    pub permission: Permission,
    /// What the other side calls the request.
    pub request: RequestId,
    /// The name that the database is to have on this device, if one was chosen.
    pub name: Option<String>,
    /// What was said with it.
    pub metadata: BTreeMap<String, String>,
    /// When it was asked first, in milliseconds since 1970.
    pub since_ms: u64,
}

/// How a request was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This was granted.
    Granted(Permission),
    /// Nothing was.
    Rejected,
}

/// The rows of what was asked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AskedBook {
    rows: Local,
}

/// How it lies in its row.
#[derive(Serialize, Deserialize)]
struct Row {
    version: u32,
    ticket: String,
    permission: String,
    request: String,
    name: Option<String>,
    metadata: BTreeMap<String, String>,
    since_ms: u64,
}

const ROW_VERSION: u32 = 1;

impl AskedBook {
    fn in_store(store: &EntryStore) -> Self {
        Self { rows: store.local().namespace("asked") }
    }

    /// Everything that was asked and is not decided. A row that does not read is left out.
    pub fn list(&self) -> Result<Vec<AskedAccess>, SyncError> {
        Ok(self.rows.scan(&[])?.iter().filter_map(|(key, row)| decode(key, row)).collect())
    }

    /// What was asked for a key in a database.
    pub fn of(&self, tree: &TreeId, key: &PublicKey) -> Result<Option<AskedAccess>, SyncError> {
        let row_key = row_key(tree, key);
        Ok(self.rows.get(&row_key)?.and_then(|row| decode(&row_key, &row)))
    }

    /// Remembers what was asked, in place of what was asked before for the same key and database. The invite of its
    /// ticket is left out.
    ///
    /// # Errors
    /// [`SyncError::TooManyAsked`].
    pub fn put(&self, asked: &AskedAccess) -> Result<(), SyncError> {
        let key = row_key(&asked.ticket.db, &asked.key);
        if self.rows.get(&key)?.is_none() && self.rows.scan(&[])?.len() >= ASKED_MAX {
            return Err(SyncError::TooManyAsked);
        }
        let row = Row {
            version: ROW_VERSION,
            ticket: DatabaseTicket { invite: None, ..asked.ticket.clone() }.to_string(),
            permission: asked.permission.to_string(),
            request: asked.request.to_string(),
            name: asked.name.clone(),
            metadata: asked.metadata.clone(),
            since_ms: asked.since_ms,
        };
        let value = serde_json::to_vec(&row).map_err(SyncError::Row)?;
        Ok(self.rows.put(&key, value)?)
    }

    /// Forgets what was asked for a key in a database.
    pub fn remove(&self, tree: &TreeId, key: &PublicKey) -> Result<(), SyncError> {
        Ok(self.rows.delete(&row_key(tree, key))?)
    }
}

fn row_key(tree: &TreeId, key: &PublicKey) -> Vec<u8> {
    [tree.0, key.0].concat()
}

fn decode(key: &[u8], row: &[u8]) -> Option<AskedAccess> {
    let row: Row = serde_json::from_slice(row).ok().filter(|row: &Row| row.version == ROW_VERSION)?;
    Some(AskedAccess {
        ticket: row.ticket.parse().ok()?,
        key: PublicKey(key.get(32..)?.try_into().ok()?),
        permission: row.permission.parse().ok()?,
        request: row.request.parse().ok()?,
        name: row.name,
        metadata: row.metadata,
        since_ms: row.since_ms,
    })
}

impl SyncEngine {
    /// The book of what this device has asked others for.
    #[must_use]
    pub fn asked(&self) -> AskedBook {
        AskedBook::in_store(&self.inner.store)
    }

    /// Meets the server of a ticket and asks again for what was asked there.
    pub async fn ask_again(
        &self,
        asked: &AskedAccess,
        own_name: &str,
        keys: &[Arc<SecretKey>],
    ) -> Result<Answer, SyncError> {
        let AskedAccess { ticket, permission, metadata, .. } = asked;
        let peer = self.connect_to_any(&ticket.addresses, Some(ticket.key), keys).await?;
        let answer = self.request_database_access(&peer, ticket.db, *permission, own_name, metadata).await;
        peer.close().await;
        answer
    }

    /// Asks again, later each time, until somebody has decided; nothing when the engine was stopped or is gone before: this
    /// does not keep it alive.
    pub fn wait_for_access(
        &self,
        asked: &AskedAccess,
        own_name: &str,
        keys: &[Arc<SecretKey>],
    ) -> impl Future<Output = Option<Decision>> + Send + 'static + use<> {
        let (engine, stopped) = (Arc::downgrade(&self.inner), self.inner.stopped.seen());
        let runtime = Arc::clone(&self.inner.runtime);
        let (asked, own_name, keys) = (asked.clone(), own_name.to_owned(), keys.to_vec());
        async move {
            let mut wait_ms = ASK_FIRST_MS;
            loop {
                runtime.sleep(jittered(&*runtime, wait_ms)).await;
                wait_ms = (wait_ms * 2).min(ASK_MAX_MS);
                let engine = alive(&engine, stopped)?;
                let asking = async { Some(engine.ask_again(&asked, &own_name, &keys).await) };
                let ends = async {
                    engine.inner.stopped.after(stopped).await;
                    None
                };
                match first_of(vec![Box::pin(asking), Box::pin(ends)]).await? {
                    Ok(Answer::Granted(permission)) => return Some(Decision::Granted(permission)),
                    Ok(Answer::Rejected(_)) => return Some(Decision::Rejected),
                    Ok(Answer::Pending(_)) => {}
                    Err(error) => {
                        tracing::debug!(tree = %asked.ticket.db, error = chain(&error), "a server was not asked again");
                    }
                }
            }
        }
    }

    /// Tells whoever listens to events what happened above the engine.
    pub fn tell_others(&self, event: &crate::events::SyncEvent) {
        self.inner.publisher.publish(event);
    }
}

/// The engine, while it is there and was not stopped since.
fn alive(engine: &Weak<Inner>, stopped: u64) -> Option<SyncEngine> {
    let inner = engine.upgrade()?;
    (inner.stopped.seen() == stopped).then_some(SyncEngine { inner })
}
