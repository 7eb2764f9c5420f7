//! What the engine asks about users and rights, answered from the databases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use eid_core::{Permission, PublicKey, SecretKey, TreeId};
use eid_db::{AccessRequest, AskAnswer, Asking, DbError, Instance, PreferencesChanges, RedeemError};
use eid_sync::{
    Answer, Ask, BootstrapRequest, Noted, RefusalCode, RequestError, RequestId, RequestStatus, TreeSummary,
    Wish,
};

/// Answers for one instance.
#[derive(Debug)]
pub(crate) struct Gate {
    db: Instance,
    wishes: Mutex<Wishes>,
}

/// How databases are to be synchronised, as far as it was asked and has not changed since: it is asked with every frame.
#[derive(Debug)]
struct Wishes {
    changes: PreferencesChanges,
    known: BTreeMap<TreeId, Wanted>,
}

/// What is wanted of a database.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// That it is kept in step.
    Kept(Wish),
    /// Nothing by itself, as nobody tracks it: peers that ask are served.
    Untracked,
    /// That nothing goes out: for peers it is as if it were not here.
    Off,
}

impl Gate {
    pub(crate) fn new(db: Instance) -> Self {
        let wishes = Wishes { changes: db.preferences_changes(), known: BTreeMap::new() };
        Self { db, wishes: Mutex::new(wishes) }
    }

    fn wanted(&self, tree: &TreeId) -> Wanted {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        for changed in wishes.changes.next_ready() {
            wishes.known.remove(&changed);
        }
        *wishes.known.entry(*tree).or_insert_with(|| self.look_up(tree))
    }

    fn look_up(&self, tree: &TreeId) -> Wanted {
        match self.db.combined_preferences(tree) {
            Ok(None) => Wanted::Untracked,
            Ok(Some(wished)) if !wished.sync_enabled => Wanted::Off,
            Ok(Some(wished)) => Wanted::Kept(Wish {
                on_commit: wished.sync_on_commit,
                every_ms: wished.interval_seconds.map(|seconds| seconds.saturating_mul(1_000)),
            }),
            Err(error) => {
                tracing::error!(%tree, %error, "how a database is to be synchronised cannot be read");
                Wanted::Off
            }
        }
    }
}

impl eid_sync::Access for Gate {
    fn permission(&self, tree: &TreeId, keys: &[PublicKey]) -> Option<Permission> {
        let database = self.db.database_by_id(*tree);
        match database.permission_in_session(keys) {
            Ok(permission) => permission,
            // A database that is not here is for nobody; what cannot be read neither.
            Err(DbError::NotHere) => None,
            Err(error) => {
                tracing::error!(%tree, %error, "the rights in a database cannot be read");
                None
            }
        }
    }

    fn changes_by_entries_alone(&self) -> bool {
        true
    }

    fn trees(&self) -> Vec<TreeId> {
        match self.db.store().trees() {
            Ok(mut trees) => {
                trees.retain(|tree| !matches!(self.wanted(tree), Wanted::Off));
                trees
            }
            Err(error) => {
                tracing::error!(%error, "the databases cannot be listed");
                Vec::new()
            }
        }
    }

    fn wish(&self, tree: &TreeId) -> Option<Wish> {
        match self.wanted(tree) {
            Wanted::Kept(wish) => Some(wish),
            Wanted::Untracked | Wanted::Off => None,
        }
    }

    fn keys_to_prove(&self, tree: Option<&TreeId>) -> Vec<Arc<SecretKey>> {
        self.db.keys_to_prove(tree).unwrap_or_else(|error| {
            tracing::error!(%error, "the keys of those who are logged in cannot be read");
            Vec::new()
        })
    }

    fn describe(&self, tree: &TreeId) -> TreeSummary {
        let database = self.db.database_by_id(*tree);
        let title = database.title().ok().flatten().unwrap_or_default();
        let last = database.log(1).ok().and_then(|mut last| last.pop());
        let changed_ms = last.map_or(0, |last| last.time.ms());
        TreeSummary { tree: *tree, title, entries: database.entries().unwrap_or(0), changed_ms }
    }

