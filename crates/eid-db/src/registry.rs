//! What is said about stores: their kinds, indexes and encryption. A store needs none of it to be there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eid_core::StoreName;
use eid_store::{StoreInfo, TreeSnapshot};

use crate::database::{Database, StoreSummary};
use crate::error::DbError;
use crate::kind::registry::{self, RegistryOp};
use crate::kind::{self, table};
use crate::rows::Stored;
use crate::transaction::{Transaction, store_name};

/// The registry of a database: which stores there are, in which kinds, and how they are set up. A cheap handle.
///
/// Every payload names its kind, so a store is there once somebody writes it. Registering one only lists it, and keeps
/// it from being opened as another kind. Two devices that have not met may make one name in two kinds: both are kept,
/// and opening by name alone says so, equally on every replica.
#[derive(Debug, Clone)]
pub struct Registry {
    db: Database,
}

/// A store in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreListing {
    /// Its name.
    pub name: String,
    /// What it is in each of its kinds, sorted; usually one.
    pub kinds: Vec<StoreSummary>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The fields with declared indexes, sorted.
    pub indexes: Vec<String>,
}

/// What is known of the stores of one name.
#[derive(Debug, Default)]
struct Said {
    kinds: BTreeMap<String, StoreInfo>,
    encrypted: bool,
    indexes: BTreeSet<String>,
}

/// What the registry holds at one moment.
pub(crate) fn stored(snapshot: &TreeSnapshot) -> Stored {
    Stored::new(snapshot.clone(), &registry::store(), registry::KIND)
}

/// The kinds of a store, sorted: those that are written and those that are registered.
pub(crate) fn kinds_in(snapshot: &TreeSnapshot, store: &str) -> Result<Vec<String>, DbError> {
    let mut kinds: BTreeSet<String> = BTreeSet::new();
    for info in snapshot.stores()? {
        if info.name.as_str() == store && !info.kind.is_empty() {
            kinds.insert(info.kind);
        }
    }
    kinds.extend(registered_in(snapshot, store)?);
    Ok(kinds.into_iter().collect())
}

/// The kinds that a store is registered in, sorted.
pub(crate) fn registered_in(snapshot: &TreeSnapshot, store: &str) -> Result<Vec<String>, DbError> {
    let mut kinds = Vec::new();
    registry::each_registered(&stored(snapshot), Some(store), &mut |_, kind| kinds.push(kind.to_owned()))?;
    Ok(kinds)
}

/// Calls `found` with every encryption config: store and config.
pub(crate) fn each_encryption(
    snapshot: &TreeSnapshot,
    store: Option<&str>,
    found: &mut dyn FnMut(&str, Bytes),
) -> Result<(), DbError> {
    registry::each_encryption(&stored(snapshot), store, found)
}

/// Adds to the registry within a transaction.
pub(crate) fn stage(tx: &Transaction, op: &RegistryOp) -> Result<(), DbError> {
    tx.stage_in(registry::store(), registry::KIND, registry::encode_checked(op)?)
}

impl Database {
    /// What is said about its stores.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry { db: self.clone() }
    }
}

impl Registry {
    /// Every store that is written or registered, by name. Counts their rows.
    pub fn list(&self) -> Result<Vec<StoreListing>, DbError> {
        let snapshot = self.db.snapshot()?;
        let mut stores: BTreeMap<String, Said> = BTreeMap::new();
        for info in snapshot.stores()?.into_iter().filter(|info| !is_reserved(info.name.as_str())) {
            let store = stores.entry(info.name.as_str().to_owned()).or_default();
            store.kinds.insert(info.kind.clone(), info);
        }
        let rows = stored(&snapshot);
        registry::each_registered(&rows, None, &mut |name, kind| {
            if let Ok(found) = StoreName::new(name)
                && !is_reserved(name)
            {
                let kinds = &mut stores.entry(name.to_owned()).or_default().kinds;
                let unwritten = StoreInfo { name: found, kind: kind.to_owned(), entries: 0, undecodable: 0 };
                kinds.entry(kind.to_owned()).or_insert(unwritten);
            }
        })?;
        // A store that was opened here is encrypted even where no config of it counts.
        let mut configured: BTreeSet<String> = stores.keys().cloned().collect();
        registry::each_encryption(&rows, None, &mut |name, _| {
            configured.insert(name.to_owned());
        })?;
        for name in configured {
            if let Ok(store) = StoreName::new(&name)
                && self.db.is_encrypted_in(&snapshot, &store)?
            {
                stores.entry(name).or_default().encrypted = true;
            }
        }
        registry::each_index(&rows, None, &mut |name, _, field| {
            // An index alone makes no store.
            if let Some(store) = stores.get_mut(name) {
                store.indexes.insert(field.to_owned());
            }
        })?;
        stores
            .into_iter()
            .map(|(name, Said { kinds, encrypted, indexes })| {
                let mut summaries: BTreeMap<String, StoreSummary> = BTreeMap::new();
                for info in kinds.into_values() {
                    for summary in self.db.summaries(&snapshot, info)? {
                        summaries
                            .entry(summary.kind.clone())
                            .and_modify(|held| {
                                held.rows += summary.rows;
                                held.entries += summary.entries;
                                held.undecodable += summary.undecodable;
                            })
                            .or_insert(summary);
                    }
                }
                Ok(StoreListing {
                    name,
                    kinds: summaries.into_values().collect(),
                    encrypted,
                    indexes: indexes.into_iter().collect(),
                })
            })
            .collect()
    }

