//! The seam to the kinds of stores: how operations change the rows of a view.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, PublicKey, ReadError, StoreName, Time};

use crate::backend::{Direction, Key};

/// What one entry does to one store.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The store written.
    pub store: &'a StoreName,
    /// The kind that the payload names.
    pub kind: &'a str,
    /// Who signed the entry.
    pub author: PublicKey,
    /// The entry's time.
    pub time: Time,
    /// The entry's height.
    pub height: Height,
    /// The entry's position in the order of arrival.
    pub seq: Seq,
    /// The entry's id.
    pub id: EntryId,
    /// The operations, each as the canonical CBOR of one array.
    pub ops: &'a [Bytes],
}

/// The rows that an apply is going to read: fetched for a whole batch at once.
#[derive(Debug, Default)]
pub struct Wanted {
    pub(crate) keys: Vec<Key>,
    pub(crate) ranges: Vec<(Key, Key)>,
    pub(crate) ids: Vec<EntryId>,
}

impl Wanted {
    /// One row, by its key within the view.
    pub fn key(&mut self, key: &[u8]) {
        self.keys.push(key.to_vec());
    }

    /// All rows of a range of keys within the view, `to` exclusive.
    pub fn scan(&mut self, from: &[u8], to: &[u8]) {
        self.ranges.push((from.to_vec(), to.to_vec()));
    }

    /// The position of an entry, by its id: what [`ViewRows::seq_of`] is going to be asked for.
    pub fn id(&mut self, id: EntryId) {
        self.ids.push(id);
    }
}

/// The first bytes of the keys, within any view, of rows that are this device's own, such as those of an index.
///
/// They need not follow from the log: a check does not compare them, a repair leaves them out, and no old version has
/// any. Whoever reads them takes their absence for "not built".
pub const LOCAL_ROWS: Range<u8> = 0x70..0x80;

/// Whether a row with this key, within its view, is this device's own.
pub(crate) fn is_local(key: &[u8]) -> bool {
    key.first().is_some_and(|first| LOCAL_ROWS.contains(first))
}

/// The rows of one store's view while a batch is admitted. Keys are relative to the view. Reads see what the batch
/// wrote before.
pub trait ViewRows {
    /// The value of a row.
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;
    /// The rows of a range, ascending, `to` exclusive.
    fn scan(&mut self, from: &[u8], to: &[u8]) -> Result<Vec<(Key, Bytes)>, ReadError>;
    /// At most so many rows of a range, from one of its ends on, `to` exclusive.
    fn scan_some(
        &mut self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        max_rows: usize,
    ) -> Result<Vec<(Key, Bytes)>, ReadError> {
        let mut rows = self.scan(from, to)?;
        if direction == Direction::Backward {
            rows.reverse();
        }
        rows.truncate(max_rows);
        Ok(rows)
    }
    /// Writes a row.
    fn put(&mut self, key: &[u8], value: Bytes);
    /// Removes a row.
    fn delete(&mut self, key: &[u8]);
    /// The id of an entry of this tree: for a tie of time and height, which is rare.
    fn id_of(&mut self, seq: Seq) -> Result<EntryId, ReadError>;
    /// The position of an entry of this tree, if it came before what is applied: in an earlier batch or earlier in
    /// this one.
    fn seq_of(&mut self, id: &EntryId) -> Result<Option<Seq>, ReadError>;
}

/// What came of an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Operations that did not decode and have no effect.
    pub undecodable: u32,
}

/// Knows the kinds of stores: turns operations into rows.
///
/// # Contract
/// Any order of arrival in which parents come first gives the same rows. Rows that [`Apply::reads`] did not name
/// may be read, but each such read goes to the backend by itself.
pub trait Apply: Debug + Send + Sync {
    /// Names the rows that [`Apply::apply`] will read for this change.
    fn reads(&self, change: &Change<'_>, wanted: &mut Wanted);

    /// Changes the rows of the view.
    fn apply(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError>;

    /// Takes in a change that does not count: it has no effect, and leaves only what others may refer to, such as
    /// hidden places in a text. Tells what does not decode as [`Apply::apply`] does.
    fn apply_void(&self, _change: &Change<'_>, _view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        Ok(Applied::default())
    }

    /// Takes what a change did out of the view, or puts it back, in work that is in proportion to what it did: the rows
    /// then mean what they would if the change had come with [`Apply::apply_void`] or [`Apply::apply`]. Says whether
    /// that was done; kinds that cannot leave the rows alone, and are worked out again from the last checkpoint.
    fn set_standing(
        &self,
        _change: &Change<'_>,
        _stands: bool,
        _view: &mut dyn ViewRows,
    ) -> Result<bool, ReadError> {
        Ok(false)
    }

    /// Brings [`LOCAL_ROWS`] in line after other rows of the view were replaced, each given with its key and what it
    /// was before.
    fn replaced(
        &self,
        _store: &StoreName,
        _kind: &str,
        _before: &[(Key, Option<Bytes>)],
        _view: &mut dyn ViewRows,
    ) -> Result<(), ReadError> {
        Ok(())
    }
}
