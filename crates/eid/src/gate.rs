//! What the engine asks about users and rights, answered from the databases.

use eid_core::{Permission, PublicKey, TreeId};
use eid_db::{Instance, RedeemError};
use eid_sync::{RefusalCode, TreeSummary};

/// Answers for one instance.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) db: Instance,
}

impl eid_sync::Access for Gate {
    fn permission(&self, tree: &TreeId, keys: &[PublicKey]) -> Option<Permission> {
        let database = self.db.database_by_id(*tree);
        match database.permission(keys) {
            Ok(permission) => permission,
            // A database that is not here is for nobody; what cannot be read neither.
            Err(eid_db::DbError::NotHere) => None,
            Err(error) => {
                tracing::error!(%tree, %error, "the rights in a database cannot be read");
                None
            }
        }
    }

    fn trees(&self) -> Vec<TreeId> {
        match self.db.store().trees() {
            Ok(trees) => trees,
            Err(error) => {
                tracing::error!(%error, "the databases cannot be listed");
                Vec::new()
            }
        }
    }

    fn is_live(&self, tree: &TreeId) -> bool {
        match self.db.combined_preferences(tree) {
            Ok(wished) => wished.is_none_or(|sync| sync.sync_enabled && sync.sync_on_commit),
            Err(error) => {
                tracing::error!(%tree, %error, "how a database is to be synchronised cannot be read");
                false
            }
        }
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
}
