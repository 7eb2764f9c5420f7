//! One tree as it was at one moment.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::dag::{Dag, Epoch, Logged, Replica, Seq};
use eid_core::{
    Entry, EntryId, Height, PublicKey, ReadError, SettingsNode, SettingsPast, StoreName, Time, TreeId,
};

use crate::backend::{BackendError, Direction, Key};
use crate::error::StoreError;

/// A consistent view of one tree.
#[derive(Debug, Clone)]
pub struct TreeSnapshot {}

/// What is known of an entry without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its position.
    pub seq: Seq,
    /// The positions of its parents, in the order of the header.
    pub parents: Vec<Seq>,
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: Time,
    /// Who signed it.
    pub author: PublicKey,
    /// The number of the settings frontier that its children descend from.
    pub settings: u32,
}

/// A store of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its name.
    pub name: StoreName,
    /// Its kind.
    pub kind: String,
    /// How many entries write it.
    pub entries: u64,
    /// How many operations in it have no effect because they do not decode.
    pub undecodable: u64,
}

/// The rows of one store of one kind.
#[derive(Debug, Clone)]
pub struct View {}

fn closed<T>() -> Result<T, StoreError> {
    Err(BackendError::Closed.into())
}

impl TreeSnapshot {
    /// The tree.
    #[must_use]
    pub fn tree(&self) -> TreeId {
        TreeId([0; 32])
    }

    /// How many entries are held.
    #[must_use]
    pub fn count(&self) -> u64 {
        0
    }

    /// Bytes of all blocks and payloads held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        0
    }

    /// The greatest time of any entry.
    #[must_use]
    pub fn time(&self) -> Time {
        Time(0)
    }

    /// The greatest height of any tip.
    #[must_use]
    pub fn height(&self) -> Height {
        Height(0)
    }

    /// An entry, if it is held.
    pub fn entry(&self, _id: &EntryId) -> Result<Option<Entry>, StoreError> {
        closed()
    }

    /// The entry at a position.
    pub fn entry_at(&self, _seq: Seq) -> Result<Option<Entry>, StoreError> {
        closed()
    }

    /// The id of the entry at a position.
    pub fn id_at(&self, _seq: Seq) -> Result<EntryId, StoreError> {
        closed()
    }

    /// Up to `count` entries beginning at `from`, ascending.
    pub fn nodes(&self, _from: Seq, _count: usize) -> Result<Vec<Node>, StoreError> {
        closed()
    }

    /// The settings entries that no other one descends from. Sorted.
    pub fn settings_frontier(&self) -> Result<Vec<EntryId>, StoreError> {
        closed()
    }

    /// The stores that entries write, by name and kind.
    pub fn stores(&self) -> Result<Vec<StoreInfo>, StoreError> {
        closed()
    }

    /// The rows of one store. One that nobody wrote has none.
    #[must_use]
    pub fn view(&self, _store: &StoreName, _kind: &str) -> View {
        View {}
    }
}

impl View {
    /// The value of a row.
    pub fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        closed()
    }

    /// The values of rows, in the order of the keys.
    pub fn get_many(&self, _keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        closed()
    }

    /// The rows of a range, `to` exclusive (`None`: to the end of the view), with keys relative to the view.
    pub fn scan(
        &self,
        _from: &[u8],
        _to: Option<&[u8]>,
        _direction: Direction,
        _max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        closed()
    }
}

impl Dag for TreeSnapshot {
    fn parents(&self, _from: Seq, _count: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        Ok(closed()?)
    }
}

impl Replica for TreeSnapshot {
    fn epoch(&self) -> Epoch {
        Epoch(0)
    }

    fn end(&self) -> Seq {
        Seq(0)
    }

    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(closed()?)
    }

    fn find(&self, _ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(closed()?)
    }

    fn find_prefixes(&self, _prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(closed()?)
    }

    fn log(&self, _range: Range<Seq>, _bytes_max: usize) -> Result<Vec<Logged>, ReadError> {
        Ok(closed()?)
    }
}

impl SettingsPast for TreeSnapshot {
    fn settings(&self, _id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
        Ok(closed()?)
    }
}
