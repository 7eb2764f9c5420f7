//! What the engine asks about users and rights, answered from the databases.

use eid_core::{Permission, PublicKey, TreeId};
use eid_db::{Instance, RedeemError};
use eid_sync::{RefusalCode, TreeSummary};
use eid_transport::Address;

use crate::peers::Peers;

/// Answers for one instance.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) db: Instance,
    pub(crate) peers: Peers,
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

    fn reached(&self, peer: &PublicKey) -> Vec<Address> {
        match self.peers.of(peer) {
            Ok(known) => known.addresses,
            Err(error) => {
                tracing::error!(%peer, %error, "where a peer was reached cannot be read");
                Vec::new()
            }
        }
    }

    fn describe(&self, tree: &TreeId) -> TreeSummary {
        let database = self.db.database_by_id(*tree);
        let title = database.title().ok().flatten().unwrap_or_default();
        TreeSummary { tree: *tree, title, entries: database.entries().unwrap_or(0) }
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
        // The right is granted, whether or not it is remembered to whom.
        if let Err(error) = self.peers.joined(*joiner, name, self.db.env().clock.now_ms()) {
            tracing::warn!(%tree, %error, "who joined could not be remembered");
        }
        Ok(granted)
    }
}
