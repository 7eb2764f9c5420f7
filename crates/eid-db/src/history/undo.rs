//! Taking a change back by another entry, so that everybody takes it back: what others have written since stays.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, EntryId, Payload, StoreName};
use eid_crdt::sequence::Side;
use eid_crdt::{DocOp, RowOp, Value};
use eid_store::TreeSnapshot;

use super::leaves::{affected, leaves, payload, rows};
use super::positions;
use crate::database::Database;
use crate::error::DbError;
use crate::kind::sequence::SequenceReader;
use crate::kind::table::Detail;
use crate::kind::{self, doc, table, text};
use crate::limits::AUTHORS_PAGE;
use crate::path::Path;
use crate::rows::{Base, Rows};
use crate::stamp::Stamp;
use crate::text::differences;
use crate::transaction::Transaction;

/// What came of taking a change back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The entry that was taken back.
    pub entry: EntryId,
    /// The entry that takes it back; none when there was nothing left to take back. Undoing that one does the change
    /// again.
    pub by: Option<EntryId>,
    /// How many values were given back what they were before, or taken away.
    pub restored: u64,
    /// What was left as it is, because somebody has written it since.
    pub kept: Vec<Kept>,
}

/// Something that the entry had changed and that was written again since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The store.
    pub store: String,
    /// The path in a document, or the key of a row as a path of one key.
    pub path: Path,
    /// The field of a row.
    pub field: Option<String>,
    /// The entry that wrote it since.
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
    versions: [TreeSnapshot; 2],
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

    /// Takes back what one entry changed, as one entry: every value that is still as that entry left it becomes what it
    /// was for the entry's author before; increments are counted back; rows that it inserted are deleted, and those
    /// that it deleted are inserted. What anybody has written since stays, and is reported.
    ///
    /// # Errors
    /// [`DbError::UnknownEntry`]; [`DbError::NoPayload`] when what it wrote is not here; [`DbError::TooLarge`] when
    /// what it replaced does not fit into one entry.
    pub fn undo(&self, entry: EntryId) -> Result<Undone, DbError> {
        let snapshot = self.snapshot()?;
        let seq = positions(&snapshot, &[entry])?[0];
        let undone = snapshot.entry_at(seq)?.ok_or(DbError::UnknownEntry { id: entry })?;
        let parents = &undone.header().parents;
        if undone.header().is_settings() || parents.is_empty() {
            return Ok(Undone { entry, by: None, restored: 0, kept: Vec::new() });
        }
        let versions = [self.version(parents)?, self.version(&[entry])?];
        let (result, pending) = self.prepare_write(|tx| {
            let mut result = Undone { entry, by: None, restored: 0, kept: Vec::new() };
            for (index, section) in undone.header().sections.iter().enumerate() {
                let payload = payload(self, &undone, index).ok_or(DbError::NoPayload { id: entry })?;
                let store = &section.store;
                let undoing = Undoing { db: self, store, seq, entry: &undone, versions: versions.clone() };
                let (kind, plan) = match payload.kind.as_str() {
                    doc::KIND => (doc::KIND, undoing.doc(tx, &payload)?),
                    table::KIND => (table::KIND, undoing.table(tx, &payload)?),
                    text::KIND => (text::KIND, undoing.text(tx)?),
                    _ => return Err(DbError::NoPayload { id: entry }),
                };
                plan.ops.into_iter().try_for_each(|op| tx.stage(store.as_str(), kind, op))?;
                result.restored += plan.restored;
                result.kept.extend(plan.kept);
            }
            Ok(result)
        })?;
        let committed = pending.commit()?;
        Ok(Undone { by: committed.map(|committed| committed.id), ..result })
    }

    fn last_own(&self) -> Result<Option<EntryId>, DbError> {
        let snapshot = self.snapshot()?;
        let device = self.instance().device();
        let mut end = snapshot.end().0;
        while end > 0 {
            let start = end.saturating_sub(AUTHORS_PAGE as u64);
            for node in snapshot.nodes(Seq(start), AUTHORS_PAGE)?.into_iter().rev() {
                if node.seq.0 >= end || node.author != device {
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
        let by = match by.map(|by| by.seq).filter(|seq| *seq != crate::stamp::STAGED) {
            Some(seq) => Some(tx.database().snapshot()?.id_at(seq)?),
            None => None,
        };
        let (store, path) = (self.store.as_str().to_owned(), Path::from(path.to_vec()));
        Ok(Kept { store, path, field: field.map(str::to_owned), by })
    }

    fn doc(&self, tx: &Transaction, payload: &Payload) -> Result<Plan, DbError> {
        let [before, after] = self.rows(doc::KIND)?;
        let (before, after) = (before.rows(), after.rows());
        let mut roots: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut counted: BTreeMap<Vec<String>, Vec<(u32, i64)>> = BTreeMap::new();
        for (index, op) in (0u32..).zip(&payload.ops) {
            match doc::decode(op) {
                Ok(DocOp::Increment { path, by }) => counted.entry(path).or_default().push((index, by)),
                Ok(op) => {
                    roots.insert(affected([before, after], doc::path(&op))?.to_vec());
                }
                Err(_) => {}
            }
        }
        let mut plan = Plan::default();
        let mut gone: Vec<Vec<String>> = Vec::new();
        let mut back: Vec<(Vec<String>, Value)> = Vec::new();
        let mut covering: Option<&Vec<String>> = None;
        for root in &roots {
            if covering.is_some_and(|above| root.starts_with(above)) {
                continue;
            }
            covering = Some(root);
            counted.retain(|path, _| !path.starts_with(root));
            let (mut old, own) = (leaves(before, root)?, leaves(after, root)?);
            let mut changed: Vec<(Vec<String>, Option<Value>, Option<Value>)> = Vec::new();
            for (path, value) in own {
                let held = old.remove(&path);
                if held.as_ref() != Some(&value) {
                    changed.push((path, held, Some(value)));
                }
            }
            changed.extend(old.into_iter().map(|(path, value)| (path, Some(value), None)));
            for (path, value, left) in changed {
                let last = |rows: &dyn Rows| {
                    Ok(doc::decided(rows, &path, None)?.pop().and_then(|decided| decided.last))
                };
                let own = last(after)?;
                let last = tx.read(self.store.as_str(), doc::KIND, last)?;
                // That an item was taken out of a list, or moved, shows in the list alone.
                let is_list = matches!(left, Some(Value::List(_)));
                let now = |rows: &dyn Rows| Ok(leaves(rows, &path)?.remove(&path));
                let changed_since = is_list && tx.read(self.store.as_str(), doc::KIND, now)? != left;
                match value {
                    _ if changed_since || !same(own, last) => {
                        plan.kept.push(self.kept(tx, &path, None, last)?);
                    }
                    Some(value) => back.push((path, value)),
                    None => gone.push(path),
                }
            }
        }
        plan.restored += (gone.len() + back.len()) as u64;
        // What is taken away first cannot take with it what is put back.
        for path in gone {
            plan.ops.push(doc::encode_checked(&DocOp::Delete { path })?);
        }
        for (path, value) in back {
            plan.ops.push(doc::encode_checked(&DocOp::Set { path, value })?);
        }
        for (path, amounts) in counted {
            self.count_back(tx, path, &amounts, &mut plan)?;
        }
        Ok(plan)
    }

    /// Counts back those increments of the entry that still count.
    fn count_back(
        &self,
        tx: &Transaction,
        path: Vec<String>,
        amounts: &[(u32, i64)],
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let header = self.entry.header();
        let own = kind::Entry::new(header.time, header.height, self.seq);
        let mut by = 0i64;
        let mut last = None;
        for (op, amount) in amounts {
            let mut stamp = own.stamp(*op);
            let read = |rows: &dyn Rows| Ok(doc::decided(rows, &path, Some(&mut stamp))?.pop());
            let Some(decided) = tx.read(self.store.as_str(), doc::KIND, read)? else { continue };
            last = decided.last;
            if decided.counts_after.is_some_and(|after| Some(stamp) > after) {
                by = by.saturating_sub(*amount);
            }
        }
        if by == 0 {
            plan.kept.push(self.kept(tx, &path, None, last)?);
        } else {
            plan.restored += 1;
            plan.ops.push(doc::encode_checked(&DocOp::Increment { path, by })?);
        }
        Ok(())
    }

    fn table(&self, tx: &Transaction, payload: &Payload) -> Result<Plan, DbError> {
        let mut keys: Vec<String> =
            payload.ops.iter().filter_map(|op| table::decode(op).ok()).map(|op| op.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut plan = Plan::default();
        for key in keys {
            let mut merged: BTreeMap<String, Option<i64>> = BTreeMap::new();
            for op in payload.ops.iter().filter_map(|op| table::decode(op).ok()).filter(|op| op.key == key) {
                match (op.op, op.detail) {
                    (RowOp::Count(field), Detail::By(by)) => {
                        let sum = merged.entry(field).or_insert(Some(0));
                        *sum = sum.map(|sum| sum.saturating_add(by));
                    }
                    (RowOp::Edit(field), _) => drop(merged.insert(field, None)),
                    _ => {}
                }
            }
            self.row(tx, &key, &merged, &mut plan)?;
        }
        Ok(plan)
    }

    /// Takes out what the entry put into a text and puts back what it took out, where that was.
    fn text(&self, tx: &Transaction) -> Result<Plan, DbError> {
        let [before, after] = self.rows(text::KIND)?;
        let (mut old, mut new) = (String::new(), String::new());
        text::pages(before.rows(), &mut |page| old.push_str(page))?;
        text::pages(after.rows(), &mut |page| new.push_str(page))?;
        let after = SequenceReader::<String>::open(after.rows(), text::PREFIX)?;
        let old: Vec<char> = old.chars().collect();
        // What is taken out and put back, by position in the text as it is now.
        let mut parts: Vec<(usize, usize, String)> = Vec::new();
        tx.read(self.store.as_str(), text::KIND, |rows| {
            let now = SequenceReader::<String>::open(rows, text::PREFIX)?;
            let mut at = 0;
            for (count, op) in now.blame(0..now.len())? {
                if op.seq == self.seq {
                    parts.push((at, count, String::new()));
                }
                at += count;
            }
            let mut shift = 0i64;
            for edit in differences(&old.iter().collect::<String>(), &new) {
                let start = usize::try_from(edit.at as i64 - shift).unwrap_or(0);
                shift += edit.inserted.chars().count() as i64 - edit.removed as i64;
                let removed: String = old.iter().skip(start).take(edit.removed).collect();
                if removed.is_empty() {
                    continue;
                }
                // Before what follows the gap; at the end, after what precedes it.
                let behind = edit.at + edit.inserted.chars().count();
                let cursor = after.cursor(behind, Side::Right)?;
                let position = cursor.map_or(Ok(None), |cursor| now.position(&cursor))?;
                parts.push((position.unwrap_or(now.len()), 0, removed));
            }
            Ok(())
        })?;
        // From the end on, so that what is done leaves the positions before it as they are; what is put back where
        // something is taken out goes behind it.
        parts.sort_by_key(|(at, count, _)| std::cmp::Reverse((*at, *count)));
        let handle = tx.text(self.store.as_str());
        let plan = Plan { restored: parts.len() as u64, ..Plan::default() };
        for (at, count, text) in parts {
            handle.replace(at..at + count, &text)?;
        }
        Ok(plan)
    }

    fn row(
        &self,
        tx: &Transaction,
        key: &str,
        merged: &BTreeMap<String, Option<i64>>,
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let [before, after] = self.rows(table::KIND)?;
        let (before, after) = (before.rows(), after.rows());
        let own = table::written(after, key)?.unwrap_or_default();
        let (before, after) = (table::get(before, key)?, table::get(after, key)?);
        let written = tx.read(self.store.as_str(), table::KIND, |rows| table::written(rows, key))?;
        let written = written.unwrap_or_default();
        let path = [key.to_owned()];
        // Who has written a field since, if anybody has.
        let since = |name: &str| {
            let [own, held] = [&own, &written]
                .map(|row| row.fields.iter().find(|(field, ..)| field == name).map(|(_, by, _)| *by));
            (!same(own, held)).then(|| held.or(written.deleted))
        };
        match (before, after) {
            (None, None) => {}
            (None, Some(_)) => {
                let mut changed = written.fields.iter().filter_map(|(name, ..)| since(name));
                let inserted = written.inserted.or(written.deleted);
                match (!same(own.inserted, written.inserted)).then_some(inserted).or_else(|| changed.next()) {
                    Some(by) => plan.kept.push(self.kept(tx, &path, None, by)?),
                    None => {
                        plan.restored += 1;
                        plan.ops.push(table::encode_delete(key));
                    }
                }
            }
            (Some(fields), None) => {
                if written.inserted.is_none() && same(own.deleted, written.deleted) {
                    plan.restored += 1;
                    plan.ops.push(table::encode_insert(key, &fields));
                } else {
                    let by = written.inserted.or(written.deleted);
                    plan.kept.push(self.kept(tx, &path, None, by)?);
                }
            }
            (Some(mut before), Some(after)) => {
                let mut changed: Vec<(String, Option<Value>)> = Vec::new();
                for (name, value) in after {
                    let held = before.remove(&name);
                    if held.as_ref() != Some(&value) {
                        changed.push((name, held));
                    }
                }
                changed.extend(before.into_iter().map(|(name, value)| (name, Some(value))));
                let (mut set, mut unset) = (table::Fields::new(), BTreeSet::new());
                for (name, value) in changed {
                    let gone = written.inserted.is_none().then_some(written.deleted);
                    // What others have added to a counter is no reason to keep what this entry added.
                    let stays = gone.or_else(|| match merged.get(&name) {
                        Some(Some(_)) => Self::hidden_since(&own, &written, &name),
                        _ => since(&name),
                    });
                    let merges = stays.is_none() && value.is_some();
                    match merged.get(&name).filter(|_| merges) {
                        Some(Some(by)) => {
                            plan.restored += 1;
                            plan.ops.push(table::encode_increment(key, &name, by.saturating_neg()));
                            continue;
                        }
                        Some(None) => {
                            let Some(Value::Text(text)) = &value else { continue };
                            plan.restored += 1;
                            let rows = tx.table::<serde_json::Value>(self.store.as_str());
                            rows.text_field(key, &name)?.set(text)?;
                            continue;
                        }
                        None => {}
                    }
                    match (stays, value) {
                        (Some(by), _) => plan.kept.push(self.kept(tx, &path, Some(&name), by)?),
                        (None, Some(value)) => drop(set.insert(name, value)),
                        (None, None) => drop(unset.insert(name)),
                    }
                }
                if !(set.is_empty() && unset.is_empty()) {
                    plan.restored += (set.len() + unset.len()) as u64;
                    plan.ops.push(table::encode_update(key, &set, &unset));
                }
            }
        }
        Ok(())
    }
}

impl Undoing<'_> {
    /// Who has set a counter since, if anybody has: what this entry added counts no more then.
    fn hidden_since(own: &table::Written, now: &table::Written, name: &str) -> Option<Option<Stamp>> {
        let [own, now] =
            [own, now].map(|row| row.sets.iter().find(|(field, _)| field == name).map(|(_, by)| *by));
        (!same(own, now)).then_some(now)
    }
}

/// Whether nobody has written between two looks at a stamp.
fn same(own: Option<Stamp>, held: Option<Stamp>) -> bool {
    own.map(|by| (by.seq, by.op)) == held.map(|by| (by.seq, by.op))
}