    /// Lists a store before anything is written to it, and keeps it from being opened as another kind here and
    /// wherever this is known.
    ///
    /// # Errors
    /// [`DbError::WrongKind`] when it is there as another kind, [`DbError::UnknownKind`].
    pub fn register(&self, store: &str, kind: &str) -> Result<(), DbError> {
        let name = store_name(store)?;
        let kind = kind::known(kind).ok_or_else(|| DbError::UnknownKind { kind: kind.to_owned() })?;
        self.db.write(|tx| {
            self.db.check_registrable(&name, kind)?;
            if kinds_in(&self.db.snapshot()?, store)?.iter().any(|held| held == kind) {
                return Ok(());
            }
            stage(tx, &RegistryOp::Register { store: store.to_owned(), kind: kind.to_owned() })
        })
    }

    /// Wishes for an index on a field of a table, on every replica. Nothing is written when it is declared already.
    ///
    /// # Errors
    /// [`DbError::WrongKind`], [`DbError::PlainIndex`] for an encrypted table, whose indexes are made on each device.
    pub fn declare_index(&self, table: &str, field: &str) -> Result<(), DbError> {
        self.set_index(table, field, true)
    }

    /// Takes that wish back.
    pub fn undeclare_index(&self, table: &str, field: &str) -> Result<(), DbError> {
        self.set_index(table, field, false)
    }

    fn set_index(&self, store: &str, field: &str, on: bool) -> Result<(), DbError> {
        let name = store_name(store)?;
        self.db.write(|tx| {
            self.db.check_registrable(&name, table::KIND)?;
            // The name of a field tells what is in a row.
            if self.db.is_encrypted(&name)? {
                return Err(DbError::PlainIndex { store: store.to_owned() });
            }
            if self.indexes(store)?.iter().any(|held| held == field) == on {
                return Ok(());
            }
            let (store, kind, field) = (store.to_owned(), table::KIND.to_owned(), field.to_owned());
            stage(tx, &RegistryOp::Index { store, kind, field, on })
        })
    }

    /// The fields of a table with declared indexes, sorted.
    pub fn indexes(&self, table: &str) -> Result<Vec<String>, DbError> {
        indexes_in(&self.db.snapshot()?, table)
    }
}

/// The fields of a table with declared indexes, sorted.
pub(crate) fn indexes_in(snapshot: &TreeSnapshot, store: &str) -> Result<Vec<String>, DbError> {
    let mut fields = Vec::new();
    registry::each_index(&stored(snapshot), Some(store), &mut |_, kind, field| {
        if kind == table::KIND {
            fields.push(field.to_owned());
        }
    })?;
    Ok(fields)
}

/// Every table and field with a declared index.
pub(crate) fn declared_indexes(snapshot: &TreeSnapshot) -> Result<Vec<(String, String)>, DbError> {
    let mut declared = Vec::new();
    registry::each_index(&stored(snapshot), None, &mut |store, kind, field| {
        if kind == table::KIND {
            declared.push((store.to_owned(), field.to_owned()));
        }
    })?;
    Ok(declared)
}

/// Whether applications may not write a store of this name.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('_')
}