    fn redeem(
        &self,
        tree: &TreeId,
        invites: &[PublicKey],
        joiner: &PublicKey,
        name: &str,
    ) -> Result<Permission, RefusalCode> {
        let granted = self.db.redeem(tree, invites, joiner, name).map_err(|error| match error {
            RedeemError::Expired => RefusalCode::InviteExpired,
            RedeemError::UsedUp => RefusalCode::InviteUsed,
            RedeemError::Unknown | RedeemError::Revoked => RefusalCode::Unavailable,
            RedeemError::IssuerAway => {
                tracing::warn!(%tree, "an invite was shown whose maker is logged out");
                RefusalCode::Failed
            }
            RedeemError::Db(error) => {
                tracing::error!(%tree, %error, "an invite could not be redeemed");
                RefusalCode::Failed
            }
        })?;
        Ok(granted)
    }
    fn ask(&self, ask: &Ask, takes_part: bool) -> Result<Noted, RefusalCode> {
        let Ask { tree, key, permission, name, metadata } = ask;
        let asking = Asking { database: *tree, key: *key, permission: *permission, name, metadata };
        let answer = self.db.ask(&asking, takes_part).map_err(|error| {
            tracing::error!(%error, "a request for access could not be remembered");
            RefusalCode::Failed
        })?;
        Ok(match answer {
            AskAnswer::Granted(right) => Noted { answer: Answer::Granted(right), is_new: false },
            AskAnswer::Pending { id, is_new } => Noted { answer: Answer::Pending(RequestId(id)), is_new },
            AskAnswer::Rejected { id } => Noted { answer: Answer::Rejected(RequestId(id)), is_new: false },
        })
    }

    fn requests(&self) -> Result<Vec<BootstrapRequest>, RequestError> {
        let all = self.db.requests().map_err(not_decided)?;
        Ok(all.into_iter().map(told).collect())
    }

    fn approve(&self, id: RequestId, permission: Option<Permission>) -> Result<Permission, RequestError> {
        let request = self.db.request(&id.0).map_err(not_decided)?;
        let database = self.db.database_by_id(request.database);
        match database.approve_request(&id.0, permission).map_err(not_decided)?.status {
            eid_db::RequestStatus::Approved(granted) => Ok(granted),
            other => Err(RequestError::Decided(status(other))),
        }
    }

    fn reject(&self, id: RequestId) -> Result<(), RequestError> {
        let request = self.db.request(&id.0).map_err(not_decided)?;
        let database = self.db.database_by_id(request.database);
        database.reject_request(&id.0).map(drop).map_err(not_decided)
    }
}

fn status(status: eid_db::RequestStatus) -> RequestStatus {
    match status {
        eid_db::RequestStatus::Pending => RequestStatus::Pending,
        eid_db::RequestStatus::Approved(granted) => RequestStatus::Approved(granted),
        eid_db::RequestStatus::Rejected => RequestStatus::Rejected,
    }
}

/// A request as the engine and the facade show it.
pub(crate) fn told(request: AccessRequest) -> BootstrapRequest {
    BootstrapRequest {
        id: RequestId(request.id),
        tree: request.database,
        key: request.key,
        name: request.name,
        permission: request.permission,
        time_ms: request.time_ms,
        status: status(request.status),
        metadata: request.metadata,
    }
}

fn not_decided(error: DbError) -> RequestError {
    match error {
        DbError::NoRequest => RequestError::Unknown,
        DbError::RequestDecided { status: how } => RequestError::Decided(status(how)),
        error @ (DbError::NotPermitted(_) | DbError::NoRight) => RequestError::Forbidden(error.into()),
        error => RequestError::Failed(error.into()),
    }
}
