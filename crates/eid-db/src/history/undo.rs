//! Taking a change back by another entry, so that everybody takes it back: what others have written since stays.

mod doc;
pub(crate) mod marks;
mod table;

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, EntryId, Payload, StoreName};
use eid_store::TreeSnapshot;

use self::marks::Mark;
use super::leaves::{payload, rows};
use super::positions;
use crate::database::Database;
use crate::error::DbError;
use crate::kind::sequence::OpId;
use crate::kind::sequence::undo::undo_edits;
use crate::kind::{doc as doc_kind, table as table_kind, text};
use crate::limits::AUTHORS_PAGE;
use crate::path::Path;
use crate::registry::is_reserved;
use crate::rows::Base;
use crate::stamp::Stamp;
use crate::transaction::Transaction;

/// What came of taking a change back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The entry that was taken back.
    pub entry: EntryId,
    /// The entry that takes it back; none when there was nothing left to take back. Undoing that one does the change
    /// again.
    pub by: Option<EntryId>,
    /// How many values, items and parts of texts were given back what they were before, or taken away.
    pub restored: u64,
    /// What was left as it is: because somebody has written it since, because it cannot be taken back, or because what
    /// was there before is of an entry that does not count.
    pub kept: Vec<Kept>,
}

/// Something that the entry had changed and that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The store.
    pub store: String,
    /// The path in a document, or the key of a row as a path of one key. Of an item, that of its list.
    pub path: Path,
    /// The field of a row.
    pub field: Option<String>,
    /// The entry that wrote it since, or the one that wrote what was there before if that entry does not count. Not
    /// known of an item that was deleted since; none for what nobody can take back, which is what is said about stores
    /// in the registry.
    pub by: Option<EntryId>,
}

/// What one store is given back.
#[derive(Debug, Default)]
struct Plan {
    ops: Vec<bytes::Bytes>,
    restored: u64,
    kept: Vec<Kept>,
}

/// The entry that is taken back, and the versions right before and right after it.
struct Undoing<'a> {
    db: &'a Database,
    store: &'a StoreName,
    seq: Seq,
    entry: &'a Entry,
    versions: &'a [TreeSnapshot; 2],
}

impl Database {
    /// Takes back the last change that this device made to any store; nothing if it made none. Doing so twice does the
    /// change again.
    ///
    /// Reads the log backwards to that change.
    pub fn undo_last(&self) -> Result<Option<Undone>, DbError> {
        match self.last_own()? {
            Some(entry) => self.undo(entry).map(Some),
            None => Ok(None),
        }
    }

    /// Takes back what one entry changed, as one entry. What anybody has written since stays, and is reported.
    ///
    /// A value that is still as the entry left it becomes what it was for the entry's author before, if that counts;
    /// rows that it inserted are deleted, and those that it deleted are inserted. Increments are counted back, whatever others have
    /// added. What it put into texts and lists is taken out, and what it alone took out is put in anew where it was; an
    /// item that it moved or replaced last goes back. A list that it set as a whole is such a value.
    ///
    /// An entry that was taken back and then done again by undoing that is taken back under either name.
    ///
    /// # Errors
    /// [`DbError::AlreadyUndone`] when it was taken back, here or elsewhere, and nothing is written: only two who do so
    /// without having met both count. [`DbError::VoidEntry`] when it does not count, so that there is nothing to take
    /// back. [`DbError::UnknownEntry`]; [`DbError::NoPayload`] when what it wrote is not here;
    /// [`DbError::TooLarge`] when what it replaced does not fit into one entry.
    pub fn undo(&self, entry: EntryId) -> Result<Undone, DbError> {
        let (result, pending) = self.prepare_write(|tx| self.stage_undo(tx, entry))?;
        let committed = pending.commit()?;
        Ok(Undone { by: committed.map(|committed| committed.id), ..result })
    }

    fn stage_undo(&self, tx: &Transaction, entry: EntryId) -> Result<Undone, DbError> {
        let snapshot = tx.pin()?;
        let mut result = Undone { entry, by: None, restored: 0, kept: Vec::new() };
        let (mut seq, mut id) = (positions(&snapshot, &[entry])?[0], entry);
        loop {
            match marks::read(tx, id)? {
                Mark::TakenBack(by) => return Err(DbError::AlreadyUndone { id: entry, by }),
                // Whoever does something again comes after it.
                Mark::DoneAgain(by, again) if by > seq => (seq, id) = (by, again),
                Mark::DoneAgain(..) | Mark::Nothing => break,
            }
        }
        if snapshot.stand(&[seq])? == [false] {
            return Err(DbError::VoidEntry { id });
        }
        let undone = snapshot.entry_at(seq)?.ok_or(DbError::UnknownEntry { id })?;
        let parents = &undone.header().parents;
        if undone.header().is_settings() || parents.is_empty() {
            return Ok(result);
        }
        let versions = [self.version(parents)?, self.version(&[id])?];
        let mut marked = Plan::default();
        let mut is_empty = true;
        for (index, section) in undone.header().sections.iter().enumerate() {
            let store = &section.store;
            let undoing = Undoing { db: self, store, seq, entry: &undone, versions: &versions };
            let payload = payload(self, &undone, index).ok_or(DbError::NoPayload { id })?;
            if store.as_str() == marks::STORE && payload.kind == doc_kind::KIND {
                marked = undoing.doc(tx, &payload)?;
                continue;
            }
            if is_reserved(store.as_str()) {
                result.kept.push(undoing.kept(tx, &[], None, None)?);
                continue;
            }
            let (kind, plan) = match payload.kind.as_str() {
                doc_kind::KIND => (doc_kind::KIND, undoing.doc(tx, &payload)?),
                table_kind::KIND => (table_kind::KIND, undoing.table(tx, &payload)?),
                text::KIND => (text::KIND, undoing.text(tx, &payload)?),
                _ => return Err(DbError::NoPayload { id }),
            };
            is_empty &= plan.ops.is_empty();
            plan.ops.into_iter().try_for_each(|op| tx.stage(store.as_str(), kind, op))?;
            result.restored += plan.restored;
            result.kept.extend(plan.kept);
        }
        if !is_empty {
            let store = marks::store()?;
            marked.ops.into_iter().try_for_each(|op| tx.stage_in(store.clone(), doc_kind::KIND, op))?;
            marks::stage(tx, id)?;
        }
        Ok(result)
    }

    fn last_own(&self) -> Result<Option<EntryId>, DbError> {
        let snapshot = self.snapshot()?;
        let own: Vec<_> = self.own_keys()?.iter().map(|key| key.public()).collect();
        let mut end = snapshot.end().0;
        while end > 0 {
            let start = end.saturating_sub(AUTHORS_PAGE as u64);
            for node in snapshot.nodes(Seq(start), AUTHORS_PAGE)?.into_iter().rev() {
                if node.seq.0 >= end || !own.contains(&node.author) {
                    continue;
                }
                let entry = snapshot.entry_at(node.seq)?.ok_or(DbError::Corrupt { what: "the log" })?;
                if !entry.header().is_settings() && !entry.header().sections.is_empty() {
                    return Ok(Some(entry.id()));
                }
            }
            end = start;
        }
        Ok(None)
    }
}

impl Undoing<'_> {
    /// The rows of the store before and after the entry.
    fn rows(&self, kind: &'static str) -> Result<[Base; 2], DbError> {
        let of = |version| rows(self.db, version, self.store, kind);
        Ok([of(&self.versions[0])?, of(&self.versions[1])?])
    }

    fn kept(
        &self,
        tx: &Transaction,
        path: &[String],
        field: Option<&str>,
        by: Option<Stamp>,
    ) -> Result<Kept, DbError> {
        let by = match stored(by) {
            Some(seq) => Some(tx.pin()?.id_at(seq)?),
            None => None,
        };
        let (store, path) = (self.store.as_str().to_owned(), Path::from(path.to_vec()));
        Ok(Kept { store, path, field: field.map(str::to_owned), by })
    }

    /// Whether what an entry wrote before counts today.
    fn counts(&self, tx: &Transaction, by: Option<Stamp>) -> Result<bool, DbError> {
        match stored(by) {
            Some(seq) => Ok(tx.pin()?.stand(&[seq])? == [true]),
            None => Ok(true),
        }
    }

    /// Takes out what the entry put into a text and puts back what it alone took out, where that was.
    fn text(&self, tx: &Transaction, payload: &Payload) -> Result<Plan, DbError> {
        let decoded = (0u32..)
            .zip(&payload.ops)
            .filter_map(|(op, bytes)| Some((OpId { seq: self.seq, op }, text::decode(bytes).ok()?)));
        let edits: Vec<_> = decoded.collect();
        let read = |rows: &dyn crate::rows::Rows| undo_edits(rows, text::PREFIX, &edits);
        let (back, restored) = tx.read(self.store.as_str(), text::KIND, read)?;
        let ops = back.iter().map(text::encode).collect();
        Ok(Plan { ops, restored, kept: Vec::new() })
    }
}

/// The position of a stamp, unless it is of what the transaction itself has staged.
fn stored(by: Option<Stamp>) -> Option<Seq> {
    by.map(|by| by.seq).filter(|seq| *seq != crate::stamp::STAGED)
}

/// Increments that add up to an amount.
fn chunks(mut amount: i128) -> impl Iterator<Item = i64> {
    std::iter::from_fn(move || {
        let by = i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX });
        amount -= i128::from(by);
        (by != 0).then_some(by)
    })
}

/// Whether nobody has written between two looks at a stamp.
fn same(own: Option<Stamp>, held: Option<Stamp>) -> bool {
    own.map(|by| (by.seq, by.op)) == held.map(|by| (by.seq, by.op))
}
